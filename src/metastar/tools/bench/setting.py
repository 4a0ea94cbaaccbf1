"""Random data of a config's shapes, so that a benchmark needs no data set and starts at once."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from metastar.collection import collect
from metastar.config import flatten
from metastar.data import store
from metastar.envs.make import profile_of, spec_of
from metastar.training import runs
from metastar.types import DataSpec, Method, TaskData


class Setting(NamedTuple):
    """A method on random data."""

    cfg: Any
    method: Method
    spec: DataSpec
    train: TaskData  # the training tasks
    all: TaskData  # these and the held-out ones


def make(cfg) -> Setting:
    """Builds the method of a config on data of `random_data`; raises as the method does."""
    tasks, split = collect.draw_tasks(cfg)
    every = random_data(cfg, tasks)
    train = jax.tree.map(lambda x: x[jnp.asarray(split["train"])], every)
    manifest = store.Manifest(cfg.family, tasks, split, ("a", "b"), ("a", "b"), {}, {}, {})
    spec = store.data_spec(manifest, train)
    return Setting(cfg, runs.make_method(cfg, spec), spec, train, every)


def random_data(cfg, tasks: dict[str, np.ndarray]) -> TaskData:
    """Whole episodes of noise, of two behaviours in turn, with room for two context windows.

    Observations and rewards are standard normal, actions uniform in [-1, 1].
    """
    env = spec_of(cfg.family, profile_of(cfg))
    steps = env.max_episode_steps
    length = max(x for path, x in flatten(cfg).items() if path.endswith("context_len"))
    episodes = max(4, -(-2 * length // steps))
    shape = len(next(iter(tasks.values()))), episodes
    rng = np.random.default_rng(0)
    behavior = np.broadcast_to(np.arange(episodes) % 2, shape)
    return TaskData(
        obs=jnp.asarray(rng.normal(size=(*shape, steps + 1, env.obs_dim)), jnp.float32),
        action=jnp.asarray(rng.uniform(-1, 1, (*shape, steps, env.action_dim)), jnp.float32),
        reward=jnp.asarray(rng.normal(size=(*shape, steps)), jnp.float32),
        done=jnp.zeros((*shape, steps), bool),
        length=jnp.full(shape, steps),
        policy=jnp.asarray(behavior),
        stage=jnp.asarray(behavior),
        task={name: jnp.asarray(x, jnp.float32) for name, x in tasks.items()},
        flat=jnp.tile(jnp.arange(episodes * steps), (shape[0], 1)),
        count=jnp.full(shape[0], episodes * steps),
    )
