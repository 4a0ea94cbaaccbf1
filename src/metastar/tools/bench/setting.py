"""Random data of a config's shapes, so that a benchmark needs no data set and starts at once."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from metastar.collection import collect
from metastar.config import flatten
from metastar.data import layout, store
from metastar.envs.make import profile_of, spec_of
from metastar.evaluation import likelihood
from metastar.evaluation.likelihood import Inference
from metastar.training import runs
from metastar.types import DataSpec, Method, TaskData


class Setting(NamedTuple):
    """A method on random data."""

    cfg: Any
    method: Method
    inference: Inference  # of the method, for what plays and infers
    spec: DataSpec
    train: TaskData  # the training tasks
    all: TaskData  # these and the held-out ones


def make(cfg) -> Setting:
    """Builds the method of a config on data of `random_data`; raises as the method does."""
    tasks, split = collect.draw_tasks(cfg)
    every = random_data(cfg, tasks)
    train = jax.tree.map(lambda x: x[jnp.asarray(split["train"])], every)
    env = spec_of(cfg.family, profile_of(cfg))
    manifest = store.Manifest(cfg.family, env, tasks, split, ("a", "b"), ("a", "b"), {}, {}, {})
    spec = store.data_spec(manifest, train)
    method = runs.make_method(cfg, spec)
    return Setting(cfg, method, likelihood.make(cfg.inference, method), spec, train, every)


def random_data(cfg, tasks: dict[str, np.ndarray]) -> TaskData:
    """Whole episodes of noise, alternately of two sources, enough for two context windows.

    Observations and rewards are standard normal, actions uniform in [-1, 1].
    """
    env = spec_of(cfg.family, profile_of(cfg))
    steps = env.max_episode_steps
    length = max(x for path, x in flatten(cfg).items() if path.endswith("context_len"))
    episodes = max(4, -(-2 * length // steps))
    shape = len(next(iter(tasks.values()))), episodes
    rng = np.random.default_rng(0)
    behavior = np.broadcast_to(np.arange(episodes) % 2, shape)
    blocks = {
        "obs": rng.normal(size=(*shape, steps + 1, env.obs_dim)).astype(np.float32),
        "action": rng.uniform(-1, 1, (*shape, steps, env.action_dim)).astype(np.float32),
        "reward": rng.normal(size=(*shape, steps)).astype(np.float32),
        "done": np.zeros((*shape, steps), bool),
        "length": np.full(shape, steps),
        "policy": behavior,
        "stage": behavior,
    }
    return layout.from_blocks(blocks, {n: np.asarray(x, np.float32) for n, x in tasks.items()})
