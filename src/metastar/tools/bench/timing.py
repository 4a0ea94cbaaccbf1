"""Times functions in interleaved rounds, so that a drift of the machine affects all alike."""

import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np


def interleaved(
    calls: dict[str, Callable[[], Any]],
    repeats: int,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, list[float]]:
    """Seconds of each call, round by round, after one call of each that is not counted.

    Every round has another order (the same orders in every run): what a call leaves in caches and
    memory affects the time of the next call, which must not always be the same one. A call ends
    when all arrays that it returned are computed.

    Args:
        calls: functions without arguments, by name.
        repeats: rounds.
        clock: seconds since any moment.

    Returns:
        `repeats` numbers for each name, in the order of the rounds.
    """
    for call in calls.values():
        jax.block_until_ready(call())
    seconds = {name: [] for name in calls}
    names, rng = list(calls), np.random.default_rng(0)
    for _ in range(repeats):
        for i in rng.permutation(len(names)):
            began = clock()
            jax.block_until_ready(calls[names[i]]())
            seconds[names[i]].append(clock() - began)
    return seconds


def rounds_for(call: Callable[[], Any], seconds: float, most: int) -> int:
    """How many calls in a row, 1 to `most`, take about `seconds`; two calls find out."""
    jax.block_until_ready(call())
    began = time.perf_counter()
    jax.block_until_ready(call())
    return int(np.clip(seconds / (time.perf_counter() - began), 1, most))


def spread(samples: list[float]) -> dict[str, float]:
    """Median and quartiles.

    >>> spread([4.0, 1.0, 2.0, 3.0, 5.0])
    {'median': 3.0, 'quartile_1': 2.0, 'quartile_3': 4.0}
    """
    low, middle, high = np.quantile(samples, (0.25, 0.5, 0.75))
    return {"median": float(middle), "quartile_1": float(low), "quartile_3": float(high)}
