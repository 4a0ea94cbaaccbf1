"""Task parameters as one vector, for methods and tools that may read them."""

import jax
import jax.numpy as jnp

from metastar.types import Array


def join_parameters(task) -> Array:
    """Joins the parameters of tasks, leaves [N, ...], into vectors [N, task_dim], in key order.

    >>> task = {"b": jnp.array([[1.0, 2.0]]), "a": jnp.array([3.0])}
    >>> join_parameters(task).tolist()
    [[3.0, 1.0, 2.0]]
    """
    leaves = [jnp.reshape(x, (x.shape[0], -1)) for x in jax.tree.leaves(task)]
    return jnp.concatenate(leaves, -1)
