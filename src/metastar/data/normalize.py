"""Observations in units of the training tasks' standard deviation, as networks see them."""

import jax.numpy as jnp

from metastar.types import Array, DataSpec


def whitener(cfg, spec: DataSpec):
    """Returns obs [..., O] -> obs in units of the training tasks' standard deviation."""
    mean, std = _units(cfg, spec)
    return lambda obs: (obs - _like(mean, obs)) / _like(std, obs)


def unwhitener(cfg, spec: DataSpec):
    """Returns the inverse of `whitener`."""
    mean, std = _units(cfg, spec)
    return lambda obs: obs * _like(std, obs) + _like(mean, obs)


def view_whitener(cfg, spec: DataSpec):
    """Returns View -> View with observations as `whitener` has them."""
    whiten = whitener(cfg, spec)
    return lambda view: view._replace(obs=whiten(view.obs), next_obs=whiten(view.next_obs))


def _units(cfg, spec: DataSpec) -> tuple[Array, Array]:
    """Origin and unit [O] of an observation as the networks see it."""
    if not cfg.agent.normalize_obs:
        return jnp.zeros(spec.obs_dim), jnp.ones(spec.obs_dim)
    return jnp.asarray(spec.obs_mean), jnp.asarray(spec.obs_std)


def _like(x: Array, obs: Array) -> Array:
    """[O] -> [1, ..., O], of the rank of `obs`."""
    return jnp.expand_dims(x, range(obs.ndim - 1))
