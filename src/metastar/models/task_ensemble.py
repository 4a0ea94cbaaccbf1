"""An ensemble of models of a task: rewards and next states from code, state and action.

IDAQ (Wang et al. 2023, ICML, arXiv 2305.19529) scores what its agent has met by their errors, or by
how far they disagree.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from metastar.config.fields import COUNT, NOT_NEGATIVE, RATE, Field
from metastar.models.nets.mlp import MLP
from metastar.types import Array, DataSpec

DEFAULTS = {
    "members": Field(0, NOT_NEGATIVE, "E, models of each kind; 0: no ensemble. IDAQ 12", before=0),
    "hidden": Field(
        (128, 128), COUNT, "widths of the hidden layers; IDAQ 256, 256, 256", before=(128, 128)
    ),
    "rows": Field(64, COUNT, "of each task and member, drawn apart; IDAQ 256", before=64),
    "lr": Field(3e-4, RATE, "learning rate; IDAQ", swept=True, decays=True, before=3e-4),
    "first_dynamics": Field(
        True, "", "the first member learns next states too; not so in IDAQ's code", before=True
    ),
}


def idle(cfg) -> dict[str, str]:
    """Settings without effect under the other settings, which must not be swept, and why."""
    return {} if cfg.members else {"lr": "without members; set ensemble.members above 0"}


class TaskEnsemble(NamedTuple):
    """The models as functions of their stacked parameters."""

    members: int  # E
    init: Callable  # (key) -> params, leaves [E, ...]
    # (params, code [..., Z], obs [..., O], action [..., A]) -> reward [E, ...] and next state
    # [E, ..., O]
    predict: Callable
    predict_each: Callable  # the same on inputs [E, ..., n], each member's own


def make(cfg: Any, spec: DataSpec, code_dim: int) -> TaskEnsemble | None:
    """Binds the ensemble to its settings; None without members."""
    if not cfg.members:
        return None
    nets = {"reward": MLP(cfg.hidden, 1), "next_obs": MLP(cfg.hidden, spec.obs_dim)}
    size = code_dim + spec.obs_dim + spec.action_dim

    def init_one(key: Array) -> dict:
        keys = zip(nets, jax.random.split(key))
        return {name: nets[name].init(own, jnp.zeros(size))["params"] for name, own in keys}

    def predict_one(params, code, obs, action):
        x = jnp.concatenate([code, obs, action], -1)
        out = {name: net.apply({"params": params[name]}, x) for name, net in nets.items()}
        return out["reward"][..., 0], out["next_obs"]

    return TaskEnsemble(
        members=cfg.members,
        init=lambda key: jax.vmap(init_one)(jax.random.split(key, cfg.members)),
        predict=jax.vmap(predict_one, in_axes=(0, None, None, None)),
        predict_each=jax.vmap(predict_one),
    )
