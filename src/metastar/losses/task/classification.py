"""Task classification: the code must name the training task it comes from."""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import optax

from metastar.types import DataSpec, TaskLoss

DEFAULTS = {}


def make(cfg: Any, spec: DataSpec, code_dim: int) -> TaskLoss:
    """Cross-entropy of a linear classifier of the training tasks; UNICORN-SUP (arXiv 2402.02429).

    `classification_bound` = log N - loss, in nats, N the number of training tasks, is a lower bound
    on I(Z; M) where tasks are drawn uniformly (Barber and Agakov 2003). A linear classifier asks
    for codes in which tasks lie apart, and for nothing between tasks.
    """
    del cfg
    classifier = nn.Dense(spec.num_tasks)

    def init(key):
        return classifier.init(key, jnp.zeros((1, code_dim)))["params"]

    def loss(params, codes, batch, noise, hp):
        code = jnp.concatenate([code.task for code in codes.values()])
        task_id = jnp.concatenate([batch.task_id] * len(codes))
        logits = classifier.apply({"params": params}, code)
        value = optax.softmax_cross_entropy_with_integer_labels(logits, task_id).mean()
        return value, {"classification_bound": jnp.log(spec.num_tasks) - value}

    return TaskLoss(views=("context",), loss=loss, init=init)
