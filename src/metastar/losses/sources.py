"""Who collected a window, as one number: what losses that look at behaviour share."""

from metastar.errors import UserError
from metastar.types import Array, DataSpec, View


def expect_behaviors(spec: DataSpec, asking: str) -> int:
    """How many values `behavior_of` may have.

    Raises `UserError`, in the name of what is `asking`, if the data in use are of one behaviour.
    """
    if spec.num_behaviors < 2:
        raise UserError(
            f"{asking} needs windows of two behaviours, but the data in use are of one; collect "
            "some with collect.behavior='mixture', use more of data.policies and data.stages, or "
            "do without it"
        )
    return spec.num_policies * spec.num_stages


def behavior_of(view: View, spec: DataSpec) -> Array:
    """The index [...] of a window's pair of policy and stage."""
    return view.policy * spec.num_stages + view.stage
