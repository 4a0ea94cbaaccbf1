"""Diagonal Gaussians and the tanh-squashed Gaussian of an actor."""

import math

import jax
import jax.numpy as jnp

from metastar.types import Array

TANH_EPSILON = 1e-6  # keeps the density finite where tanh rounds to one; the reference's value


def sample(mean: Array, logvar: Array, noise: Array) -> Array:
    """Reparameterised draw `mean + exp(logvar / 2) * noise`; all [...]."""
    return mean + jnp.exp(0.5 * logvar) * noise


def kl(mean_p: Array, logvar_p: Array, mean_q: Array, logvar_q: Array) -> Array:
    """Divergence KL(p || q) in nats of diagonal Gaussians: the sum of `kl_elements`.

    Args:
        mean_p: [..., D].
        logvar_p: [..., D].
        mean_q: [..., D].
        logvar_q: [..., D].

    Returns:
        [...], not negative.
    """
    return jnp.sum(kl_elements(mean_p, logvar_p, mean_q, logvar_q), axis=-1)


def kl_elements(mean_p: Array, logvar_p: Array, mean_q: Array, logvar_q: Array) -> Array:
    """KL(p || q) in nats of each pair of Gaussians, not negative; all [...].

    `1/2 [logvar_q - logvar_p + (var_p + (mean_p - mean_q)^2) / var_q - 1]`
    """
    log_ratio = logvar_p - logvar_q
    distance = (mean_p - mean_q) ** 2 * jnp.exp(-logvar_q)
    return 0.5 * (jnp.exp(log_ratio) - log_ratio + distance - 1)


def nll(x: Array, mean: Array, logvar: Array) -> Array:
    """Elementwise `(x - mean)^2 exp(-logvar) + logvar`, all [...].

    Twice the negative log-likelihood without its constant: the form of PETS (Chua et al. 2018,
    arXiv 1805.12114, equation 1), which MetaSTAR uses for states and rewards.
    """
    return (x - mean) ** 2 * jnp.exp(-logvar) + logvar


def beta_nll(x: Array, mean: Array, logvar: Array, power: float) -> Array:
    """Elementwise `sg(exp(power logvar)) nll(x, mean, logvar)`, all [...].

    beta-NLL, Seitzer et al. 2022 (arXiv 2203.09168), equation 5: an element's gradient on its mean
    is `exp((power - 1) logvar)` times its error, so that the elements that are predicted best do
    not keep the others from starting. At power 0 it is the likelihood; at 1 means are fitted as by
    squared errors.
    """
    return jax.lax.stop_gradient(jnp.exp(power * logvar)) * nll(x, mean, logvar)


def tanh_normal_sample(mean: Array, log_std: Array, noise: Array) -> tuple[Array, Array]:
    """Draws `a = tanh(u)`, `u = mean + std * noise`, and its log-density in nats.

    `log p(a) = sum_i [log N(u_i; mean_i, std_i) - log(1 - a_i^2 + 1e-6)]`
    (Haarnoja et al. 2018, arXiv 1801.01290, appendix C; the 1e-6 is the reference's.)

    Args:
        mean: [..., A].
        log_std: [..., A].
        noise: [..., A] standard normal.

    Returns:
        Action [..., A] in [-1, 1] and log-density [...].
    """
    action = jnp.tanh(mean + jnp.exp(log_std) * noise)
    return action, _tanh_normal_log_prob(noise, log_std, action)


def tanh_normal_log_prob(mean: Array, log_std: Array, action: Array) -> Array:
    """Log-density in nats of given actions, the same density as that of `tanh_normal_sample`.

    `log p(a) = sum_i [log N(atanh(a_i); mean_i, std_i) - log(1 - a_i^2 + 1e-6)]`, where `a` is
    first clipped to 1 - 1e-6 in size: data may hold actions of exactly +-1, whose `atanh` is
    infinite.

    Args:
        mean: [..., A].
        log_std: [..., A].
        action: [..., A] in [-1, 1].

    Returns:
        [...].
    """
    action = jnp.clip(action, -1 + TANH_EPSILON, 1 - TANH_EPSILON)
    noise = (jnp.arctanh(action) - mean) * jnp.exp(-log_std)
    return _tanh_normal_log_prob(noise, log_std, action)


def _tanh_normal_log_prob(noise: Array, log_std: Array, action: Array) -> Array:
    """Log-density [...] of `action = tanh(mean + std * noise)`, all [..., A]."""
    log_normal = -0.5 * noise**2 - log_std - 0.5 * math.log(2 * math.pi)
    return jnp.sum(log_normal - jnp.log(1 - action**2 + TANH_EPSILON), axis=-1)
