"""A small data set on the point robot, drawn from a seed: for tests that need no behaviour."""

import jax
import numpy as np

from metastar.data import layout
from metastar.types import DataSpec


def point_robot_data(num_tasks=4, episodes=4, steps=60, seed=0):
    """Random walks of 0.1 per step; reward 1 in a disc around the origin."""
    rng = np.random.default_rng(seed)
    shape = (num_tasks, episodes)
    action = rng.uniform(-1, 1, (*shape, steps, 2)).astype(np.float32)
    start = rng.uniform(-1, 1, (*shape, 1, 2)).astype(np.float32)
    obs = np.concatenate([start, start + 0.1 * np.cumsum(action, -2)], -2)
    reward = (np.linalg.norm(obs[..., 1:, :], axis=-1) < 0.5).astype(np.float32)
    blocks = {
        "obs": obs,
        "action": action,
        "reward": reward,
        "done": np.zeros((*shape, steps), bool),
        "length": np.full(shape, steps),
        "policy": np.zeros(shape, int),
        "stage": np.zeros(shape, int),
    }
    task = {"goal": rng.normal(size=(num_tasks, 2)).astype(np.float32)}
    return layout.from_blocks(blocks, task)


def point_robot_spec(num_tasks=4):
    return DataSpec(
        family="point_robot_sparse",
        obs_dim=2,
        action_dim=2,
        task_dim=2,
        num_tasks=num_tasks,
        max_episode_steps=60,
        obs_mean=(0.1, -0.2),
        obs_std=(0.9, 1.1),
    )


def one_window(view):
    """A window [L] as `Method.infer` takes it, [1, L]."""
    return jax.tree.map(lambda x: x[None], view)
