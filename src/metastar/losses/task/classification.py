"""Task classification: the code must name the training task it comes from."""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import optax

from metastar.config.fields import COUNT, NOT_NEGATIVE, Field, Like
from metastar.models.nets.mlp import MLP
from metastar.types import DataSpec, TaskLoss

DEFAULTS = {
    "layers": Field(
        0, NOT_NEGATIVE, "hidden layers of the classifier; UNICORN does not publish it", before=0
    ),
    "width": Field(Like("world_model.width", fallback=128), COUNT, "of each of them", before=128),
}


def make(cfg: Any, spec: DataSpec, code_dim: int) -> TaskLoss:
    """Cross-entropy of a classifier of the training tasks; UNICORN-SUP (arXiv 2402.02429).

    `classification_bound` = log N - loss, in nats, N the number of training tasks, is a lower bound
    on I(Z; M) where tasks are drawn uniformly (Barber and Agakov 2003). A linear classifier, the
    default, asks for codes in which tasks lie apart, and for nothing between tasks.
    """
    classifier = nn.Dense(spec.num_tasks)
    if cfg.layers:
        classifier = MLP((cfg.width,) * cfg.layers, spec.num_tasks)

    def init(key):
        return classifier.init(key, jnp.zeros((1, code_dim)))["params"]

    def loss(params, codes, batch, noise, hp):
        code = jnp.concatenate([code.task for code in codes.values()])
        task_id = jnp.concatenate([batch.task_id] * len(codes))
        logits = classifier.apply({"params": params}, code)
        value = optax.softmax_cross_entropy_with_integer_labels(logits, task_id).mean()
        return value, {"classification_bound": jnp.log(spec.num_tasks) - value}

    return TaskLoss(views=("context",), loss=loss, init=init)
