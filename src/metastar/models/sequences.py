"""What Meta-DT's Transformer reads of recorded episodes: sequences and prompts, with codes.

Meta-DT (Wang et al. 2024, NeurIPS); equations in `docs/methods.md`.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from metastar.models import history_model, prompts
from metastar.models.history_model import HistoryModel, histories, rows_of
from metastar.models.nets.decision_transformer import Steps
from metastar.types import Array, View


class Reader(NamedTuple):
    """Constants of the functions below."""

    cfg: Any  # `context_len`, `return_scale`, `use_model`; `world_model.{history, code_dim}`
    model: HistoryModel
    whiten: Callable  # obs -> obs as the Transformer sees it
    max_steps: int  # of an episode


def sequence(reader: Reader, params: Any, view: View, start: Array) -> Steps:
    """K steps from `start` [] on of one episode [T], with their codes.

    `params` are those of the world model, here and below.
    """
    cfg = reader.cfg
    seen = view._replace(obs=reader.whiten(view.obs))
    steps = prompts.cut(seen, prompts.to_go(view) / cfg.return_scale, None, start, cfg.context_len)
    position = jnp.minimum(start + jnp.arange(cfg.context_len), len(view.step) - 1)
    rows = histories(rows_of(view), view.step, position, cfg.world_model.history)
    return steps._replace(code=codes(reader, params, rows))


def prompt(reader: Reader, params: Any, view: View, u: Array, tail: bool) -> tuple[Steps, Array]:
    """The prompt [k] of one stream [L], and the codes [L, Z] of its steps; `u` [] is uniform."""
    cfg, history = reader.cfg, reader.cfg.world_model.history
    rows = histories(rows_of(view), view.step, jnp.arange(len(view.step)), history)
    code = codes(reader, params, rows)
    error = jnp.ones(view.reward.shape)
    if cfg.prompt.choice in prompts.BY_ERROR:
        target = reader.whiten(view.next_obs) if cfg.prompt.normalized_target else None
        error = history_model.errors(reader.model, params, view, code, target)
    seen = view._replace(obs=reader.whiten(view.obs))
    to_go = prompts.to_go(view) / cfg.return_scale
    limits = history, reader.max_steps
    return prompts.choose(cfg.prompt, seen, to_go, error, u, limits, tail), code


def codes(reader: Reader, params: Any, rows: Array) -> Array:
    """Codes [..., Z] of histories [..., h, n], which no gradient reaches; 0 without a model."""
    if not reader.cfg.use_model:
        return jnp.zeros((*rows.shape[:-2], reader.cfg.world_model.code_dim))
    return jax.lax.stop_gradient(reader.model.encode(params, rows))
