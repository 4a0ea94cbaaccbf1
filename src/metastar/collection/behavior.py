"""The records of a behaviour and of the episodes it made."""

import os
from collections.abc import Callable
from typing import NamedTuple

import jax

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
    # Why all tasks must be made together. None: they need not, and `run` takes the number of its
    # first task as one more argument; draws of a task follow from `key` and its number (`keys_of`),
    # and `collector` counts from the first task of all.
    together: str | None = "its file does not say that it makes each task by itself"


def keys_of(key: Array, first: int, num_tasks: int, *streams: int) -> Array:
    """Splits a key into those [N, ...] of the N tasks from number `first` on, of `streams` each.

    The keys of a task do not depend on which other tasks there are.
    """
    return jax.random.split(key, (first + num_tasks, *streams))[first:]


def expect_room(spec: EnvSpec, num_tasks: int, num_episodes: int) -> None:
    """Raises `UserError` if so many episodes of each task are more than all memory there is."""
    needed = num_tasks * num_episodes * spec.episode_bytes
    if needed > (memory := os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")):
        raise UserError(
            f"{num_episodes} episodes of {num_tasks} tasks need {needed / 2**30:.1f} GiB, and this "
            f"machine has {memory / 2**30:.1f} GiB; ask for fewer in the sections collect and data"
        )
