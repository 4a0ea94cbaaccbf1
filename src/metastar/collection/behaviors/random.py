"""Uniformly random actions only."""

import jax
import numpy as np
from ml_collections import ConfigDict

from metastar.collection.behavior import Behavior, Episodes, keys_of
from metastar.envs.rollout import make_rollout, no_adaptation, uniform_policy
from metastar.types import Env

DEFAULTS = {}
READS = ("collect",)


def make(cfg: ConfigDict, env: Env) -> Behavior:
    """Makes E = `cfg.collect.random_episodes` episodes per task, leaves [N, E, T, ...].

    Actions are uniform on [-s, s]^A with `s = cfg.collect.random_action_scale`.
    """
    num_episodes = cfg.collect.random_episodes
    play = make_rollout(
        env, uniform_policy(env.spec.action_dim, cfg.collect.random_action_scale), 1
    )

    def run(tasks, key, report, first=0):
        num_tasks = len(jax.tree.leaves(tasks)[0])
        keys = keys_of(key, first, num_tasks, num_episodes)
        steps = play(None, no_adaptation(num_tasks, num_episodes), tasks, keys)
        steps = steps._replace(success=None)  # no part of a data set
        trajectory = jax.tree.map(lambda x: np.asarray(x)[:, :, 0], steps)
        mean = np.where(trajectory.valid, trajectory.reward, 0).sum(-1).mean()
        report(f"random: {num_episodes} episodes per task, mean return {mean:.2f}")
        index = np.zeros((num_tasks, num_episodes), np.int32)
        return Episodes(trajectory, index, index, index + first + np.arange(num_tasks)[:, None])

    return Behavior(policies=("random",), stages=("random",), run=run, together=None)
