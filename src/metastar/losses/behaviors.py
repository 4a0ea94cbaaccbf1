"""Who collected a window, as one number: what losses that look at behaviour share."""

from metastar.errors import UserError
from metastar.types import Array, DataSpec, View


def num_behaviors(spec: DataSpec, loss: str) -> int:
    """How many pairs of policy and stage a data set has names for; raises `UserError` if one."""
    num = spec.num_policies * spec.num_stages
    if num < 2:
        raise UserError(
            f"task loss {loss!r} needs tags of two behaviours, but the data set has one; collect "
            "one with collect.behavior='mixture', or set the loss's weight to 0"
        )
    return num


def behavior_of(view: View, spec: DataSpec) -> Array:
    """The index [...] of a window's pair of policy and stage."""
    return view.policy * spec.num_stages + view.stage
