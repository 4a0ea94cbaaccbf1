"""Behaviour-regularised actor-critic: a KL divergence in its dual form, and the losses around it.

Wu et al. 2019 (arXiv 1911.11361), in the form of FOCAL (Li et al. 2021, arXiv 2010.01112). Networks
are given as functions of their parameters.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from metastar.ops import gaussian
from metastar.types import Array

_INSIDE_LOG = 1e-8  # FOCAL's, as that under the root below
_INSIDE_ROOT = 1e-8


class Noise(NamedTuple):
    """What an update draws, for K batches of R rows."""

    policy: Array  # [K, R, A] standard normal
    mix: Array  # [K, R] uniform on [0, 1)


class Places(NamedTuple):
    """Where the dual network is trained, leaves [R, ...]."""

    obs_code: Array  # [n]
    action: Array  # [A] of the data
    pi_action: Array  # [A] of the policy; data
    mix: Array  # [] in [0, 1): the penalty looks at `pi_action + mix (action - pi_action)`


def draw_noise(key: Array, batches: int, num_rows: int, action_dim: int) -> Noise:
    """Draws the noise of one update."""
    key_policy, key_mix = jax.random.split(key)
    return Noise(
        policy=jax.random.normal(key_policy, (batches, num_rows, action_dim)),
        mix=jax.random.uniform(key_mix, (batches, num_rows)),
    )


def divergence(dual_fn: Callable, obs_code: Array, action: Array, pi_action: Array) -> Array:
    """`-T(s, a) + log T(s, a_pi) + 1` with T the softplus of the dual network: [R], nats.

    Its mean is a lower bound on KL(pi || data), exact for the best T = pi / data: Nowozin et al.
    2016 (arXiv 1606.00709), table 2. One row may have any value.

    Args:
        dual_fn: (obs_code, action) -> [R].
        obs_code: [R, n].
        action: [R, A] of the data.
        pi_action: [R, A] of the policy.

    >>> constant = lambda obs_code, action: jnp.log(jnp.expm1(jnp.ones(action.shape[:-1])))
    >>> zero = jnp.zeros((1, 2))
    >>> abs(round(float(divergence(constant, zero, zero, zero)[0]), 4))  # T = 1 everywhere
    0.0
    """
    of_data = nn.softplus(dual_fn(obs_code, action))
    of_policy = nn.softplus(dual_fn(obs_code, pi_action))
    return -of_data + jnp.log(of_policy + _INSIDE_LOG) + 1


def dual_loss(
    params: Any, places: Places, weight: Array, penalty: str, dual_fn: Callable
) -> tuple[Array, dict[str, Array]]:
    """`-mean divergence + weight mean max(0, slope - 1)^2`, descended by the dual network.

    `slope` is the norm of its gradient in the action, between an action of the policy and one of
    the data (Gulrajani et al. 2017, arXiv 1704.00028), or the size of its output there for the
    penalty "value".

    Args:
        params: of the dual network.
        places: leaves [R, ...].
        weight: [] of the penalty.
        penalty: "gradient" or "value".
        dual_fn: (params, obs_code, action) -> [...].

    Returns:
        Scalar and metrics.
    """

    def of(obs_code, action):
        return dual_fn(params, obs_code, action)

    found = divergence(of, *places[:3]).mean()
    cost = jnp.mean(jnp.maximum(0, slope(params, places, penalty, dual_fn) - 1) ** 2)
    metrics = {"dual_divergence": found, "gradient_penalty": weight * cost}
    return weight * cost - found, metrics


def slope(params: Any, places: Places, penalty: str, dual_fn: Callable) -> Array:
    """What the penalty of `dual_loss` keeps below 1: [R]; arguments are those of that function."""
    between = places.pi_action + places.mix[:, None] * (places.action - places.pi_action)
    if penalty == "value":
        square = dual_fn(params, places.obs_code, between) ** 2
    else:
        gradient = jax.vmap(jax.grad(dual_fn, 2), (None, 0, 0))(params, places.obs_code, between)
        square = jnp.sum(gradient**2, -1)
    return jnp.sqrt(_INSIDE_ROOT + square)


def value_and_slope_of_two(
    dual_fn: Callable, params: Any, other: Any, obs_code: Array, action: Array
) -> Array:
    """The network under `params` [R]; its gradient in the action goes through the kernels `other`.

    The units that are switched off are those of `params`. So it is where weights are changed in
    place between the two passes, as in FOCAL's code.
    """

    def swap(layer, args, kwargs, context):
        out, stop = layer(*args, **kwargs), jax.lax.stop_gradient
        if not isinstance(context.module, nn.Dense) or context.method_name != "__call__":
            return out
        (x,) = args
        return stop(out) + (x - stop(x)) @ stop(other[context.module.name]["kernel"])

    with nn.intercept_methods(swap):
        return dual_fn(params, obs_code, action)


def critic_loss(
    params: Any, obs_code: Array, action: Array, target: Array, q_fn: Callable
) -> tuple[Array, dict[str, Array]]:
    """`sum_i mean (Q_i(s, a) - target)^2`: each critic has the gradient of its own error.

    Args:
        params: of the critics.
        obs_code: [R, n].
        action: [R, A].
        target: [R]; data.
        q_fn: (params, obs_code, action) -> [2, R].

    Returns:
        Scalar and metrics.
    """
    q = q_fn(params, obs_code, action)
    loss = jnp.mean((q - target[None]) ** 2, -1).sum()
    return loss, {"critic_loss": loss / len(q), "q_mean": q.mean()}


def value_loss(
    params: Any, obs_code: Array, soft_value: Array, v_fn: Callable
) -> tuple[Array, dict[str, Array]]:
    """`mean (V(s) - [min_i Q_i(s, a_pi) - log pi(a_pi | s)])^2`, the bracket [R] being data."""
    v = v_fn(params, obs_code)
    loss = jnp.mean((v - soft_value) ** 2)
    return loss, {"value_loss": loss, "v_mean": v.mean()}


def policy_loss(
    params: Any,
    obs_code: Array,
    noise: Array,
    q_fn: Callable,
    divergence_fn: Callable,
    alpha: Array,
    entropy: Array,
    decay: Array,
    policy_fn: Callable,
) -> tuple[Array, dict[str, Array]]:
    """`mean [entropy log pi - min Q(s, a_pi) + alpha d] + decay (mean mu^2 + mean log_std^2)`.

    Args:
        params: of the policy.
        obs_code: [R, n].
        noise: [R, A] standard normal.
        q_fn: action -> [2, R] at these states.
        divergence_fn: action of the policy -> d [R].
        alpha: [] weight of the divergence.
        entropy: [] weight of the entropy.
        decay: [] of mean and log deviation, before tanh.
        policy_fn: (params, obs_code) -> mean, log_std [R, A].

    Returns:
        Scalar and metrics; `entropy` is in nats.
    """
    mean, log_std = policy_fn(params, obs_code)
    action, log_prob = gaussian.tanh_normal_sample(mean, log_std, noise)
    total = (entropy * log_prob - q_fn(action).min(0) + alpha * divergence_fn(action)).mean()
    total = total + decay * ((mean**2).mean() + (log_std**2).mean())
    return total, {"actor_loss": total, "entropy": -log_prob.mean()}
