"""Loading for Python users, on random parameters of the smallest configs."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import FrozenConfigDict

import make_config
from metastar import config, load, loading
from metastar.envs.rollout import make_rollout
from metastar.errors import UserError
from metastar.evaluation import likelihood
from metastar.training import checkpoint, chunk, runs, workdir
from metastar.types import (
    Adaptation,
    Context,
    DataSpec,
    Env,
    EnvSpec,
    Method,
    Policy,
    StepOut,
    View,
)
from synthetic import one_window

SPEC = DataSpec("point_robot_sparse", 2, 2, 2, 4, 60, (0.1, -0.2), (0.5, 2.0))


@functools.cache
def parts(name):
    cfg = FrozenConfigDict(make_config.preset(name, "point_robot_sparse", "debug"))
    method = runs.make_method(cfg, SPEC)
    rng = np.random.default_rng(0)
    state = jax.tree.map(
        lambda x: jnp.asarray(0.3 * rng.normal(size=x.shape), x.dtype),
        jax.eval_shape(method.init, jax.random.key(0)),
    )
    return cfg, method, state, loading.make_agent(method, SPEC, method.export(state))


def context(num):
    rng = np.random.default_rng(num)
    return {
        "obs": rng.normal(size=(num, 2)),
        "action": rng.uniform(-1, 1, (num, 2)),
        "reward": rng.uniform(size=num),
    }


def test_three_lines_give_the_method_of_the_checkpoint(tmp_path):
    cfg, method, state, _ = parts("metastar")
    with workdir.opened(cfg, tmp_path) as path:
        workdir.write_spec(path, SPEC)
        loop, digests = chunk.init(method, jax.random.key(0)), workdir.digests(path)
        loop = loop._replace(state=state)
        checkpoint.save(path / "checkpoints", 16, loop, {"wall_seconds": 1.0}, digests)
    given, obs = context(12), np.array([0.3, -0.4])

    agent = load(tmp_path)
    adapted = agent.adapt(given)
    action = adapted.act(obs)

    reward = jnp.asarray(given["reward"], float)
    view = View(
        obs=jnp.asarray(given["obs"], float),
        action=jnp.asarray(given["action"], float),
        reward=reward,
        prev_reward=jnp.append(0.0, reward[:-1]),
        next_obs=jnp.zeros((12, 2)),  # the encoder does not see it
        done=jnp.zeros(12, bool),
        valid=jnp.ones(12, bool),
        first=jnp.arange(12) == 0,
        episode=jnp.zeros(12, int),
        step=jnp.arange(12),
        policy=jnp.zeros((), int),
        stage=jnp.zeros((), int),
    )
    infer = jax.jit(method.infer)
    expected = infer(method.export(state), one_window(view), None, jax.random.key(0))
    np.testing.assert_allclose(adapted.adaptation.code, expected.code, rtol=1e-5)
    assert action.shape == (2,) and (np.abs(action) <= 1).all()
    np.testing.assert_array_equal(action, adapted.act(obs))
    np.testing.assert_allclose(agent.adapt(view).adaptation.code, expected.code, rtol=1e-5)


def test_an_agent_that_infers_by_likelihood_comes_with_its_bank(tmp_path):
    cfg = make_config.preset("metastar", "point_robot_sparse", "debug")
    cfg = config.change(cfg, {"inference.choice": "bank", "task_losses.reconstruction": 1.0})
    cfg = FrozenConfigDict(config.change(cfg, {"inference.nats": 0.0, "inference.fit": 1e6}))
    method = runs.make_method(cfg, SPEC)
    loop = chunk.init(method, jax.random.key(0))
    with workdir.opened(cfg, tmp_path) as path:
        workdir.write_spec(path, SPEC)
        digests = workdir.digests(path)
        checkpoint.save(path / "checkpoints", 16, loop, {"wall_seconds": 1.0}, digests)
    with pytest.raises(UserError, match=r"bank\.json is missing; run `metastar evaluate"):
        load(tmp_path)
    inference = likelihood.make(cfg.inference, method)
    bank = jnp.array([[0.1, 0.2, 0.3], [0.5, -0.5, 0.7]])
    params_sha256 = checkpoint.params_sha256(chunk.params_of(loop.state))
    known = likelihood.Known(method.export(loop.state), bank)
    inference.save(known, tmp_path, params_sha256)

    agent, given = load(tmp_path), context(12)
    with pytest.raises(UserError, match="no 'next_obs'; it needs 'obs', 'action', 'reward' and"):
        agent.adapt(given)
    given["next_obs"] = given["obs"] + 0.1
    adapted = agent.adapt(given)
    view = one_window(loading._view(given, SPEC, 12))
    own = method.infer(known.own, view, None, jax.random.key(0)).code
    code = jnp.concatenate([own[None], bank])
    cost = likelihood.cost(method.task_model, known.own, view, code, 0.0)
    best = 1 + jnp.argmin(cost[1:]) if cost[1:].min() < cost[0] else 0
    np.testing.assert_allclose(adapted.adaptation.code, code[best], rtol=1e-5)
    assert (np.abs(adapted.act([0.3, -0.4])) <= 1).all()


def test_short_contexts_are_padded_and_padding_does_not_matter():
    *_, agent = parts("metastar")
    given = context(5)
    code = agent.adapt(given).adaptation.code
    padded = loading._view(given, SPEC, 12)
    assert padded.valid.tolist() == [True] * 5 + [False] * 7
    other = padded._replace(obs=padded.obs.at[5:].set(9.0))
    repeated = agent.infer(agent.params, one_window(other), None, jax.random.key(0)).code
    np.testing.assert_allclose(repeated, code, rtol=1e-5, atol=1e-6)
    assert agent.infer._cache_size() == 1


def test_previous_rewards_restart_with_an_episode():
    given = {**context(4), "first": np.array([True, False, True, False])}
    view = loading._view(given, SPEC, 6)
    reward = np.float32(given["reward"])
    np.testing.assert_array_equal(view.prev_reward, [0, reward[0], 0, reward[2], 0, 0])


def test_a_privileged_method_is_given_the_task():
    *_, agent = parts("oracle")
    adapted = agent.adapt(context(3), task={"goal": np.array([0.6, 0.8])})
    np.testing.assert_allclose(adapted.adaptation.code, [0.6, 0.8], rtol=1e-6)
    assert adapted.act([0.0, 0.0]).shape == (2,)


def rows(*values):
    """Three observations or actions of such numbers."""
    return np.array([values] * 3)


HOSTILE_CONTEXTS = [
    ({"obs": np.zeros((3, 5))}, "shape"),
    ({"action": np.zeros((2, 2))}, "shape"),
    ({"obs": 1.0}, "shape"),
    ({"reward": 1.0}, "one axis"),
    ({"reward": np.zeros((1, 3))}, "one axis"),
    ({"first": np.zeros(4)}, "shape"),
    ({"prev_reward": np.zeros((3, 1))}, "shape"),
    ({"next_obs": np.zeros(3)}, "shape"),
    ({"reward": np.array([0.0, np.nan, 1.0])}, r"reward'\] holds nan at \[1\].* not finite"),
    ({"obs": rows(0.0, -np.inf)}, r"holds -inf at \[0, 1\].* not finite"),
    ({"next_obs": rows(np.nan, 0.0)}, "next_obs.* not finite"),
    ({"obs": rows(0.0, 1e30)}, "1e.30.* beyond 1.8e.19"),
    ({"obs": rows(3e38, 0.0)}, "beyond 1.8e.19"),
    ({"obs": rows(-1e300, 0.0)}, "-1e.300.* beyond 1.8e.19"),
    ({"reward": np.full(3, 3e38)}, "beyond 1.8e.19"),
    ({"action": rows(0.0, 1.5)}, r"leaves \[-1, 1\] at step 0"),
    ({"obs": "nonsense"}, "no array of numbers"),
    ({"obs": [["1", "2"]] * 3}, "no array of numbers but of type <U1"),
    ({"obs": rows(b"1", b"2")}, "no array of numbers but of type .S1"),
    ({"obs": rows(1.0, None)}, "no array of numbers but of type object"),
    ({"obs": rows(1j, 0)}, "no array of numbers but of type complex128"),
    ({"obs": rows(True, False)}, "no array of numbers but of type bool"),
    ({"obs": {1.0, 2.0}}, "no array of numbers but of type set"),
    ({"obs": jax.random.key(0)}, "no array of numbers"),
    ({"reward": [[0.0], [1.0, 2.0], 3.0]}, "rows of one length"),
    ({"reward": np.ma.masked_equal([0.0, 1.0, 2.0], 1.0)}, "masked entries"),
    ({"done": [0, 2, 0]}, "True and False only"),
    ({"first": ["yes", "no", "no"]}, "True and False only"),
    ({"valid": np.zeros(3, bool)}, "valid.* must be True at its first"),
    ({"valid": [True, False, True]}, "valid.* must be True at its first"),
    ({"obs": None}, "no 'obs'"),
    ({"reward": None}, "no 'reward'"),
    ({"observation": np.zeros((3, 2))}, "unknown key 'observation'"),
    ({"rewards": np.zeros(3)}, "unknown key 'rewards'; did you mean 'reward'"),
    ({1: np.zeros(3)}, "unknown key 1"),
    (context(13), "13 steps"),
    ({"obs": np.zeros((0, 2)), "action": np.zeros((0, 2)), "reward": np.zeros(0)}, "0 steps"),
]


@pytest.mark.parametrize("change, message", HOSTILE_CONTEXTS)
def test_a_wrong_context_is_refused_in_one_sentence(change, message):
    *_, agent = parts("metastar")
    with pytest.raises(UserError, match=message) as error:
        agent.adapt({**context(3), **change})
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("given", [None, 5, b"x", "x", [1, 2], np.zeros((3, 2))])
def test_what_is_no_context_is_refused(given):
    *_, agent = parts("metastar")
    with pytest.raises(UserError, match="give a View or a mapping with arrays 'obs'"):
        agent.adapt(given)


def test_whole_numbers_and_flags_of_zero_and_one_are_taken_as_what_they_are():
    *_, agent = parts("metastar")
    floats = {"obs": rows(1.0, 2.0), "action": rows(0.0, 1.0), "reward": np.arange(3.0)}
    floats["first"] = np.array([True, False, True])
    others = {name: value.astype(int) for name, value in floats.items()}
    others["obs"] = jnp.asarray(floats["obs"], jnp.bfloat16)
    a, b = (agent.adapt(given).adaptation.code for given in (floats, others))
    np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    "seed", [None, 1.5, "1", True, -1, 2**32, 2**70, np.zeros(2, int), jax.random.key(0)]
)
def test_a_wrong_seed_is_refused(seed):
    *_, agent = parts("metastar")
    with pytest.raises(UserError, match=r"seed is .* but must be a whole number from 0 to"):
        agent.adapt(context(3), seed=seed)


@pytest.mark.parametrize(
    "task, message",
    [
        (None, "privileged"),
        (5, "task is 5; give all parameters by their names"),
        ([np.zeros(2)], "task is of type list"),
        ({}, "holds 0 numbers, but a task of family 'point_robot_sparse' has 2"),
        ({"goal": np.zeros(3)}, "holds 3 numbers"),
        ({"goal": None}, r"task\['goal'\] is no array of numbers"),
        ({"goal": "north"}, r"task\['goal'\] is no array of numbers"),
        ({"goal": np.array([0.0, np.inf])}, "not finite"),
        ({1: np.zeros(1), "goal": np.zeros(1)}, "the key 1, which is no name"),
    ],
)
def test_a_privileged_method_refuses_what_is_no_task_of_its_family(task, message):
    *_, agent = parts("oracle")
    with pytest.raises(UserError, match=message):
        agent.adapt(context(3), task=task)


@pytest.mark.parametrize(
    "obs, prev_reward, message",
    [
        (np.zeros(3), 0.0, "obs has shape"),
        (np.zeros((1, 2)), 0.0, "obs has shape"),
        (5, 0.0, "obs has shape"),
        (None, 0.0, "obs is no array of numbers but of type NoneType"),
        ("ab", 0.0, "obs is no array of numbers"),
        ([1.0, "a"], 0.0, "obs is no array of numbers"),
        ([[1.0], [1.0, 2.0]], 0.0, "obs is no array of numbers"),
        ([True, False], 0.0, "obs is no array of numbers but of type bool"),
        ([0.0, np.nan], 0.0, r"obs holds nan at \[1\], which is not finite"),
        ([1e30, 0.0], 0.0, "obs holds 1e.30.* beyond 1.8e.19"),
        ([0.0, 3e38], 0.0, "obs holds 3e.38.* beyond 1.8e.19"),
        (np.zeros(2), None, "prev_reward is no array of numbers"),
        (np.zeros(2), "1", "prev_reward is no array of numbers"),
        (np.zeros(2), np.zeros(1), "prev_reward has shape"),
        (np.zeros(2), np.nan, "prev_reward holds nan, which is not finite"),
        (np.zeros(2), -1e30, "prev_reward holds -1e.30, which is beyond 1.8e.19"),
    ],
)
def test_a_wrong_observation_is_refused_and_changes_nothing(obs, prev_reward, message):
    agent = rememberer()
    adapted, untouched = agent.adapt(context(3)), agent.adapt(context(3))
    for each in (adapted, untouched):
        each.act(np.ones(2))
    with pytest.raises(UserError, match=message):
        adapted.act(obs, prev_reward)
    with pytest.raises(UserError, match="last_next_obs"):
        adapted.begin_episode("nowhere")
    np.testing.assert_array_equal(adapted.act(np.zeros(2)), untouched.act(np.zeros(2)))


def test_whatever_was_refused_nothing_is_traced_twice():
    """After all the tests above, the agents of this module have one program each."""
    *_, agent = parts("metastar")
    adapted = agent.adapt(context(3))
    for obs in ([0, 1], np.zeros(2, np.float64), jnp.ones(2), (0.5, 2)):
        assert np.isfinite(adapted.act(obs, np.float64(1))).all()
    adapted.begin_episode([1, 2])
    adapted.act([0.0, 0.0], 1)
    assert agent.infer._cache_size() == agent.policy_act._cache_size() == 1


@functools.cache
def overflowing():
    """An agent whose memory overflows where an observation is above 10, and its code likewise."""
    method = rememberer().method
    grown = lambda x: jnp.where(x > 10, jnp.inf, 0.0)  # noqa: E731
    method = method._replace(
        infer=lambda params, view, task, key: Adaptation(grown(view.obs.max())[None]),
        policy=Policy(
            lambda params, adaptation: jnp.zeros(()),
            lambda params, adaptation, carry, step, key, greedy: (
                jnp.tanh(step.obs),
                carry + grown(step.obs.max()),
            ),
        ),
    )
    return loading.make_agent(method, DataSpec("walk", 2, 2, 1, 1, 4, (0.0,) * 2, (1.0,) * 2), None)


def test_numbers_that_overflow_inside_the_agent_are_an_error_and_not_an_action():
    agent = overflowing()
    with pytest.raises(UserError, match="infers from this context is not finite"):
        agent.adapt({**context(3), "obs": rows(0.0, 99.0)})
    adapted = agent.adapt(context(3))
    with pytest.raises(UserError, match="action is not finite for an obs of up to 99 and a prev_r"):
        adapted.act([99.0, 0.0], 2.0)
    assert np.isfinite(adapted.act([1.0, 0.0])).all()


WALK = EnvSpec("walk", obs_dim=2, action_dim=2, max_episode_steps=4)


@functools.cache
def rememberer():
    """An agent of a stub whose actions tell all that its policy was ever shown."""

    def act(params, adaptation, carry, step, key, greedy):
        shown = step.obs + 2 * step.prev_next_obs + 3 * step.prev_action + 4 * step.prev_reward
        carry = 0.5 * carry + shown + 10 * step.first
        return jnp.sin(carry + adaptation.code), carry

    method = Method(
        init=None,
        phases=(),
        export=None,
        infer=lambda params, view, task, key: Adaptation(view.reward.sum()[None]),
        policy=Policy(lambda params, adaptation: jnp.zeros(2), act),
        context=Context(12),
    )
    spec = DataSpec("walk", 2, 2, 1, 1, WALK.max_episode_steps, (0.0, 0.0), (1.0, 1.0))
    return loading.make_agent(method, spec, None)


def walked(agent, adapted):
    """Three episodes of the agent's policy as evaluation plays them."""

    def step(state, action, task, physics):
        state = state + 0.1 * action
        return state, StepOut(state, state.sum(), jnp.zeros((), bool))

    world = Env(
        WALK, lambda key: jax.random.normal(key, (2,)), lambda x, task, physics: (x, x), step
    )
    given = jax.tree.map(lambda x: x[None, None], adapted.adaptation)
    run = make_rollout(world, agent.method.policy, episodes=3)
    return jax.tree.map(lambda x: x[0, 0], run(None, given, jnp.zeros(1), jax.random.key(0)))


