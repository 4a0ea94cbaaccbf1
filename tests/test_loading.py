"""Loading for Python users, on random parameters of the smallest configs."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import FrozenConfigDict

import make_config
from metastar import load, loading
from metastar.envs.rollout import make_rollout
from metastar.errors import UserError
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
    expected = method.infer(method.export(state), one_window(view), None, jax.random.key(0))
    np.testing.assert_allclose(adapted.adaptation.code, expected.code, rtol=1e-5)
    assert action.shape == (2,) and (np.abs(action) <= 1).all()
    np.testing.assert_array_equal(action, adapted.act(obs))
    np.testing.assert_allclose(agent.adapt(view).adaptation.code, expected.code, rtol=1e-5)


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


def test_a_privileged_method_needs_the_task():
    *_, agent = parts("oracle")
    with pytest.raises(UserError, match="privileged"):
        agent.adapt(context(3))
    adapted = agent.adapt(context(3), task={"goal": np.array([0.6, 0.8])})
    np.testing.assert_allclose(adapted.adaptation.code, [0.6, 0.8], rtol=1e-6)
    assert adapted.act([0.0, 0.0]).shape == (2,)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"obs": np.zeros((3, 5))}, "shape"),
        ({"action": np.zeros((2, 2))}, "shape"),
        ({"reward": np.array([0.0, np.nan, 1.0])}, "not finite"),
        ({"obs": "nonsense"}, "no array of numbers"),
        ({"first": np.zeros(4)}, "shape"),
        (context(13), "13 steps"),
        ({"obs": np.zeros((0, 2)), "action": np.zeros((0, 2)), "reward": np.zeros(0)}, "0 steps"),
    ],
)
def test_a_wrong_context_is_refused_in_one_sentence(change, message):
    *_, agent = parts("oracle")
    with pytest.raises(UserError, match=message) as error:
        agent.adapt({**context(3), **change}, task={"goal": np.zeros(2)})
    assert "\n" not in str(error.value)


def test_a_context_without_reward_and_a_wrong_observation_are_refused():
    *_, agent = parts("oracle")
    given = context(3)
    del given["reward"]
    task = {"goal": np.zeros(2)}
    with pytest.raises(UserError, match="no 'reward'"):
        agent.adapt(given, task=task)
    with pytest.raises(UserError, match="obs has shape"):
        agent.adapt(context(3), task=task).act(np.zeros(3))


WALK = EnvSpec("walk", obs_dim=2, action_dim=2, max_episode_steps=4)


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


def test_a_folder_that_is_no_run_is_refused(tmp_path):
    with pytest.raises(UserError, match="not a workdir"):
        load(tmp_path)
