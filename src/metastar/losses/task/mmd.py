"""Maximum mean discrepancy: the codes of a task have one distribution under every source."""

from typing import Any

import jax.numpy as jnp

from metastar.losses.sources import expect_sources, source_of
from metastar.ops.contrastive import behavior_mmd
from metastar.types import DataSpec, TaskLoss

DEFAULTS = {}


def make(cfg: Any, spec: DataSpec, code_dim: int) -> TaskLoss:
    """Squared MMD between the codes of different sources, centred on the task: `behavior_mmd`.

    The mean of a task's two codes is subtracted from both, so that codes of different tasks can be
    compared and two windows of each task are enough. The loss sees only shifts by a source that are
    the same in all tasks; with `sampler.positive = "other_behavior"` every pair contributes.

    Raises `UserError` if the data have one source only.
    """
    del cfg, code_dim
    expect_sources(spec, "task_losses.mmd")
    names = ("context", "positive")

    def loss(params, codes, batch, noise, hp):
        code = jnp.stack([codes[name].task for name in names])  # [2, M, Z]
        source = jnp.stack([source_of(batch.views[name], spec) for name in names])
        value = behavior_mmd(code - code.mean(0, keepdims=True), source)
        return value, {}

    return TaskLoss(views=names, loss=loss, by_source=True)
