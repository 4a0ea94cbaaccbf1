import jax
import jax.numpy as jnp
import numpy as np
import pytest

import make_config
from metastar.errors import UserError
from metastar.training import runs
from metastar.types import DataSpec
from synthetic import point_robot_data, point_robot_spec

SPEC = DataSpec("point_robot", 2, 2, 2, 4, 20, (0.0, 0.0), (1.0, 1.0), 1.0, 2, 3)


def test_positives_of_another_behavior_need_two_behaviors():
    cfg = make_config.preset("metastar", "point_robot", "debug")
    runs.make_method(cfg, SPEC._replace(num_behaviors=2))
    with pytest.raises(UserError, match="'other_behavior' needs windows of two sources"):
        runs.make_method(cfg, SPEC)  # names do not count, only episodes in use
    cfg.sampler.positive = "any"
    runs.make_method(cfg, SPEC)


@pytest.mark.parametrize("num", [0, 3])
def test_an_update_of_the_pretraining_has_all_tasks_or_as_many_as_asked(num):
    data, cfg = point_robot_data(), make_config.preset("metastar", "point_robot_sparse", "debug")
    cfg.sampler.pretrain_batch = num
    sample = jax.jit(runs.make_method(cfg, point_robot_spec()).phases[0].sample)
    batches = [sample(data, jax.random.key(0), jnp.asarray(step)) for step in range(8)]
    for batch in batches:
        assert len(np.unique(batch.task_id)) == (num or len(data.count))
        assert batch.views["context"].reward.shape[0] == len(batch.task_id)
        for name, value in data.task.items():
            np.testing.assert_array_equal(batch.task[name], value[batch.task_id])
    assert (len({tuple(np.sort(batch.task_id)) for batch in batches}) > 1) == bool(num)


@pytest.mark.parametrize("every", [1, 2, 0])
def test_the_model_learns_in_every_so_many_joint_updates(every):
    """Where it stays, codes and metrics are of what it is, and the agent learns all the same."""
    data, cfg = point_robot_data(), make_config.preset("metastar", "point_robot_sparse", "debug")
    cfg.world_model.every = every
    method = runs.make_method(cfg, point_robot_spec())
    joint, key = method.phases[1], jax.random.key(0)
    update, state = jax.jit(joint.update), method.init(key)
    for step in range(4):
        batch = joint.sample(data, key, jnp.asarray(step))
        before = state
        state, metrics = update(state, batch, key, method.hp, jnp.asarray(step))
        learns = bool(every) and step % every == 0
        assert changed(before["world_model"], state["world_model"]) == learns
        assert changed(before["agent"].params, state["agent"].params)
        assert np.isfinite(metrics["model_loss"])


def changed(before, after) -> bool:
    pairs = zip(jax.tree.leaves(before), jax.tree.leaves(after), strict=True)
    return any(bool((x != y).any()) for x, y in pairs)
