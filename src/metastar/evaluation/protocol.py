"""The records of a protocol, of its inputs and of the contexts it drew."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from metastar.types import Array, Policy, TaskData


class Given(NamedTuple):
    """What a protocol is given of the N tasks on which a method is evaluated."""

    task: Any  # parameters, leaves [N, ...]: for privileged methods only
    parts: tuple[TaskData, ...] = ()  # their data, in order; empty unless `Protocol.from_data`


class Contexts(NamedTuple):
    """What is known of the contexts that were drawn from the tasks' own data."""

    present: Array  # [N, W] bool: there was any data to draw from
    rewarded: Array  # [N, W] bool: a positive reward is in the context


class Protocol(NamedTuple):
    """How an agent comes by its adaptation, and what is scored: a file of `evaluation/protocols/`.

    It trains nothing. Each of N tasks is played in W independent streams of consecutive episodes.
    """

    name: str  # of its block of `results.json`, an identifier
    title: str  # in tables and figures
    # (params, train TaskData, Given, W, key) -> (what `policy` is given, leaves [N, W, ...];
    # `Contexts`, or None unless `from_data`). Jitted, once for each W and set of tasks.
    prepare: Callable
    policy: Policy
    streams: int  # W in the evaluation after the training
    episodes: int  # of a stream
    # Steps of a stream, over its resets, before it is scored: whole episodes that start afterwards
    budget: int = 0
    # Whether `prepare` infers the adaptation from the tasks' own data and the policy never changes
    # it; such a protocol is also evaluated by source, and critics' values are checked under it
    from_data: bool = False
    inferences: int = 1  # calls of `Method.infer` in one stream, for benchmarks
    # (key of the evaluation) -> (key of `prepare`, key of the episodes): the same key of episodes
    # gives streams of the same number the same starts
    keys: Callable = lambda key: jax.random.split(jax.random.fold_in(key, 1))
