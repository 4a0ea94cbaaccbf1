"""Infers the task for many streams at once."""

from typing import Any

import jax

from metastar.errors import UserError
from metastar.types import Array, Method, View, code_of


def infer_all(method: Method, params: Any, view: View, task: Any, key: Array) -> Any:
    """Infers one adaptation from each context of `view` [N, W, C, L]; leaves [N, W, ...].

    `task` has leaves [N, ...] and is passed to privileged methods only.
    """
    keys = jax.random.split(key, view.valid.shape[:2])
    task = task if method.privileged else None
    over_streams = jax.vmap(method.infer, in_axes=(None, 0, None, 0))
    return jax.vmap(over_streams, in_axes=(None, 0, 0, 0))(params, view, task, keys)


def expect_code(adaptation: Any, who: str) -> Array:
    """The code of an adaptation; raises `UserError`, which says who needs one, if it has none."""
    code = code_of(adaptation)
    if code is None:
        raise UserError(
            f"{who} needs task codes, and what this run's method infers has none (`code`); choose "
            "a run of another method"
        )
    return code
