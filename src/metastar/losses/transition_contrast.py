"""CORRO's losses: a generator of answers, negatives for transitions, and the contrast with them.

Yuan and Lu 2022 (ICML, arXiv 2206.10442). A negative has the state and the action of a transition
and another reward and next state, so that only what depends on the task tells them apart.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from metastar.models.transition_cvae import TransitionCvae
from metastar.ops import gaussian
from metastar.ops.contrastive import negatives_infonce, unit_length
from metastar.types import Array, View

# What a view has of each transition.
_COLUMNS = tuple(name for name in View._fields if name not in ("policy", "stage"))


def generator_loss(
    params: Any, view: View, noise: Array, kl_weight: Array, model: TransitionCvae
) -> tuple[Array, dict[str, Array]]:
    """`mean (s'^ - s')^2 + mean (r^ - r)^2 + w mean KL(q(x | s, a, r, s') || N(0, 1))`.

    Args:
        params: of the generator.
        view: [...] transitions of all tasks; all count alike.
        noise: [..., D] standard normal.
        kl_weight: w.
        model: the generator.

    Returns:
        Scalar and metrics.
    """
    mean, logvar = model.encode(params, view.obs, view.action, view.reward, view.next_obs)
    latent = gaussian.sample(mean, logvar, noise)
    reward, next_obs = model.decode(params, view.obs, view.action, latent)
    zero = jnp.zeros_like(mean)
    kl = gaussian.kl(mean, logvar, zero, zero).mean()
    of_next = jnp.mean((next_obs - view.next_obs) ** 2)
    of_reward = jnp.mean((reward - view.reward) ** 2)
    total = of_next + of_reward + kl_weight * kl
    metrics = {"generator_next_obs": of_next, "generator_reward": of_reward, "generator_kl": kl}
    return total, metrics


def repeated(query: View, num: int) -> View:
    """K = `num` copies of each transition [P]: [P, K]."""

    def copy(x):
        return jnp.broadcast_to(x[:, None], (x.shape[0], num, *x.shape[1:]))

    return query._replace(**{name: copy(getattr(query, name)) for name in _COLUMNS})


def generated(params: Any, query: View, noise: Array, model: TransitionCvae) -> View:
    """Negatives [P, K] of transitions [P]: the generator's answers to prior draws [P, K, D]."""
    view = repeated(query, noise.shape[1])
    reward, next_obs = model.decode(params, view.obs, view.action, noise)
    return view._replace(reward=reward, next_obs=next_obs)


def noised(query: View, noise: Array, std: Array) -> View:
    """Negatives [P, K] of transitions [P]: their rewards plus `std` times noise [P, K]."""
    view = repeated(query, noise.shape[1])
    return view._replace(reward=view.reward + std * noise)


def contrast(
    params: Any, pair: View, negative: View, temperature: Array, encode: Callable
) -> tuple[Array, dict[str, Array]]:
    """The contrast of two transitions of a task with negatives of the first one.

    Args:
        params: of the encoder.
        pair: [P, 2] transitions, each two of one task.
        negative: [P, K] of the first of each two; data.
        temperature: [] > 0.
        encode: (params, View [P, 2 + K]) -> codes of the transitions [P, 2 + K, Z].

    Returns:
        Scalar and metrics; `contrast_accuracy` is the share of pairs that are told from all
        negatives.
    """
    negative = jax.lax.stop_gradient(negative)
    joined = {
        name: jnp.concatenate([getattr(pair, name), getattr(negative, name)], 1)
        for name in _COLUMNS
    }
    each = unit_length(encode(params, pair._replace(**joined)))
    loss, logits = negatives_infonce(each[:, 0], each[:, 1], each[:, 2:], temperature)
    accuracy = (logits[:, 0] >= logits[:, 1:].max(-1)).mean()
    return loss, {"contrast": loss, "contrast_accuracy": accuracy}
