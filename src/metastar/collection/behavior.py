"""The record of a behaviour, and of what it did."""

from collections.abc import Callable
from typing import NamedTuple

from metastar.types import Array, Trajectory


class Episodes(NamedTuple):
    """What behaviour policies did on N tasks: E episodes each, in time order; NumPy arrays."""

    trajectory: Trajectory  # leaves [N, E, T, ...]
    policy: Array  # [N, E] int: index into `Behavior.policies`
    stage: Array  # [N, E] int: index into `Behavior.stages`
    collector: Array  # [N, E] int: the task whose learner acted; its own but for cross-task ones


class Behavior(NamedTuple):
    """A way to make episodes of every task of a family."""

    policies: tuple[str, ...]
    stages: tuple[str, ...]
    # (tasks leaves [N, ...], key, report) -> Episodes; `report` takes a line of progress, and the
    # same key gives the same episodes
    run: Callable
