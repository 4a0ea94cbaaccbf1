"""Infers the task for many streams at once."""

from typing import Any

import jax
import jax.numpy as jnp

from metastar.data.contexts import folded, steps_of
from metastar.errors import UserError
from metastar.evaluation.history import empty_window
from metastar.types import Array, EnvSpec, Method, View, code_of


def infer_all(method: Method, params: Any, view: View, task: Any, key: Array) -> Any:
    """Infers one adaptation from each context of `view` [N, W, C, L]; leaves [N, W, ...].

    `task` has leaves [N, ...] and is passed to privileged methods only.
    """
    keys = jax.random.split(key, view.valid.shape[:2])
    task = task if method.privileged else None
    over_streams = jax.vmap(method.infer, in_axes=(None, 0, None, 0))
    return jax.vmap(over_streams, in_axes=(None, 0, 0, 0))(params, view, task, keys)


def infer_empty(
    method: Method, spec: EnvSpec, params: Any, task: Any, streams: int, key: Array
) -> Any:
    """Infers adaptations from contexts without a valid step; leaves [N, `streams`, ...]."""
    shape = len(jax.tree.leaves(task)[0]), streams
    empty = folded(empty_window(spec, steps_of(method.context)), method.context)
    view = jax.tree.map(lambda x: jnp.broadcast_to(x, (*shape, *x.shape)), empty)
    return infer_all(method, params, view, task, key)


def expect_code(adaptation: Any, who: str) -> Array:
    """The code of an adaptation; raises `UserError`, which says who needs one, if it has none."""
    code = code_of(adaptation)
    if code is None:
        raise UserError(
            f"{who} needs task codes, and what this run's method infers has none (`code`); choose "
            "a run of another method"
        )
    return code
