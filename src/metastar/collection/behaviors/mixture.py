"""Several behaviours in one data set: each makes its own episodes of every task."""

import jax
import numpy as np
from ml_collections import ConfigDict

from metastar.collection import online
from metastar.collection.behavior import Behavior
from metastar.config import schema
from metastar.config.fields import Field
from metastar.errors import UserError
from metastar.types import Env

DEFAULTS = {
    "behaviors": Field(
        "sac,td3",
        "behavior",
        "behaviours to run, one after the other",
        selector=True,
        before="sac,td3",
    ),
}
READS = ("collect", "env")


def make(cfg: ConfigDict, env: Env) -> Behavior:
    """Runs the behaviours that `cfg.behaviors` names, separated by commas, in this order.

    Each reads the same `cfg.collect`. A policy that two of them name alike ("random") is one policy
    of the data set. Episodes are joined along their axis, leaves [N, E, T, ...].

    Raises:
        UserError: a name is unknown, empty, given twice, or "mixture".
    """
    names = [name.strip() for name in cfg.behaviors.split(",")]
    if len(set(names)) < len(names) or "mixture" in names:
        raise UserError(
            f"collect.mixture.behaviors is {cfg.behaviors!r} but must name different behaviors "
            "other than 'mixture', separated by commas"
        )
    parts = [schema.make(cfg, "behavior", name, env) for name in names]
    policies = tuple(dict.fromkeys(name for part in parts for name in part.policies))
    stages = tuple(dict.fromkeys(name for part in parts for name in part.stages))

    together = next((part.together for part in parts if part.together), None)

    def run(tasks, key, report, *first):
        made = []
        for part, key_part in zip(parts, jax.random.split(key, len(parts))):
            episodes = part.run(tasks, key_part, report, *first)
            to_policy = np.array([policies.index(name) for name in part.policies])
            to_stage = np.array([stages.index(name) for name in part.stages])
            made.append(
                episodes._replace(policy=to_policy[episodes.policy], stage=to_stage[episodes.stage])
            )
        return online.join(*made)

    return Behavior(policies, stages, run, together)
