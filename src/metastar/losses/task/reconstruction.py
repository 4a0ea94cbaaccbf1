"""Reconstruction given the code: predicts next state and reward from state, action and code."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from metastar.config.fields import COUNT, Field, Like
from metastar.models.nets.heads import Decoder
from metastar.ops import gaussian
from metastar.types import Array, Batch, Codes, DataSpec, TaskLoss, TaskModel, View

DEFAULTS = {
    "width": Field(
        Like("world_model.width", fallback=128), COUNT, "of each head's two hidden layers"
    ),
    "variance_power": Field(
        0.0, "[0, 1]", "p of beta-NLL: 0 is the likelihood, 1 squared errors", before=0.0
    ),
    "reward_given": Field(
        "next_obs",
        ("next_obs", "action"),
        "what the reward's head sees beside the code: state, action and next state (the chain "
        "rule), or state and action alone (UNICORN)",
        before="next_obs",
    ),
}

LIKELIHOOD_STD = 0.3  # of a prediction of the task model, in standard deviations of the data
BOUND_WEIGHT = 0.01  # on the spread of the log-variance bounds (PETS, appendix A.1)


def make(cfg: Any, spec: DataSpec, code_dim: int) -> TaskLoss:
    """`-log p(s' | s, a, z) - log p(r | s, a, s', z)`, in expectation a bound on I(X_t; Z | X_b).

    X_t = (r, s') is the part of a transition that depends on the task, X_b = (s, a) on behaviour:
    I(X_t; Z | X_b) >= H(X_t | X_b) - loss (Barber and Agakov 2003), and the first term does not
    depend on the code. UNICORN (Li et al. 2024, arXiv 2402.02429), equation 8, factored by the
    chain rule: the reward's head sees s' too, so that it has to explain the task and not the noise
    of the simulator. With a "positive" view the code of each window predicts the other window,
    which was drawn independently of it. Gaussian heads of two hidden layers; each term is
    `mean (x - m)^2 exp(-v) + v`.

    With `cfg.variance_power = p` each element of a term is weighted by exp(p v), which gets no
    gradient: beta-NLL (Seitzer et al. 2022, arXiv 2203.09168), equation 5. At p = 0 the gradient of
    an element grows as exp(-v) the better it is predicted; at p = 1 means are fitted as by squared
    errors. The metrics are the likelihoods for every p.

    UNICORN's own form is `cfg.reward_given="action"`, -log p(s' | s, a, z) - log p(r | s, a, z),
    with one view, which is predicted from its own code.
    """
    power, chained = cfg.variance_power, cfg.reward_given == "next_obs"
    heads = {"next_obs": _head(cfg.width, spec.obs_dim), "reward": _head(cfg.width, 1)}
    sizes = {"next_obs": 0, "reward": spec.obs_dim * chained}
    base = spec.obs_dim + spec.action_dim + code_dim

    def init(key):
        keys = jax.random.split(key, len(heads))
        return {
            name: heads[name].init(k, jnp.zeros((1, base + sizes[name])))["params"]
            for name, k in zip(heads, keys)
        }

    def mean_of_valid(x, view):
        return jnp.where(view.valid, x.mean(-1), 0).sum() / view.valid.sum()

    def loss(params, codes, batch, noise, hp):
        view, code = crossed(codes, batch)
        code = jnp.broadcast_to(code[:, None], (*view.reward.shape, code.shape[-1]))
        given = jnp.concatenate([view.obs, view.action, code], -1)
        inputs = {"next_obs": given, "reward": given}
        if chained:
            inputs["reward"] = jnp.concatenate([given, view.next_obs], -1)
        target = {"next_obs": view.next_obs - view.obs, "reward": view.reward[..., None]}
        metrics, total = {}, 0.0
        for name, head in heads.items():
            mean, logvar = head.apply({"params": params[name]}, inputs[name])
            nll = gaussian.nll(target[name], mean, logvar)
            metrics[f"reconstruction_{name}"] = mean_of_valid(nll, view)
            weighted = gaussian.beta_nll(target[name], mean, logvar, power)
            total += mean_of_valid(weighted, view)
            spread = params[name]["max_logvar"].sum() - params[name]["min_logvar"].sum()
            total += BOUND_WEIGHT * spread
        return total, metrics

    return TaskLoss(views=("context",), loss=loss, init=init)


def make_task_model(
    heads: Callable, cfg: Any, spec: DataSpec, whiten: Callable, unwhiten: Callable
) -> TaskModel:
    """The predictions of these heads as the `TaskModel` of a method that trains them.

    Args:
        heads: (exported parameters of the method) -> those of this loss.
        cfg: the settings of this file.
        spec: its sizes and the spread of rewards are used.
        whiten: obs [..., O] -> normalised obs [..., O], as in the loss.
        unwhiten: the inverse.
    """

    def next_obs(params, obs, action, code):
        return unwhiten(expected_next_obs(heads(params), whiten(obs), action, code, cfg.width))

    def reward(params, obs, action, next_obs, code):
        after = whiten(next_obs) if cfg.reward_given == "next_obs" else None
        return expected_reward(heads(params), whiten(obs), action, after, code, cfg.width)

    reward_std, obs_std = likelihood_stds(spec)
    return TaskModel(next_obs, reward, reward_std, next_obs_std=obs_std)


def likelihood_stds(spec: DataSpec) -> tuple[float, tuple[float, ...]]:
    """Standard deviations of the likelihoods of a reward and of a next state, in their units."""
    return (
        LIKELIHOOD_STD * max(spec.reward_std, 1e-6),
        tuple(LIKELIHOOD_STD * std for std in spec.obs_std),
    )


def expected_next_obs(params: Any, obs: Array, action: Array, code: Array, width: int) -> Array:
    """The mean of `p(s' | s, a, z)` for ONE transition under K codes: [K, O].

    Args:
        params: of this loss.
        obs: [O], normalised as in the loss.
        action: [A].
        code: [K, Z].
        width: the setting of that name.
    """
    given = _given(obs, action, code)
    mean, _ = _head(width, obs.shape[0]).apply({"params": params["next_obs"]}, given)
    return obs[None] + mean


def expected_reward(
    params: Any, obs: Array, action: Array, next_obs: Array | None, code: Array, width: int
) -> Array:
    """The mean of `p(r | s, a, s', z)` for ONE transition under K codes: [K].

    `next_obs` is [K, O], or None for a head that does not see it; the rest as for
    `expected_next_obs`.
    """
    given = _given(obs, action, code)
    if next_obs is not None:
        given = jnp.concatenate([given, next_obs], -1)
    mean, _ = _head(width, 1).apply({"params": params["reward"]}, given)
    return mean[:, 0]


def _given(obs, action, code):
    """Inputs [K, ...] of both heads."""
    shared = jnp.concatenate([obs, action])
    return jnp.concatenate([jnp.tile(shared[None], (code.shape[0], 1)), code], -1)


def _head(width, size):
    return Decoder((width,) * 2, size)


def crossed(codes: dict[str, Codes], batch: Batch) -> tuple[View, Array]:
    """The windows [V M, L] of V views and the codes [V M, Z] that they are predicted from.

    With two views that is the code of the other view.
    """
    view = jax.tree.map(lambda *x: jnp.concatenate(x), *(batch.views[name] for name in codes))
    return view, jnp.concatenate([code.task for code in codes.values()][::-1])
