"""The plain form of MetaSTAR's update, against which its speed is measured.

Plain: a critic that reads [s, z, a] joined, all sampled actions of all states at once, ordinary
differentiation, one jit. Everything else is the library's. The same parameters, laid out for the
one or the other, give the same update up to rounding.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from metastar import config
from metastar.methods import metastar
from metastar.models.nets.mlp import hidden_layer, output_layer
from metastar.training import runs
from metastar.types import Array, DataSpec, Method

_STATE, _ACTION = "hidden_0", "hidden_0_action"


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


def make(cfg: ConfigDict, spec: DataSpec) -> Method:
    """Binds MetaSTAR in its plain form; the exact gradient, whatever the config says of it."""
    plain = ConfigDict(cfg.to_dict())
    plain.agent.conservative.update({"tile_states": 0, "cql_gradient": "exact"})
    method = metastar.make(config.scope(plain, "metastar", metastar), spec, PlainCritic)
    return runs.bind(method, plain)


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
