"""Maximum mean discrepancy: the codes of a task follow one law, whoever collected the context."""

from typing import Any

import jax.numpy as jnp

from metastar.losses.sources import behavior_of, expect_behaviors
from metastar.ops.contrastive import behavior_mmd
from metastar.types import DataSpec, TaskLoss

DEFAULTS = {}


def make(cfg: Any, spec: DataSpec) -> TaskLoss:
    """Squared MMD between the codes of different behaviours, centred on the task: `behavior_mmd`.

    The mean of a task's two codes is taken off both, so that codes of different tasks compare and
    a meta-batch that has each task twice is enough. It sees what a behaviour does to the codes of
    all tasks alike; `sampler.positive = "other_behavior"` makes every pair tell.

    Raises `UserError` if the data have one behaviour only.
    """
    del cfg
    expect_behaviors(spec, "task_losses.mmd")
    names = ("context", "positive")

    def loss(params, codes, batch, noise):
        code = jnp.stack([codes[name] for name in names])  # [2, M, Z]
        behavior = jnp.stack([behavior_of(batch.views[name], spec) for name in names])
        value = behavior_mmd(code - code.mean(0, keepdims=True), behavior)
        return value, {}

    return TaskLoss(views=names, loss=loss)
