import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metastar import presets
from metastar.errors import UserError
from metastar.methods import metastar
from metastar.types import DataSpec
from synthetic import point_robot_data, point_robot_spec

SPEC = DataSpec("point_robot", 2, 2, 2, 4, 20, (0.0, 0.0), (1.0, 1.0), 1.0, 2, 3)


def test_positives_of_another_behavior_need_two_behaviors():
    cfg = presets.make("metastar", "point_robot", "debug")
    metastar.make(cfg, SPEC._replace(num_behaviors=2))
    with pytest.raises(UserError, match="'other_behavior' needs windows of two behaviours"):
        metastar.make(cfg, SPEC)  # names do not count, only episodes in use
    cfg.sampler.positive = "any"
    metastar.make(cfg, SPEC)


def test_an_update_of_the_pretraining_draws_other_tasks_every_time():
    data, step = point_robot_data(), jnp.zeros((), int)
    cfg = presets.make("metastar", "point_robot_sparse", "debug")
    cfg.sampler.pretrain_batch = 3

    def drawn(step):
        sample = metastar.make(cfg, point_robot_spec()).phases[0].sample
        return sample(data, jax.random.key(0), step)

    batches = [drawn(step + k) for k in range(8)]
    for batch in batches:
        assert len(np.unique(batch.task_id)) == 3 == len(batch.views["context"].reward)
        for name, value in data.task.items():
            np.testing.assert_array_equal(batch.task[name], value[batch.task_id])
    assert len({tuple(np.sort(batch.task_id)) for batch in batches}) > 1
    cfg.sampler.pretrain_batch = 0
    np.testing.assert_array_equal(drawn(step).task_id, np.arange(len(data.count)))
