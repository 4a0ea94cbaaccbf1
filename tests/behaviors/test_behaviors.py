"""The contract of every file of `behaviors`, and what is particular to soft actor-critic."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metastar import registry
from metastar.behaviors import sac
from metastar.config import base
from metastar.envs.families import point_robot as family
from metastar.envs.point_mass import make_env
from metastar.errors import UserError

TASKS = jax.tree.map(jnp.asarray, family.draw_tasks(np.random.default_rng(0), 3))


def make(name, env=None):
    cfg = base()
    small = {
        "random_episodes": 4,
        "random_action_scale": 0.5,
        "iterations": 20,
        "episodes_per_iteration": 2,
        "updates_per_iteration": 50,
        "batch_size": 64,
        "lr": 1e-3,
    }
    cfg.collect.update(small)
    env = env or make_env("point_robot", cfg.env)
    return registry.find("behavior", name).make(cfg, env)


def quiet(line):
    pass


def check_learning(trajectory, policy, stage):
    """The dense task is nearly solved after 1000 updates, and the stages tell."""
    np.testing.assert_array_equal(policy[0], [0] * 4 + [1] * 40)
    for row in stage:
        np.testing.assert_array_equal(np.bincount(row), [4, 20, 20])
    returns = trajectory.reward.sum(-1)
    start, goal = trajectory.obs[:, -10:, 0], np.asarray(TASKS["goal"])[:, None]
    best = family.optimum(start, {"goal": goal}).mean()
    assert returns[:, :4].mean() < 5 * best
    assert returns[:, -10:].mean() > 3.5 * best
    assert returns[stage == 1].mean() < returns[stage == 2].mean()


@pytest.mark.parametrize("name", registry.names("behavior"))
def test_contract_of_a_behavior(name, caplog):
    lines = []
    behavior = make(name)
    with jax.log_compiles():
        trajectory, policy, stage = behavior.run(TASKS, jax.random.key(0), lines.append)
        again, _, _ = behavior.run(TASKS, jax.random.key(0), quiet)
        other, _, _ = behavior.run(TASKS, jax.random.key(1), quiet)
    compiled = [r.getMessage().split(" with ")[0] for r in caplog.records]
    names = [f"Compiling jit({name})" for name in ("start", "advance", "play")]
    assert max(compiled.count(name) for name in names) == 1
    num = policy.shape[1]
    assert policy.shape == stage.shape == (3, num) and lines
    assert trajectory.obs.shape == trajectory.next_obs.shape == (3, num, 60, 2)
    assert trajectory.action.shape == (3, num, 60, 2) and np.abs(trajectory.action).max() <= 1
    assert trajectory.reward.shape == trajectory.done.shape == (3, num, 60)
    assert policy.min() >= 0 and policy.max() < len(behavior.policies)
    assert stage.min() >= 0 and stage.max() < len(behavior.stages)
    for leaf in trajectory:
        assert isinstance(leaf, np.ndarray) and np.isfinite(leaf).all()
    goal = np.asarray(TASKS["goal"])[:, None, None]
    distance = np.linalg.norm(trajectory.next_obs - goal, axis=-1)
    np.testing.assert_allclose(trajectory.reward, -distance, atol=1e-5)
    np.testing.assert_array_equal(trajectory.obs[:, :, 1:], trajectory.next_obs[:, :, :-1])
    assert len(np.unique(trajectory.obs[:, :, 0, 0])) == 3 * num
    # Uniform actions first, if at all, of the configured scale; then the learner's, in time order.
    assert (np.diff(policy, axis=1) >= 0).all()
    uniform = trajectory.action[policy == behavior.policies.index("random")]
    assert 0.49 < np.abs(uniform).max() <= 0.5
    jax.tree.map(np.testing.assert_array_equal, trajectory, again)
    assert not np.array_equal(trajectory.obs, other.obs)
    if name == "sac":
        check_learning(trajectory, policy, stage)


def test_stages_split_the_smoothed_return_at_its_median_rank():
    ramp = np.arange(40.0)
    flat = np.zeros(40)
    fall = ramp[::-1]
    stage = sac.split_stages(np.stack([ramp, flat, fall]))
    half = [1] * 20 + [2] * 20
    np.testing.assert_array_equal(stage, [half, half, half[::-1]])
    noisy = ramp + 15 * (-1) ** np.arange(40)
    assert (sac.split_stages(noisy[None])[0, :15] == 1).all()


def test_sac_refuses_episodes_of_other_lengths():
    with pytest.raises(UserError, match="fixed length"):
        env = make_env("point_robot", base().env)
        make("sac", env._replace(spec=family.SPEC._replace(done_ends_episode=True)))
