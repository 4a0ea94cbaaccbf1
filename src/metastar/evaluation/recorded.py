"""Adaptations from recorded data of the evaluated tasks: what few-shot protocols share."""

from typing import Any

import jax

from metastar.config.fields import COUNT, Field
from metastar.data import contexts
from metastar.evaluation.inference import infer_all
from metastar.evaluation.protocol import Contexts, Given
from metastar.types import Array, Method

DEFAULTS = {
    "windows": Field(20, COUNT, "contexts per task and kind of context"),
    "episodes": Field(1, COUNT, "few-shot episodes per context"),
}


def infer_recorded(
    method: Method, params: Any, given: Given, streams: int, key: Array
) -> tuple[Any, Contexts]:
    """Infers one adaptation from each of W uniformly drawn contexts of every task.

    Args:
        method: the method.
        params: what `method.export` returned.
        given: N tasks with their data.
        streams: W.
        key: PRNG key.

    Returns:
        Adaptations, leaves [N, W, ...], and what is known of their contexts.
    """
    key_draw, key_infer = jax.random.split(key)
    view = contexts.draw_of_each(given.parts, streams, method.context, key_draw)
    adaptation = infer_all(method, params, view, given.task, key_infer)
    rewarded = (view.reward > 0) & view.valid
    return adaptation, Contexts(view.valid.any((-2, -1)), rewarded.any((-2, -1)))


def episode_keys(key: Array) -> tuple[Array, Array]:
    """`Protocol.keys` of few-shot: protocols that share it meet the same contexts and starts."""
    return jax.random.fold_in(key, 3), jax.random.fold_in(key, 0)
