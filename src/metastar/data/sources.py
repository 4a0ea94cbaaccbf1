"""Sources: a source is a behaviour policy at a stage of its learning, as the origin of data."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from metastar.types import TaskData


class Source(NamedTuple):
    """A pair of a behaviour policy and a stage that occurs in a data set."""

    name: str  # "sac expert"; "random" where policy and stage have one name
    policy: int  # index into the manifest's table of behaviour policies
    stage: int  # index into the manifest's table of stages


def sources(
    policies: Sequence[str], stages: Sequence[str], policy: np.ndarray, stage: np.ndarray
) -> list[Source]:
    """Lists the sources of a data set, by policy and then by stage, in the order of the tables.

    Args:
        policies: the manifest's table of behaviour policies.
        stages: the manifest's table of stages.
        policy: int [...], usually [N, E], index into `policies`.
        stage: int, of the same shape, index into `stages`.

    Returns:
        One `Source` for each pair that at least one episode has.
    """
    pairs = sorted(set(zip(np.ravel(policy).tolist(), np.ravel(stage).tolist())))
    return [Source(_name(policies[p], stages[s]), p, s) for p, s in pairs]


def sources_in(
    policies: Sequence[str], stages: Sequence[str], parts: Sequence[TaskData]
) -> list[Source]:
    """Lists the sources of several sets of tasks, those that draws may not see among them."""
    there = [np.asarray(part.length) > 0 for part in parts]
    tags = [
        np.concatenate([np.asarray(tag)[real] for tag, real in zip(of_kind, there)])
        for of_kind in zip(*((part.policy, part.stage) for part in parts))
    ]
    return sources(policies, stages, *tags)


def _name(policy: str, stage: str) -> str:
    return policy if policy == stage else f"{policy} {stage}"
