"""The records of a behaviour and of the episodes it made."""

import os
from collections.abc import Callable
from typing import NamedTuple

from metastar.errors import UserError
from metastar.types import Array, EnvSpec, Trajectory


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


def expect_room(spec: EnvSpec, num_tasks: int, num_episodes: int) -> None:
    """Raises `UserError` if so many episodes of each task are more than all memory there is."""
    needed = num_tasks * num_episodes * spec.episode_bytes
    if needed > (memory := os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")):
        raise UserError(
            f"{num_episodes} episodes of {num_tasks} tasks need {needed / 2**30:.1f} GiB, and this "
            f"machine has {memory / 2**30:.1f} GiB; ask for fewer in the sections collect and data"
        )
