"""MetaSTAR's joint update: its parts alone, and the plain form that its speed is compared with.

The plain form has a critic on the joined input [s, z, a], all sampled actions of all states at
once, ordinary differentiation, one jit. Everything else is the library's. With the same parameters,
in the layout of either form, both give the same update up to rounding.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from metastar import config
from metastar.agents import conservative
from metastar.data.rows import flatten, real_transitions
from metastar.methods import metastar
from metastar.models.acting import AGENT
from metastar.models.nets.actor_critic import Actor
from metastar.models.nets.mlp import hidden_layer, output_layer
from metastar.models.rollouts import roll_out
from metastar.training import runs
from metastar.types import Array, DataSpec, Method, RowSpec

_STATE, _ACTION = "hidden_0", "hidden_0_action"


def parts(cfg: ConfigDict, spec: DataSpec) -> dict[str, Callable]:
    """Updates of the terms of `methods.metastar.update`.

    Codes are zero and real rows take the place of imagined ones: the work is the same.
    """
    system = metastar.bind(config.scope(cfg, "metastar", metastar), spec)
    num_imagined = cfg.imagine.num_rollouts * cfg.imagine.horizon
    cycle = jnp.arange(cfg.sampler.batch_size) % (cfg.sampler.batch_size - num_imagined)

    def no_code(batch):
        return jnp.zeros((batch.task_id.shape[0], cfg.world_model.code_dim))

    def world_model(state, batch, key, hp, step):
        return metastar.train_model(system, state, batch, key, hp, hp["world_model"]["lr"])[:2]

    def imagine(state, batch, key, hp, step):
        act = partial(system.agent.act, state[AGENT].params, greedy=False)
        world = state[metastar.MODEL].params, system.cfg, hp["imagine"]["penalty"]
        codes = metastar.imagined_tasks(system, world[0], no_code(batch), key)
        start = batch.views["start"], codes[0]
        return state, roll_out(*world, *start, act, key, spec.action_dim, codes[1])._asdict()

    def critic(state, batch, key, hp, step):
        rows = jax.tree.map(lambda x: x[:, cycle], real_transitions(batch, no_code(batch)))
        own = hp["agent"][cfg.agent.name]
        learner, metrics = system.agent.update(state[AGENT], flatten(rows), key, own, step)
        return {**state, AGENT: learner}, metrics

    return {"world_model": world_model, "imagine": imagine, "critic": critic}


class PlainCritic(nn.Module):
    """`Critic` with one first layer on the joined input, so every action repeats its state."""

    hidden: tuple[int, ...]

    @nn.compact
    def __call__(self, obs_code: Array, action: Array) -> Array:
        """Returns [...] for an action [..., A], [..., K] for K actions [..., K, A]."""
        if action.ndim > obs_code.ndim:
            shape = (*action.shape[:-1], obs_code.shape[-1])
            obs_code = jnp.broadcast_to(obs_code[..., None, :], shape)
        x = jnp.concatenate([obs_code, action], axis=-1)
        for i, width in enumerate(self.hidden):
            x = nn.relu(hidden_layer(width, f"hidden_{i}")(x))
        return output_layer(1, 3e-3, "output")(x)[..., 0]


def plain(cfg: ConfigDict, spec: DataSpec) -> Method:
    """Binds MetaSTAR in its plain form; the exact gradient, whatever the config says of it."""
    changed = ConfigDict(cfg.to_dict())
    changed.agent.conservative.update({"tile_states": 0, "cql_gradient": "exact"})
    system = metastar.bind(config.scope(changed, "metastar", metastar), spec)
    own = changed.agent.conservative
    nets = conservative.Nets(Actor(own.hidden, spec.action_dim), PlainCritic(own.hidden))
    num_imagined = cfg.imagine.num_rollouts * cfg.imagine.horizon
    rows = RowSpec(spec.action_dim, cfg.sampler.batch_size, num_imagined)
    agent = conservative.bind(nets, system.cfg.agent.conservative, rows)
    return runs.bind(metastar.method_of(system._replace(agent=agent)), changed)


def to_plain(tree: Any) -> Any:
    """Joins the two kernels of every critic's first layer in a pytree, such as a TrainState."""

    def is_critic(node):
        return isinstance(node, dict) and _ACTION in node

    def join(node):
        if not is_critic(node):
            return node
        kernels = [node[_STATE]["kernel"], node[_ACTION]["kernel"]]
        first = {**node[_STATE], "kernel": jnp.concatenate(kernels, axis=-2)}
        return {name: layer for name, layer in node.items() if name != _ACTION} | {_STATE: first}

    return jax.tree.map(join, tree, is_leaf=is_critic)
