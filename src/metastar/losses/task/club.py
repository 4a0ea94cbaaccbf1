"""CLUB: an upper bound on the information of the code about states and actions, within a task."""

import math
from typing import Any

import jax
import jax.numpy as jnp

from metastar.config.fields import COUNT, RATE, Field, Like
from metastar.errors import UserError
from metastar.models.nets.heads import GaussianHead
from metastar.models.nets.mlp import MLP
from metastar.ops import gaussian
from metastar.types import DataSpec, Opponent, TaskLoss

FIT_WEIGHT = 10.0  # of the reference's fit; an optimiser that scales its steps hardly sees it
INPUTS = {"action": ("obs", "action"), "reward": ("obs", "action", "reward")}
DEFAULTS = {
    "codes": Field(
        "window",
        ("window", "transition"),
        "whose information it bounds: the code of a window, or of a transition alone (CSRO), for "
        "encoders that make those",
        before="window",
    ),
    "inputs": Field(
        "action",
        tuple(INPUTS),
        "what its opponent sees of a transition: (s, a), CSRO; or (s, a, r), its code's other way",
        before="action",
    ),
    "width": Field(
        Like("world_model.width", fallback=128), COUNT, "of its opponent's hidden layers; CSRO 200"
    ),
    "lr": Field(
        1e-4, RATE, "learning rate of its opponent; CSRO 3e-4", swept=True, decays=True, before=1e-4
    ),
    "inner_steps": Field(1, COUNT, "steps of the opponent in an update", before=1),
}


def make(cfg: Any, spec: DataSpec, code_dim: int) -> TaskLoss:
    """`E log q(z | x_b) - E log q(z' | x_b)`, x_b = (s, a) of a transition, z' of the same task.

    Cheng et al. 2020 (arXiv 2006.12013), equation 9, as CSRO uses it (Zhang et al. 2023, NeurIPS,
    equation 7). It is an upper bound on I(Z; X_b | M) where q is exact: marginal samples come from
    the same task, so that information about the task that behaviour contains is not penalised. q is
    the opponent, fitted to the codes by maximum likelihood.

    Raises `UserError`, when it is used, if it is to have codes of transitions and there are none.
    """
    return {"window": _of_windows, "transition": _of_transitions}[cfg.codes](cfg, spec, code_dim)


def _of_windows(cfg: Any, spec: DataSpec, code_dim: int) -> TaskLoss:
    """`E log q(z | x_b) - E log q(z' | x_b)`, x_b = (s, a) of a window, z' of the task's other one.

    q is a Gaussian of the code given one transition, averaged over the window.
    """
    nets = {"body": MLP((cfg.width,) * 2, code_dim), "head": GaussianHead(code_dim)}
    views = ("context", "positive")
    inputs = {"body": _size(cfg, spec), "head": code_dim}

    def init(key):
        keys = jax.random.split(key, len(nets))
        return {
            name: net.init(k, jnp.zeros((1, inputs[name])))["params"]
            for k, (name, net) in zip(keys, nets.items())
        }

    def log_likelihood(params, view, code):
        """Of codes [M, Z] given windows [M, L], nats: [M]."""
        x = nets["body"].apply({"params": params["body"]}, _seen(cfg, view))
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


def _of_transitions(cfg: Any, spec: DataSpec, code_dim: int) -> TaskLoss:
    """The same on codes of single transitions, z' that of every transition of the context: CSRO.

    With m and v the mean and the variance of q, both from a tanh and v from a softplus after it:
    `mean_ij (z_j - m_i)^2 / v_i - mean_i (z_i - m_i)^2 / v_i`, also over dimensions, twice the
    difference of log-likelihoods. Fitted by `10 mean (z - m)^2 / 2v + log(v) / 2`.
    """
    net = MLP((cfg.width,) * 3, 2 * code_dim)

    def init(key):
        return {"net": net.init(key, jnp.zeros((1, _size(cfg, spec))))["params"]}

    def gaussian_of(params, view):
        """Means and variances [M, L, Z]."""
        x = jnp.tanh(net.apply({"params": params["net"]}, _seen(cfg, view)))
        mean, variance = jnp.split(x, 2, -1)
        return mean, jax.nn.softplus(variance)

    def mean_of(fn, params, codes, batch):
        """Mean of `fn(mean, variance, code, weight)`, all [M, L, Z], over transitions and views."""
        total = 0.0
        for name, code in codes.items():
            view = batch.views[name]
            weight = view.valid / jnp.maximum(view.valid.sum(-1, keepdims=True), 1)
            weight = jnp.broadcast_to(weight[..., None], _each(code).shape)
            value = fn(*gaussian_of(params, view), code.each, weight)
            total += (weight * value).sum(1).mean() / len(codes)
        return total

    def misfit(mean, variance, code, weight):
        return (code - mean) ** 2 / (2 * variance) + 0.5 * jnp.log(variance)

    def excess(mean, variance, code, weight):
        # The mean over j of (z_j - m)^2 is the variance of z and the square of its mean's distance.
        centre = (weight * code).sum(1, keepdims=True)
        others = (weight * (code - centre) ** 2).sum(1, keepdims=True) + (centre - mean) ** 2
        return (others - (code - mean) ** 2) / variance

    def fit(params, codes, batch, noise):
        value = FIT_WEIGHT * mean_of(misfit, params, codes, batch)
        return value, {"club_fit": value}

    def loss(params, codes, batch, noise, hp):
        bound = mean_of(excess, params, codes, batch)
        return bound, {"club_bound": bound}

    opponent = Opponent(init, fit, inner_steps=cfg.inner_steps)
    return TaskLoss(("context",), loss, opponent=opponent)


def _each(code):
    if code.each is None:
        raise UserError(
            "club.codes='transition' needs a code of every transition, which this encoder does not "
            "make; set it to 'window', or encoder.name to 'mean_mlp'"
        )
    return code.each


def _seen(cfg, view):
    """The opponent's inputs [M, L, n]."""
    columns = (getattr(view, name) for name in INPUTS[cfg.inputs])
    return jnp.concatenate([x if x.ndim == view.obs.ndim else x[..., None] for x in columns], -1)


def _size(cfg, spec):
    return spec.obs_dim + spec.action_dim + (cfg.inputs == "reward")
