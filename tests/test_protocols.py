"""The own-context protocol on a stub: observations and rewards name the step they belong to."""

import jax
import jax.numpy as jnp
import numpy as np

from metastar import protocols
from metastar.types import Adaptation, EnvSpec, Method, Policy, StepIn

SPEC = EnvSpec("stub", obs_dim=2, action_dim=1, max_episode_steps=5)
STEPS, EPISODES, LENGTH = 5, 2, 3
POLICY_ACTION = 2.0  # outside [-1, 1]: cannot be mistaken for a random one


def stub_method(privileged=False):
    """The code is the whole window, as the encoder sees it: (obs, action, prev_reward) rows."""

    def infer(params, view, task, key):
        return Adaptation(
            jnp.concatenate([view.obs, view.action, view.prev_reward[:, None]], -1).reshape(-1)
        )

    def act(params, adaptation, carry, step, key, greedy):
        return jnp.full(1, POLICY_ACTION), {"calls": carry["calls"] + 1, "code": adaptation.code}

    policy = Policy(lambda params, a: {"calls": jnp.zeros((), int), "code": a.code}, act)
    return Method((), None, (), None, infer, policy, privileged)


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
    )


def run(method):
    """Drives the protocol by hand; returns actions and carries after each of the 10 steps."""
    policy = protocols.own_context(method, LENGTH, SPEC)
    empty = method.infer(None, protocols.empty_window(SPEC, LENGTH), None, None)
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
    assert protocols.given_context(method) is method.policy
