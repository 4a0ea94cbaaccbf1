"""Contrast of task codes against a slowly moving memory of every training task's code."""

import jax
import jax.numpy as jnp
import optax

from metastar.errors import UserError
from metastar.types import Array

_EPSILON = 1e-6  # under the root, so that coinciding codes have gradient zero


def infonce(
    code: Array, task_id: Array, memory: Array, tau: Array, radius: Array, repeated: str = "mean"
) -> tuple[Array, Array]:
    """SPC's contrastive term (arXiv 2603.02935): each task against all tasks of a memory h [N, Z].

    The current codes m are those of the memory, with the batch's in the rows of its tasks. The
    memory moves first, `h <- (1 - tau) h + tau m`, and carries no gradient. With
    `D_ij = sqrt(|m_j - h_i|^2 + 1e-6)` row i costs

        log[exp(-D_ii / radius) + sum_j exp(-D_ij / radius)] + D_ii / radius

    in which its own task stands twice, as in the authors' code: equal rows cost log(N + 1).

    Args:
        code: [M, Z].
        task_id: [M] int, rows of the memory.
        memory: [N, Z].
        tau: [] rate of the memory.
        radius: [] scale of the distances.
        repeated: the row of a task that the batch has several times: "mean" of its codes, or the
            "last" of them, as in the authors' code.

    Returns:
        Loss [] and the new memory.

    >>> zeros = jnp.zeros((3, 2))
    >>> loss, memory = infonce(zeros, jnp.arange(3), zeros, 0.1, 1.0)
    >>> round(float(jnp.exp(loss)), 4), memory.shape
    (4.0, (3, 2))
    """
    current = put(code, task_id, memory, repeated)
    memory = jax.lax.stop_gradient((1 - tau) * memory + tau * current)
    distance = distances(current, memory)
    own = jnp.diagonal(distance)
    logits = -jnp.concatenate([own[:, None], distance], 1) / radius
    labels = jnp.zeros(len(logits), int)
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean(), memory


def expect_rows(memory: Array, num_tasks: int) -> None:
    """Raises `UserError` unless a memory [N, Z] has one row for each training task."""
    if len(memory) != num_tasks:
        raise UserError(
            f"the memory of codes has {len(memory)} rows, one a task, but this run has {num_tasks} "
            "training tasks; resume with the data that it was started with"
        )


def distances(current: Array, memory: Array) -> Array:
    """`D_ij = sqrt(|m_j - h_i|^2 + 1e-6)`: two of [N, Z] -> [N, N]."""
    return jnp.sqrt(((current[None] - memory[:, None]) ** 2).sum(-1) + _EPSILON)


def put(code: Array, task_id: Array, memory: Array, repeated: str) -> Array:
    """The memory [N, Z] with the codes [M, Z] in the rows of their tasks [M].

    >>> args = jnp.array([[1.0], [5.0]]), jnp.array([1, 1]), jnp.zeros((2, 1))
    >>> put(*args, "mean").tolist(), put(*args, "last").tolist()
    ([[0.0], [3.0]], [[0.0], [5.0]])
    """
    slot = jnp.arange(len(task_id))[None]
    belongs = task_id[None, :] == jnp.arange(len(memory))[:, None]  # [N, M]
    if repeated == "last":
        belongs &= slot == jnp.max(jnp.where(belongs, slot, -1), 1, keepdims=True)
    weight = belongs.astype(code.dtype) / jnp.maximum(belongs.sum(1, keepdims=True), 1)
    return jnp.where(belongs.any(1)[:, None], weight @ code, memory)
