"""Contrastive task codes: two independent windows of one task recognise each other."""

from typing import Any

from metastar.ops.contrastive import infonce
from metastar.types import DataSpec, TaskLoss


def make(cfg: Any, spec: DataSpec) -> TaskLoss:
    """InfoNCE (van den Oord et al. 2018, arXiv 1807.03748) between two windows of each task.

    `infonce_bound` is a lower bound on the mutual information of task and code, in nats: at most
    the logarithm of the number of distinct tasks in the batch. Scores are cosines divided by
    `cfg.infonce.temperature`.
    """
    temperature = cfg.infonce.temperature

    def loss(params, codes, batch, noise):
        value, bound = infonce(codes["context"], codes["positive"], batch.task_id, temperature)
        return value, {"infonce_bound": bound}

    return TaskLoss(views=("context", "positive"), loss=loss)
