"""Contrastive task codes: two independent windows of one task recognise each other."""

from typing import Any

from metastar.ops.task_metric import infonce
from metastar.types import Array, Batch, TaskLoss


def make(cfg: Any) -> TaskLoss:
    """InfoNCE (van den Oord et al. 2018, arXiv 1807.03748) between two windows of each task.

    `infonce_bound` is a lower bound on the mutual information of task and code, in nats: at most
    the logarithm of the number of distinct tasks in the batch. Scores are cosines divided by
    `cfg.infonce.temperature`.
    """
    del cfg
    return TaskLoss(views=("context", "positive"), loss=_loss)


def _loss(codes: dict[str, Array], batch: Batch, cfg: Any) -> tuple[Array, dict[str, Array]]:
    temperature = cfg.infonce.temperature
    value, bound = infonce(codes["context"], codes["positive"], batch.task_id, temperature)
    return value, {"infonce_bound": bound}
