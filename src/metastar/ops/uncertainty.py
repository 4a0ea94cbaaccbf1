"""Uncertainty of a predicted step, from an ensemble of E diagonal Gaussians over it.

Two of the penalties that Lu et al. 2022 (arXiv 2110.04135) compare; units are the predictions'.
"""

import jax.numpy as jnp

from metastar.types import Array


def largest_spread(logvar: Array) -> Array:
    """`max_i |sigma_i|`, the longest vector of standard deviations.

    MOPO, Yu et al. 2020 (arXiv 2005.13239), section 4.3, and its released code, which takes the
    norm of standard deviations where the paper writes that of the covariance. It contains the noise
    that a member found in the data, and its extrapolation where it saw none.

    Args:
        logvar: [E, ..., n] log-variances of the members.

    Returns:
        [...].

    >>> float(largest_spread(2 * jnp.log(jnp.array([[1.0, 1.0], [3.0, 4.0]]))).round(4))
    5.0
    """
    return jnp.sqrt(jnp.exp(logvar).sum(-1)).max(0)


def largest_disagreement(mean: Array) -> Array:
    """`max_ij |mean_i - mean_j|`, the largest distance between the means of two members.

    The discrepancy of MOReL, Kidambi et al. 2020 (arXiv 2005.05951). Members trained on the same
    data agree where there are data, so they differ in what the data do not determine.

    Args:
        mean: [E, ..., n] means of the members; 0 for one member.

    Returns:
        [...].

    >>> float(largest_disagreement(jnp.array([[0.0, 0.0], [1.0, 0.0], [3.0, 4.0]])))
    5.0
    """
    return jnp.sqrt(((mean[:, None] - mean[None]) ** 2).sum(-1)).max((0, 1))
