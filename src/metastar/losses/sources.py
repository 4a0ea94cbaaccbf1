"""The source of a window, a behaviour policy at a stage, as one number."""

from metastar.errors import UserError
from metastar.types import Array, DataSpec, View


def expect_sources(spec: DataSpec, asking: str) -> int:
    """Number of values that `source_of` may have.

    Raises `UserError`, which names who is `asking`, if the data in use have one source only.
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
