"""Which source collected a window, as one number. A source is a behaviour policy at a stage."""

from metastar.errors import UserError
from metastar.types import Array, DataSpec, View


def expect_sources(spec: DataSpec, asking: str) -> int:
    """How many values `source_of` may have.

    Raises `UserError`, in the name of what is `asking`, if the data in use are of one source.
    """
    if spec.num_behaviors < 2:
        raise UserError(
            f"{asking} needs windows of two sources, but the data in use are of one; collect "
            "some with collect.behavior='mixture', use more of data.policies and data.stages, or "
            "do without it"
        )
    return spec.num_policies * spec.num_stages


def source_of(view: View, spec: DataSpec) -> Array:
    """The index [...] of a window's pair of policy and stage."""
    return view.policy * spec.num_stages + view.stage
