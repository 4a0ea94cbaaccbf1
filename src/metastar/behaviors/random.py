"""Uniformly random actions only."""

import jax
import numpy as np
from ml_collections import ConfigDict

from metastar.behaviors import Behavior
from metastar.envs.rollout import no_adaptation, rollout, uniform_policy
from metastar.types import Env


def make(cfg: ConfigDict, env: Env) -> Behavior:
    """Makes `cfg.collect.random_episodes` episodes per task.

    Actions are uniform on [-s, s]^A with `s = cfg.collect.random_action_scale`.
    """
    num_episodes = cfg.collect.random_episodes
    policy = uniform_policy(env.spec.action_dim, cfg.collect.random_action_scale)

    @jax.jit
    def play(tasks, key):
        streams = no_adaptation(len(jax.tree.leaves(tasks)[0]), num_episodes)
        return rollout(env, policy, None, streams, tasks, key, 1)

    def run(tasks, key, report):
        trajectory = jax.tree.map(lambda x: np.asarray(x[:, :, 0]), play(tasks, key))
        mean = np.where(trajectory.valid, trajectory.reward, 0).sum(-1).mean()
        report(f"random: {num_episodes} episodes per task, mean return {mean:.2f}")
        index = np.zeros(trajectory.reward.shape[:2], np.int32)
        return trajectory, index, index

    return Behavior(policies=("random",), stages=("random",), run=run)
