"""What a user gives as arrays: checked on the host, before any device sees it."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from metastar.errors import UserError


def numbers(name: str, value: Any, shape: Sequence[int] | None = None) -> np.ndarray:
    """Returns real numbers in the float type of the device.

    Args:
        name: what they are, for the sentence.
        value: anything; whole numbers pass, truth values and texts do not.
        shape: what they must have; None for any.

    Raises:
        UserError: `value` is no array of numbers or of another shape; or a number is not finite, or
            so large that its square is not.
    """
    array = _array(name, value)
    if not _is_real(array):
        kind = _kind(value, array)
        raise UserError(f"{name} is no array of numbers but of type {kind}; give floats")
    _expect_shape(name, array, shape)
    dtype = jax.dtypes.canonicalize_dtype(float)
    largest = np.sqrt(np.finfo(dtype).max)
    unusable = ~(np.abs(array.astype(float)) <= largest)  # also true of NaN
    if unusable.any():
        place = np.argwhere(unusable)[0].tolist()
        found, where = float(array[tuple(place)]), f" at {place}" if place else ""
        reason = f"beyond {largest:.1e} in size" if np.isfinite(found) else "not finite"
        raise UserError(f"{name} holds {found}{where}, which is {reason}; mend it or leave it out")
    return array.astype(dtype)


def flags(name: str, value: Any, shape: Sequence[int] | None = None) -> np.ndarray:
    """Returns truth values; the numbers 0 and 1 pass too.

    Arguments are those of `numbers`. Raises `UserError` if `value` is no array of such, or of
    another shape.
    """
    array = _array(name, value)
    if array.dtype != bool and not (_is_real(array) and np.isin(array, (0, 1)).all()):
        raise UserError(f"{name} may hold True and False only; give an array of bool")
    _expect_shape(name, array, shape)
    return array.astype(bool)


def _array(name: str, value: Any) -> np.ndarray:
    if np.ma.is_masked(value):
        raise UserError(f"{name} has masked entries; fill them or leave them out")
    try:
        return np.asarray(value)
    except Exception:  # of a ragged list, a key, or whatever an object's own conversion raises
        raise UserError(f"{name} is no array of numbers; give rows of one length") from None


def _is_real(array: np.ndarray) -> bool:
    return any(jnp.issubdtype(array.dtype, kind) for kind in (jnp.floating, jnp.integer))


def _kind(value: Any, array: np.ndarray) -> str:
    """The type of what was given in place of numbers."""
    alone = array.dtype == object and not array.ndim  # what NumPy has no type for
    return type(value).__name__ if alone else str(array.dtype)


def _expect_shape(name: str, array: np.ndarray, shape: Sequence[int] | None) -> None:
    if shape is not None and array.shape != tuple(shape):
        raise UserError(f"{name} has shape {array.shape}, but must have {tuple(shape)}")
