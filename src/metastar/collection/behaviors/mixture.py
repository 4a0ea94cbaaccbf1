"""Several behaviours in one data set: each makes its episodes of every task, tagged as its own."""

import jax
import numpy as np
from ml_collections import ConfigDict

from metastar import registry
from metastar.collection import online
from metastar.errors import UserError
from metastar.types import Behavior, Env


def make(cfg: ConfigDict, env: Env) -> Behavior:
    """Runs the behaviours that `cfg.collect.mixture` names, separated by commas, in this order.

    Each reads the same `cfg.collect`. What two of them call alike ("random") is one policy.

    Raises:
        UserError: a name is unknown, empty, given twice, or "mixture".
    """
    names = [name.strip() for name in cfg.collect.mixture.split(",")]
    if len(set(names)) < len(names) or "mixture" in names:
        raise UserError(
            f"collect.mixture is {cfg.collect.mixture!r} but must name different behaviors "
            "other than 'mixture', separated by commas"
        )
    parts = [registry.find("behavior", name).make(cfg, env) for name in names]
    policies = tuple(dict.fromkeys(name for part in parts for name in part.policies))
    stages = tuple(dict.fromkeys(name for part in parts for name in part.stages))

    def run(tasks, key, report):
        made = []
        for part, key_part in zip(parts, jax.random.split(key, len(parts))):
            episodes = part.run(tasks, key_part, report)
            to_policy = np.array([policies.index(name) for name in part.policies])
            to_stage = np.array([stages.index(name) for name in part.stages])
            made.append(
                episodes._replace(policy=to_policy[episodes.policy], stage=to_stage[episodes.stage])
            )
        return online.join(*made)

    return Behavior(policies, stages, run)
