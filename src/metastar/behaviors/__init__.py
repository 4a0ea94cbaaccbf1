"""Behaviour policies: what acted when a data set was made, one file each, found by its name.

A file has `make(cfg, env) -> Behavior`.
"""

from collections.abc import Callable
from typing import NamedTuple


class Behavior(NamedTuple):
    """A way to make episodes of every task of a family.

    `run(tasks, key, report)` takes task parameters with leaves [N, ...], a PRNG key and a function
    that prints a line of progress. It returns a `Trajectory` of NumPy arrays [N, E, T, ...] in time
    order, and for each episode an index into `policies` and one into `stages`, int [N, E]. The same
    key gives the same episodes.
    """

    policies: tuple[str, ...]
    stages: tuple[str, ...]
    run: Callable
