"""Observations in units of the training tasks' standard deviation, as networks see them."""

import jax.numpy as jnp

from metastar.config.fields import Field
from metastar.types import Array, DataSpec

DEFAULTS = {
    "normalize_obs": Field(
        False, "", "observations in units of the training tasks' standard deviation"
    ),
}


def whitener(normalize: bool, spec: DataSpec):
    """Returns obs [..., O] -> obs in units of the training tasks' standard deviation.

    Without `normalize` it changes nothing: origin 0, unit 1.
    """
    mean, std = _units(normalize, spec)
    return lambda obs: (obs - _like(mean, obs)) / _like(std, obs)


def unwhitener(normalize: bool, spec: DataSpec):
    """Returns the inverse of `whitener`."""
    mean, std = _units(normalize, spec)
    return lambda obs: obs * _like(std, obs) + _like(mean, obs)


def view_whitener(normalize: bool, spec: DataSpec):
    """Returns View -> View whose observations went through `whitener`."""
    whiten = whitener(normalize, spec)
    return lambda view: view._replace(obs=whiten(view.obs), next_obs=whiten(view.next_obs))


def _units(normalize: bool, spec: DataSpec) -> tuple[Array, Array]:
    """Mean and standard deviation [O] that observations are normalised with."""
    if not normalize:
        return jnp.zeros(spec.obs_dim), jnp.ones(spec.obs_dim)
    return jnp.asarray(spec.obs_mean), jnp.asarray(spec.obs_std)


def _like(x: Array, obs: Array) -> Array:
    """[O] -> [1, ..., O], of the rank of `obs`."""
    return jnp.expand_dims(x, range(obs.ndim - 1))
