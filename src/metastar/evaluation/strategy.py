"""The record of a strategy of exploration, and what it chooses by."""

from collections.abc import Callable
from typing import NamedTuple

from metastar.types import Array


class Strategy(NamedTuple):
    """How to explore while the task is not known: one file of `evaluation/exploration/`."""

    init: Callable  # (bank [K, Z]) -> memory
    choose: Callable  # (params, Seen, memory, key) -> (code [Z] to act on, memory)
    # (window View [L], log_likelihood [L, K + 1]) -> []: how good a context a segment of the own
    # history is; the one of the highest score is kept
    score: Callable


class Seen(NamedTuple):
    """What a strategy of exploration chooses by."""

    bank: Array  # [K, Z] codes of the training tasks, in any order
    log_posterior: Array  # [K] of the training tasks; uniform without a task model
    own: Array  # [Z] the code inferred from the kept segment of the own history
    score: Array  # [] of that segment
    # [] int, from 0: how often it has lived as many steps as a full episode has. Where none ends
    # early that is which episode it is in
    episode: Array
    time: Array  # [] int: steps since `episode` changed
    obs: Array  # [O] where it is