def test_episodes_are_told_apart_as_in_evaluation():
    """Memory and last step persist, `first` marks each start, `prev_next_obs` is no reset."""
    agent = rememberer()
    adapted = agent.adapt(context(3))
    played = walked(agent, adapted)
    reward = 0.0
    for episode in range(3):
        if episode:
            adapted.begin_episode(last_next_obs=played.next_obs[episode - 1, -1])
        for t in range(WALK.max_episode_steps):
            action = adapted.act(played.obs[episode, t], reward)
            np.testing.assert_allclose(
                action, played.action[episode, t], atol=1e-5, err_msg=f"episode {episode}, {t}"
            )
            reward = played.reward[episode, t]


def test_an_episode_may_begin_without_word_of_where_the_last_one_ended():
    agent, obs, other = rememberer(), np.array([0.3, -0.4]), np.array([0.1, 0.2])
    adapted, told, same = (agent.adapt(context(3)) for _ in range(3))
    for each in (adapted, told, same):
        each.act(obs)
    adapted.begin_episode()
    told.begin_episode(last_next_obs=obs)  # the last that it saw
    action = adapted.act(other)
    np.testing.assert_array_equal(action, told.act(other))
    assert (action != same.act(other)).all()
    np.testing.assert_array_equal(*(each.act(obs) for each in (adapted, told)))
    fresh, again = agent.adapt(context(3)), agent.adapt(context(3))
    again.begin_episode(last_next_obs=other)  # nothing was before it
    np.testing.assert_array_equal(fresh.act(obs), again.act(obs))
    with pytest.raises(UserError, match="last_next_obs has shape"):
        adapted.begin_episode(np.zeros(3))


@pytest.mark.parametrize(
    "path", [None, 5, b"run", [], "", "a\0b", object(), np.zeros(2)], ids=lambda x: repr(x)[:8]
)
def test_what_is_no_path_is_refused(path):
    with pytest.raises(UserError, match="takes the folder of a run"):
        load(path)


def test_a_folder_that_is_no_run_is_refused(tmp_path):
    (tmp_path / "file").write_text("{}")
    for path in (tmp_path, str(tmp_path), tmp_path / "file", tmp_path / "absent"):
        with pytest.raises(UserError, match="not a workdir"):
            load(path)
    with pytest.raises(UserError, match=r"cannot read the run in 'xxx.* .File name too long"):
        load("x" * 5000)
