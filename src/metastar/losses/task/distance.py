"""Distance-metric learning of task codes: one task together, different tasks apart."""

from typing import Any

import jax.numpy as jnp

from metastar.ops.contrastive import distance_terms
from metastar.types import Array, Batch, Codes, DataSpec, TaskLoss

DEFAULTS = {}


def make(cfg: Any, spec: DataSpec, code_dim: int) -> TaskLoss:
    """FOCAL (Li et al. 2021, arXiv 2010.01112) as MetaSTAR uses it; see `distance_terms`.

    All codes count as rows, those of the "positive" view too where a batch has one. Without that
    view, and with every task once in a batch, there is no pair of one task and only repulsion.
    """
    del cfg, spec, code_dim
    return TaskLoss(views=("context",), loss=_loss)


def _loss(
    params: Any, codes: dict[str, Codes], batch: Batch, noise: Any, hp: Any
) -> tuple[Array, dict[str, Array]]:
    code = jnp.concatenate([code.task for code in codes.values()])
    task_id = jnp.concatenate([batch.task_id] * len(codes))
    pos, neg, _, _ = distance_terms(code, task_id)
    return pos + neg, {"distance_pos": pos, "distance_neg": neg}
