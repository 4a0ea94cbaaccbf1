"""Codes that no window of the training has: between and beyond those of a batch, and near them.

A conditioned model tells what happens in tasks between and beyond from states of the recorded ones,
so that a policy learns to read codes that it would first meet at test time. Near its task's code a
policy learns to act alike, also where inference leaves the manifold of the encoder's codes (ours).
"""

from typing import Any

import jax
import jax.numpy as jnp

from metastar.config.fields import Field
from metastar.errors import UserError
from metastar.models.world_model import bound
from metastar.types import Array

DEFAULTS = {
    "reach": Field(
        0.0,
        "[0, 10]",
        "largest step of a rollout's code from the code of its task towards that of another one, "
        "which is at 1; 0: the rollouts of a task are under its own code",
        before=0.0,
    ),
}
NEAR = {
    "code_noise": Field(
        0.0,
        "[0, 10]",
        "standard deviation of what is added to the code that an agent learns a task's rows under, "
        "in units of that of the codes of a meta-batch (ours)",
        before=0.0,
    ),
}


def expect_told(cfg: Any) -> None:
    """Raises `UserError` if rollouts are asked for under codes whose rewards no model tells."""
    reach, of = cfg.imagine.reach, f"imagine.reach is {cfg.imagine.reach}"
    if not reach:
        return
    if "reconstruction" not in cfg.task_losses or not cfg.task_losses.reconstruction:
        raise UserError(
            f"{of}, but rewards under other codes are of the heads that task_losses.reconstruction "
            "trains; set it above 0, or imagine.reach=0"
        )
    if reach > 1 and cfg.world_model.code_bound == "none":
        raise UserError(
            f"{of}, beyond the codes of the tasks, and codes without a bound have any scale there; "
            "set world_model.code_bound='sphere', or imagine.reach to at most 1"
        )


def draw(key: Array, code: Array, num: int, cfg: Any) -> Array:
    """Draws `num` codes from that of each task towards those of others in the meta-batch.

    z + x (z' - z) on the manifold of `world_model.code_bound`, with z' the code of another task
    of the batch and x uniform in [0, `imagine.reach`].

    Args:
        key: of all draws.
        code: [M, Z], M at least 2.
        num: R, codes of each task.
        cfg: the config.

    Returns:
        [M, R, Z].
    """
    tasks = code.shape[0]
    key_other, key_step = jax.random.split(key)
    ahead = jax.random.randint(key_other, (tasks, num), 1, tasks)
    other = code[(jnp.arange(tasks)[:, None] + ahead) % tasks]
    step = jax.random.uniform(key_step, (tasks, num, 1), maxval=cfg.imagine.reach)
    return bound(code[:, None] + step * (other - code[:, None]), cfg)


def perturb(key: Array, code: Array, cfg: Any) -> Array:
    """Codes near those of the tasks, [M, Z] both, on the manifold of `world_model.code_bound`.

    z + c s e, with c the `world_model.code_noise`, e standard normal and s the root mean square of
    the codes' distances from their mean, over tasks and dimensions.
    """
    noise = cfg.world_model.code_noise * jnp.std(code - code.mean(0, keepdims=True))
    return bound(code + noise * jax.random.normal(key, code.shape), cfg)
