"""CLUB: an upper bound on the information of the code about states and actions, within a task."""

import math
from typing import Any

import jax
import jax.numpy as jnp

from metastar.config.fields import COUNT, RATE, Field, Like
from metastar.models.nets.heads import GaussianHead
from metastar.models.nets.mlp import MLP
from metastar.ops import gaussian
from metastar.types import DataSpec, Opponent, TaskLoss

DEFAULTS = {
    "width": Field(
        Like("world_model.width", fallback=128), COUNT, "of its opponent's two hidden layers"
    ),
    "lr": Field(1e-4, RATE, "learning rate of its opponent", swept=True, decays=True, before=1e-4),
    "inner_steps": Field(1, COUNT, "steps of the opponent in an update", before=1),
}


def make(cfg: Any, spec: DataSpec, code_dim: int) -> TaskLoss:
    """`E log q(z | x_b) - E log q(z' | x_b)`, x_b = (s, a) of a window, z' of the task's other one.

    Cheng et al. 2020 (arXiv 2006.12013), equation 9, as CSRO uses it (Zhang et al. 2023, NeurIPS,
    equation 7), with q a Gaussian of the code given one transition, averaged over the window. It is
    an upper bound on I(Z; X_b | M) where q is exact: marginal samples come from the same task, so
    that information about the task that behaviour contains is not penalised. q is the opponent,
    fitted to the codes by maximum likelihood.
    """
    nets = {"body": MLP((cfg.width,) * 2, code_dim), "head": GaussianHead(code_dim)}
    views = ("context", "positive")
    inputs = {"body": spec.obs_dim + spec.action_dim, "head": code_dim}

    def init(key):
        keys = jax.random.split(key, len(nets))
        return {
            name: net.init(k, jnp.zeros((1, inputs[name])))["params"]
            for k, (name, net) in zip(keys, nets.items())
        }

    def log_likelihood(params, view, code):
        """Of codes [M, Z] given windows [M, L], nats: [M]."""
        x = jnp.concatenate([view.obs, view.action], -1)
        x = nets["body"].apply({"params": params["body"]}, x)
        mean, logvar = nets["head"].apply({"params": params["head"]}, jax.nn.relu(x))
        each = -0.5 * (gaussian.nll(code[:, None], mean, logvar) + math.log(2 * math.pi)).sum(-1)
        return jnp.where(view.valid, each, 0).sum(-1) / jnp.maximum(view.valid.sum(-1), 1)

    def fit(params, codes, batch, noise):
        pairs = [(batch.views[name], codes[name].task) for name in views]
        value = -sum(log_likelihood(params, *pair).mean() for pair in pairs) / len(pairs)
        return value, {"club_fit": value}

    def loss(params, codes, batch, noise, hp):
        bound = 0.0
        for name, other in (views, views[::-1]):
            view = batch.views[name]
            own = log_likelihood(params, view, codes[name].task)
            bound += (own - log_likelihood(params, view, codes[other].task)).mean() / 2
        return bound, {"club_bound": bound}

    opponent = Opponent(init, fit, inner_steps=cfg.inner_steps)
    return TaskLoss(views, loss, opponent=opponent)
