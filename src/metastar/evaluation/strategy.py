"""The record of a strategy of exploration, and of what it is given."""

from collections.abc import Callable
from typing import NamedTuple

from metastar.types import Array


class Strategy(NamedTuple):
    """How to explore while the task is not known: one file of `evaluation/exploration/`."""

    init: Callable  # (bank [K, Z]) -> memory
    choose: Callable  # (params, Seen, memory, key) -> (code [Z] to act on, memory)
    # (window View [L], log_likelihood [L, K + 1]) -> []: how good a context a window of the agent's
    # own history is; the window of the highest score becomes the context
    score: Callable


class Seen(NamedTuple):
    """What a strategy of exploration is given at a step."""

    bank: Array  # [K, Z] codes of the training tasks, in any order
    log_posterior: Array  # [K] of the training tasks; uniform without a task model
    own_code: Array  # [Z] inferred from the best window of the agent's own history so far
    score: Array  # [] of that window
    # [] int, from 0: steps so far divided by the length of a full episode, rounded down. Where no
    # episode ends early that is the number of the episode
    episode: Array
    time: Array  # [] int: steps since `episode` changed
    obs: Array  # [O] the present observation
