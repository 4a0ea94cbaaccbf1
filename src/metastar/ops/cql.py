"""Log-sum-exp of a value over all actions, estimated from sampled ones."""

import jax
import jax.numpy as jnp

from metastar.types import Array


def importance_logsumexp(q: Array, log_density: Array) -> Array:
    """`log sum_k exp(q_k - log mu_k)`: up to `log K`, an estimate of `log int exp q(a) da`.

    The term that the CQL penalty makes small (Kumar et al. 2020, arXiv 2006.04779, CQL(H), appendix
    F); COMBO (Yu et al. 2021, arXiv 2102.08363) does so at imagined states. The constant `log K`
    has no gradient and is left out, as in the reference.

    Args:
        q: [..., K] values of K sampled actions.
        log_density: [..., K] log-density of the distribution each action was drawn from, in nats.

    Returns:
        [...].

    >>> import jax.numpy as jnp
    >>> uniform = jnp.log(jnp.array([0.5, 0.5]))  # two actions drawn from Uniform[-1, 1]
    >>> round(float(jnp.exp(importance_logsumexp(jnp.log(jnp.array([1.0, 3.0])), uniform))), 4)
    8.0
    """
    return jax.nn.logsumexp(q - log_density, axis=-1)


def draw_by_weight(weights: Array, uniform: Array) -> Array:
    """Draws G of K indices with replacement, index k with probability `weights[k]` on average.

    Stratified: the g-th draw inverts the distribution function at `(g + uniform_g) / G`. The mean
    of a function over the draws has the expectation that independent draws give it, and never a
    larger variance (Owen 2013, Monte Carlo theory, methods and examples, section 8.4).

    Args:
        weights: [K] probabilities that add up to 1.
        uniform: [G] in [0, 1).

    Returns:
        [G] integers in [0, K).

    >>> draw_by_weight(jnp.array([0.25, 0.75]), jnp.array([0.4, 0.4])).tolist()
    [0, 1]
    >>> draw_by_weight(jnp.array([0.25, 0.75]), jnp.array([0.6, 0.4])).tolist()
    [1, 1]
    """
    num = len(uniform)
    position = (jnp.arange(num) + uniform) / num
    return (jnp.cumsum(weights)[None, :-1] <= position[:, None]).sum(axis=-1)
