"""The own-context protocol on a stub: observations and rewards name the step they belong to."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import make_config
from metastar import config
from metastar.data.contexts import folded
from metastar.envs.rollout import make_rollout
from metastar.evaluation import history
from metastar.evaluation.protocols import zero_shot
from metastar.types import Adaptation, Context, Env, EnvSpec, Method, Policy, StepIn, StepOut

SPEC = EnvSpec("stub", obs_dim=2, action_dim=1, max_episode_steps=5)
STEPS, EPISODES, LENGTH = 5, 2, 3
POLICY_ACTION = 2.0  # outside [-1, 1]: cannot be mistaken for a random one


def stub_method(privileged=False):
    """The code is the whole window, as the encoder sees it: (obs, action, prev_reward) rows."""

    def infer(params, view, task, key):
        view = jax.tree.map(lambda x: x[0], view)
        return Adaptation(
            jnp.concatenate([view.obs, view.action, view.prev_reward[:, None]], -1).reshape(-1)
        )

    def act(params, adaptation, carry, step, key, greedy):
        return jnp.full(1, POLICY_ACTION), {"calls": carry["calls"] + 1, "code": adaptation.code}

    policy = Policy(lambda params, a: {"calls": jnp.zeros((), int), "code": a.code}, act)
    return Method(None, (), None, infer, policy, Context(LENGTH), privileged=privileged)


def reward_at(episode, t):
    return 10.0 * episode + t + 1


def step_in(episode, t, previous, executed):
    """What the environment would show at step t, `previous` being the (episode, t) before it."""
    led_to = (previous[0], previous[1] + 1) if previous else (0, 0)
    return StepIn(
        obs=jnp.array([episode, t], float),
        prev_action=executed,
        prev_reward=jnp.array(reward_at(*previous) if previous else 0.0),
        prev_next_obs=jnp.array(led_to, float),
        first=jnp.array(t == 0),
        time=jnp.array(episode * STEPS + t),
    )


def run(method, reinfer_every=1):
    """Drives the protocol by hand; returns actions and carries after each of the 10 steps."""
    policy = zero_shot.own_context(method, SPEC, reinfer_every)
    empty = method.infer(
        None, folded(history.empty_window(SPEC, LENGTH), method.context), None, None
    )
    carry = policy.init(None, empty)
    act = jax.jit(policy.act, static_argnums=5)
    actions, carries, executed = [], [], jnp.zeros(1)
    previous = None
    for episode in range(EPISODES):
        for t in range(STEPS):
            step = step_in(episode, t, previous, executed)
            key = jax.random.fold_in(jax.random.key(0), episode * STEPS + t)
            action, carry = act(None, empty, carry, step, key, True)
            actions.append(float(action[0]))
            carries.append(carry)
            executed, previous = action, (episode, t)
    return np.array(actions), carries


def world(on_host):
    """Moves by the action in JAX; on the host it is called with whole batches."""

    def reset(noise, task, physics):
        return noise, noise

    def step(state, action, task, physics):
        state = state + 0.1 * action[..., :1]
        xp = np if on_host else jnp
        return state, StepOut(state, state[..., 0], xp.zeros(state.shape[:-1], bool))

    draw = lambda key: jax.random.uniform(key, (2,))  # noqa: E731
    return Env(SPEC, draw, reset, step, on_host)


@pytest.fixture(params=[False, True], ids=["jax", "host"])
def rollout_of(request):
    """Returns a function that counts how often a rollout of 6 streams really infers."""

    def count(reinfer_every):
        calls = []

        def infer(params, view, task, key):
            jax.debug.callback(lambda _: calls.append(1), view.obs[0, 0, 0])
            return Adaptation(view.obs[0, 0, :1])

        policy = Policy(lambda params, a: (), lambda p, a, c, s, k, g: (jnp.tanh(a.code), c))
        method = Method(None, (), None, infer, policy, Context(LENGTH))
        own = zero_shot.own_context(method, SPEC, reinfer_every)
        run = make_rollout(world(request.param), own, EPISODES)
        given = Adaptation(jnp.zeros((3, 2, 1)))
        jax.block_until_ready(run(None, given, {"x": jnp.zeros(3)}, jax.random.key(0)))
        jax.effects_barrier()
        assert len(calls) % 6 == 0
        return len(calls) // 6

    return count


def test_warm_up_is_random_for_exactly_the_context_length():
    actions, _ = run(stub_method())
    assert (np.abs(actions[:LENGTH]) <= 1).all()
    assert len(set(actions[:LENGTH])) == LENGTH
    assert (actions[LENGTH:] == POLICY_ACTION).all()  # the second episode has no warm-up


def test_window_holds_the_last_own_steps_and_not_the_newest_reward():
    actions, carries = run(stub_method())
    steps = [(e, t) for e in range(EPISODES) for t in range(STEPS)]
    for now, carry in enumerate(carries):
        past = steps[max(0, now - LENGTH) : now]
        assert carry.window.valid.tolist() == [i < len(past) for i in range(LENGTH)]
        if not past:
            continue
        fields = {k: np.array(v)[: len(past)] for k, v in carry.window._asdict().items() if v.ndim}
        np.testing.assert_array_equal(fields["obs"], past)
        np.testing.assert_array_equal(fields["next_obs"], [(e, t + 1) for e, t in past])
        acted = actions[now - len(past) : now]
        np.testing.assert_array_equal(fields["action"][:, 0], np.float32(acted))
        np.testing.assert_array_equal(fields["reward"], [reward_at(*s) for s in past])
        np.testing.assert_array_equal(fields["first"], [t == 0 for _, t in past])
        np.testing.assert_array_equal(np.stack([fields["episode"], fields["step"]], -1), past)
        before = [0.0 if t == 0 else reward_at(e, t - 1) for e, t in past]
        np.testing.assert_array_equal(fields["prev_reward"], before)


def test_the_code_is_inferred_anew_at_each_step_from_the_full_window():
    _, carries = run(stub_method())
    for now in range(LENGTH, EPISODES * STEPS):
        window = carries[now].window
        reward = np.array(window.prev_reward)[:, None]
        rows = np.concatenate([window.obs, window.action, reward], -1)
        np.testing.assert_array_equal(carries[now].inner["code"], rows.reshape(-1))
    assert carries[-1].inner["calls"] == EPISODES * STEPS


def test_a_context_of_several_windows_is_made_of_all_their_steps():
    """Two windows of two steps: random for four, then the older two steps are the first window."""
    seen = stub_method()._replace(
        context=Context(2, num=2),
        infer=lambda params, view, task, key: Adaptation(view.obs.reshape(-1)),
    )
    policy = zero_shot.own_context(seen, SPEC)
    carry = policy.init(None, Adaptation(jnp.zeros(8)))
    actions, executed, previous = [], jnp.zeros(1), None
    for t in range(STEPS):
        step, key = step_in(0, t, previous, executed), jax.random.key(t)
        executed, carry = policy.act(None, None, carry, step, key, True)
        actions.append(float(executed[0]))
        previous = (0, t)
    assert [action == POLICY_ACTION for action in actions] == [False] * 4 + [True]
    assert carry.inner["code"].tolist() == [0, 0, 0, 1, 0, 2, 0, 3]


def test_the_code_is_kept_between_two_inferences():
    _, every = run(stub_method())
    _, carries = run(stub_method(), reinfer_every=3)
    codes = [np.array(carry.inner["code"]) for carry in carries]
    for now in range(LENGTH, EPISODES * STEPS):
        inferred = now - (now - LENGTH) % 3
        np.testing.assert_array_equal(codes[now], codes[inferred])
    own = [np.array(carry.inner["code"]) for carry in every]
    np.testing.assert_array_equal(codes[LENGTH], own[LENGTH])
    assert (codes[LENGTH + 2] != own[LENGTH + 2]).any()


def test_nothing_is_inferred_where_it_is_not_due(rollout_of):
    """The branch stays a branch under vmap over streams and tasks, on both back ends."""
    for every, expected in ((1, 7), (3, 3)):  # times 3 to 9; 3, 6, 9
        assert rollout_of(every) == expected
        assert zero_shot.inferences(EPISODES * STEPS, LENGTH, every) == expected


@pytest.mark.parametrize("on_host", [False, True])
def test_what_is_played_is_what_inferring_at_every_step_plays(monkeypatch, on_host):
    def play():
        act = lambda params, a, carry, *_: (jnp.tanh(a.code[:1]), carry)  # noqa: E731
        method = stub_method()._replace(policy=Policy(lambda params, a: (), act))
        own = zero_shot.own_context(method, SPEC)
        given = Adaptation(jnp.zeros((2, 2, 4 * LENGTH)))
        run = make_rollout(world(on_host), own, EPISODES)
        return run(None, given, {"x": jnp.zeros(2)}, jax.random.key(0))

    due = play()
    monkeypatch.setattr(zero_shot, "is_due", lambda *_: jnp.array(True))
    jax.tree.map(np.testing.assert_array_equal, due, play())


def test_at_time_t_the_newest_previous_reward_is_that_of_two_steps_ago():
    _, carries = run(stub_method())
    window = carries[4].window  # time 4 of episode 0: the last row is step 3, met with reward 2
    assert window.obs[-1].tolist() == [0, 3]
    assert window.prev_reward[-1] == reward_at(0, 2)


def test_a_privileged_method_keeps_what_it_was_given():
    actions, carries = run(stub_method(privileged=True))
    assert (np.array(carries[-1].inner["code"]) == 0).all()
    assert (actions[LENGTH:] == POLICY_ACTION).all()


def test_given_context_is_the_policy_itself():
    method = stub_method()
    protocol = config.make(make_config.base(), "protocol", "few_shot", method, SPEC)
    assert protocol.policy is method.policy and protocol.from_data
