"""Behaviour cloning under an inferred task code: one loss for the encoder and the actor."""

from typing import Any

import jax.numpy as jnp

from metastar.models import world_model
from metastar.models.nets.actor_critic import Actor
from metastar.models.world_model import EncodeNoise
from metastar.ops import gaussian
from metastar.types import Array, Batch

# Deterministic behaviour has no maximum likelihood: the density grows without limit as the standard
# deviation shrinks, and so does its gradient. This bound is a standard deviation of 0.007 before
# tanh.
LOG_STD_MIN = -5.0


def loss(
    params: Any, batch: Batch, noise: EncodeNoise, cfg: Any, actor: Actor
) -> tuple[Array, dict[str, Array]]:
    """`-mean log pi(a | s, z)` over real transitions, z the code of a context of the same task.

    Maximum likelihood (Pomerleau 1991, "Efficient Training of Artificial Neural Networks for
    Autonomous Navigation") with a tanh-Gaussian actor. The gradient reaches the encoder through z,
    and nothing else shapes z.

    Args:
        params: `encoder`, the networks that `world_model.encode_task` reads, and `actor`.
        batch: with the views "context" [M, L] and "real" [M, B], drawn independently.
        noise: of `world_model.draw_encode_noise` for the context.
        cfg: the config.
        actor: the module.

    Returns:
        Scalar in nats per action, and metrics; `action_error` is the mean square of the greedy
        action's deviation.
    """
    real = batch.views["real"]
    code = world_model.encode_task(params["encoder"], batch.views["context"], noise, cfg)
    code = jnp.broadcast_to(code[:, None], (*real.obs.shape[:-1], code.shape[-1]))
    obs_code = jnp.concatenate([real.obs, code], axis=-1)
    mean, log_std = actor.apply({"params": params["actor"]}, obs_code)
    log_std = jnp.maximum(log_std, LOG_STD_MIN)
    total = -gaussian.tanh_normal_log_prob(mean, log_std, real.action).mean()
    error = jnp.mean((jnp.tanh(mean) - real.action) ** 2)
    return total, {"cloning_loss": total, "action_error": error}
