"""Contrastive task codes: two independent windows of one task recognise each other."""

from typing import Any

from metastar.config.fields import POSITIVE, Field
from metastar.errors import UserError
from metastar.ops.contrastive import infonce
from metastar.types import DataSpec, TaskLoss

DEFAULTS = {"temperature": Field(0.1, POSITIVE, "of the scores, which are cosines")}
READS = ("sampler", "task_losses")


def check(cfg) -> None:
    """Raises `UserError` where there is one window of a task only."""
    if cfg.task_losses.infonce and cfg.sampler.windows < 2:
        raise UserError("task_losses.infonce needs two windows of a task; set sampler.windows=2")


def make(cfg: Any, spec: DataSpec, code_dim: int) -> TaskLoss:
    """InfoNCE (van den Oord et al. 2018, arXiv 1807.03748) between two windows of each task.

    `infonce_bound` is a lower bound on the mutual information of task and code, in nats: at most
    the logarithm of the number of distinct tasks in the batch. Scores are cosines divided by
    `cfg.temperature`.
    """
    del spec, code_dim
    temperature = cfg.temperature

    def loss(params, codes, batch, noise, hp):
        pair = codes["context"].task, codes["positive"].task
        value, bound = infonce(*pair, batch.task_id, temperature)
        return value, {"infonce_bound": bound}

    return TaskLoss(views=("context", "positive"), loss=loss)
