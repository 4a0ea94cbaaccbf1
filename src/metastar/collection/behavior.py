"""The records of a behaviour and of the episodes it made."""

from collections.abc import Callable
from typing import NamedTuple

from metastar.types import Array, Trajectory


class Episodes(NamedTuple):
    """Episodes of behaviour policies on N tasks, E each, in time order; NumPy arrays."""

    trajectory: Trajectory  # leaves [N, E, T, ...]
    policy: Array  # [N, E] int: index into `Behavior.policies`
    stage: Array  # [N, E] int: index into `Behavior.stages`
    # [N, E] int: the task whose learner acted, which is another task in cross-task episodes
    collector: Array


class Behavior(NamedTuple):
    """How to make episodes of every task of a family; a policy at a stage is a source of data."""

    policies: tuple[str, ...]  # names
    stages: tuple[str, ...]  # names, of how far a policy has learned
    # (tasks, leaves [N, ...]; key; report, which takes a line of progress) -> Episodes; the same
    # key gives the same episodes
    run: Callable
