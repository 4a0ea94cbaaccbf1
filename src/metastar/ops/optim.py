"""Gradient steps: from a loss and an optimiser to new parameters, for all methods and agents."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from metastar.types import Array


def global_norm(grads: Any) -> Array:
    """Euclidean norm [] of all leaves together."""
    return jnp.sqrt(sum(jnp.sum(g**2) for g in jax.tree.leaves(grads)))


def clip_norm(grads: Any, limit: float) -> Any:
    """Scales a gradient by `min(1, limit / (norm + 1e-6))`, one norm over all leaves.

    The form of PyTorch's `clip_grad_norm_`, written out for agreement to the last digits.
    """
    scale = jnp.minimum(1, limit / (global_norm(grads) + 1e-6))
    return jax.tree.map(lambda g: g * scale, grads)


def make_optimizer(
    max_norm: float | None = None, weight_decay: float = 0.0
) -> optax.GradientTransformation:
    """Adam (Kingma and Ba 2015, arXiv 1412.6980) whose step size is part of its state.

    The gradient's norm is limited to `max_norm` first, unless that is None. With `weight_decay`
    every parameter also shrinks by that share of the step size: AdamW (Loshchilov and Hutter 2019,
    arXiv 1711.05101).
    """
    clip = (
        optax.identity()
        if max_norm is None
        else optax.stateless(lambda grads, params: clip_norm(grads, max_norm))
    )

    def build(learning_rate):
        adam = optax.adam(learning_rate)
        if weight_decay:
            adam = optax.adamw(learning_rate, weight_decay=weight_decay)
        return optax.chain(clip, adam)

    return optax.inject_hyperparams(build)(learning_rate=0.0)


def gradient_step(loss: Callable, optimizer: optax.GradientTransformation) -> Callable:
    """Makes `step(params, opt_state, lr, *args) -> (params, opt_state, metrics)`.

    `loss(params, *args) -> (scalar, metrics)` is differentiated with respect to `params` alone; its
    metrics are passed through and may be any pytree. `optimizer` comes from `make_optimizer`; `lr`
    [] may be traced, so schedules and sweeps need no recompilation. `opt_state` starts as
    `optimizer.init(params)`.
    """

    def step(params: Any, opt_state: Any, lr: Array, *args: Any) -> tuple[Any, Any, dict]:
        grads, metrics = jax.grad(loss, has_aux=True)(params, *args)
        return *descend(optimizer, params, opt_state, lr, grads), metrics

    return step


def descend(
    optimizer: optax.GradientTransformation, params: Any, opt_state: Any, lr: Array, grads: Any
) -> tuple[Any, Any]:
    """The step of `gradient_step` along a gradient that is known: (params, opt_state)."""
    previous = opt_state.hyperparams["learning_rate"]
    lr = jnp.asarray(lr, previous.dtype)
    opt_state = opt_state._replace(hyperparams={"learning_rate": lr})
    updates, opt_state = optimizer.update(grads, opt_state, params)
    return optax.apply_updates(params, updates), opt_state
