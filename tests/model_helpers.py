"""A tiny world model, its hyper-parameters and random batches, for tests."""

from functools import partial

import jax
import jax.numpy as jnp

import make_config
from metastar import config, registry
from metastar.types import Batch, Codes, DataSpec, View

OBS, ACTION, LENGTH = 3, 2, 6
SPEC = DataSpec("fake", OBS, ACTION, 1, 4, 10, (0.0,) * OBS, (1.0,) * OBS)
HP = {
    "world_model": {"recon_weight": 1.0, "dyn_weight": 1.0, "rep_weight": 0.1, "free_bits": 0.0},
    "task_losses": {"distance": 1.0, "infonce": 1.0},
}
AGENT_HP = {
    "actor_lr": 1e-3,
    "critic_lr": 1e-3,
    "alpha": 0.2,
    "beta": 0.5,
    "gamma": 0.9,
    "tau": 0.1,
    "actor_average": 0.0,
    "cloning": 0.0,
}


def tiny_cfg(**world_model):
    """A config with the settings of every task loss."""
    weights = dict.fromkeys((f"task_losses__{n}" for n in registry.names("task loss")), 0.0)
    cfg = make_config.base(**{**weights, "task_losses__distance": 1.0})
    cfg.world_model.update(
        latent_dim=4, width=8, num_layers=2, num_heads=2, context_len=LENGTH, code_dim=3
    )
    cfg.world_model.update(world_model)
    for name in registry.names("task loss"):
        if "width" in cfg.get(name, {}):
            cfg[name].width = cfg.world_model.width
    return cfg


def make_loss(module, cfg, spec):
    """A task loss, made of its part of a config."""
    name = module.__name__.rpartition(".")[2]
    return module.make(config.scope(cfg, name, module), spec, cfg.world_model.code_dim)


def as_codes(**arrays):
    """Codes [M, Z] by view, as task losses take them."""
    return {name: Codes(x) for name, x in arrays.items()}


def random_view(key, *shape):
    """Consecutive valid steps without an episode boundary, leaves [*shape, ...]."""
    return _random_view(key, shape)


@partial(jax.jit, static_argnums=1)
def _random_view(key, shape):
    keys = jax.random.split(key, 5)
    batch = shape[:-1]
    return View(
        obs=jax.random.normal(keys[0], (*shape, OBS)),
        action=jax.random.uniform(keys[1], (*shape, ACTION), minval=-1, maxval=1),
        reward=jax.random.normal(keys[2], shape),
        prev_reward=jax.random.normal(keys[3], shape),
        next_obs=jax.random.normal(keys[4], (*shape, OBS)),
        done=jnp.zeros(shape, bool),
        valid=jnp.ones(shape, bool),
        first=jnp.zeros(shape, bool),
        episode=jnp.zeros(shape, int),
        step=jnp.broadcast_to(jnp.arange(shape[-1]), shape),
        policy=jnp.zeros(batch, int),
        stage=jnp.zeros(batch, int),
    )


def random_batch(key, task_id, views=("context",)):
    keys = jax.random.split(key, len(views))
    task_id = jnp.array(task_id)
    shape = len(task_id), LENGTH
    return Batch(task_id, None, {n: random_view(k, *shape) for n, k in zip(views, keys)})


@jax.jit
def scramble(params, key):
    """Random parameters everywhere: the original start has tiny or constant entries."""
    leaves, structure = jax.tree.flatten(params)
    keys = jax.random.split(key, len(leaves))
    noisy = [x + 0.3 * jax.random.normal(k, x.shape) for x, k in zip(leaves, keys)]
    return jax.tree.unflatten(structure, noisy)


def scrambled(init, key, *args):
    """Such parameters of the shapes of `init(key, *args)`, by one program for all of them."""
    return jax.jit(lambda key: scramble(init(key, *args), key))(key)
