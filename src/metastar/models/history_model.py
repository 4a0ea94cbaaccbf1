"""A world model of single transitions whose code comes from the h transitions before them.

Meta-DT (Wang et al. 2024, NeurIPS). The code of step t sees steps t - h, ..., t - 1 of its episode,
never step t; what does not exist is rows of zeros, before the others.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from metastar.config.fields import COUNT, Field
from metastar.models.nets.transition_history import Decoder, HistoryEncoder
from metastar.types import Array, DataSpec, View

DEFAULTS = {
    "history": Field(4, COUNT, "h, transitions that a code comes from; Meta-DT 4"),
    "code_dim": Field(16, COUNT, "Z, and the size of every embedding; Meta-DT 16"),
    "width": Field(128, COUNT, "of the GRU; Meta-DT 128"),
    "decoder_width": Field(128, COUNT, "of the two hidden layers of a decoder; Meta-DT 128"),
    "predicts": Field(
        "reward",
        ("reward", "next_obs", "both"),
        "what is decoded; Meta-DT's paper has both, its code rewards, or next observations where "
        "tasks differ in dynamics",
    ),
}


class HistoryModel(NamedTuple):
    """The model as functions of its parameters: "encoder" and, as asked, "reward", "next_obs"."""

    heads: tuple[str, ...]  # what is decoded
    init: Callable  # (key) -> params
    encode: Callable  # (params, rows [..., h, O + A + 1]) -> code [..., Z]
    # (params, obs [..., O], action [..., A], next_obs [..., O], code [..., Z]) -> by head, [..., n]
    predict: Callable


def make(cfg: Any, spec: DataSpec) -> HistoryModel:
    """Binds the model to its settings, `DEFAULTS`."""
    obs_dim, action_dim, size = spec.obs_dim, spec.action_dim, cfg.code_dim
    heads = ("reward", "next_obs") if cfg.predicts == "both" else (cfg.predicts,)
    encoder = HistoryEncoder(obs_dim, action_dim, size, cfg.width, size)
    widths = {"reward": 1, "next_obs": obs_dim}
    decoders = {head: Decoder(size, cfg.decoder_width, widths[head]) for head in heads}

    def init(key: Array) -> dict:
        obs, action, code = (jnp.zeros(n) for n in (obs_dim, action_dim, size))
        rows = jnp.zeros((cfg.history, obs_dim + action_dim + 1))
        key, *keys = jax.random.split(key, 1 + len(heads))
        params = {"encoder": encoder.init(key, rows)["params"]}
        for head, own in zip(heads, keys):
            given = (obs, action, code, *((obs,) if head == "reward" else ()))
            params[head] = decoders[head].init(own, *given)["params"]
        return params

    def encode(params, rows):
        return encoder.apply({"params": params["encoder"]}, rows)

    def predict(params, obs, action, next_obs, code):
        given = {"reward": (obs, action, code, next_obs), "next_obs": (obs, action, code)}
        return {h: decoders[h].apply({"params": params[h]}, *given[h]) for h in heads}

    return HistoryModel(heads, init, encode, predict)


def rows_of(view: View) -> Array:
    """The transitions of a view as rows (s, a, r), [..., L, O + A + 1]."""
    return jnp.concatenate([view.obs, view.action, view.reward[..., None]], -1)


def histories(rows: Array, step: Array, position: Array, num: int) -> Array:
    """The rows before some positions of one stream, within their episodes.

    Args:
        rows: [L, n].
        step: [L] int, number of a row within its episode.
        position: [Q] int.
        num: h.

    Returns:
        [Q, h, n], oldest first; zeros where an episode, or the stream, has no such row.
    """
    back = jnp.arange(-num, 0)[None]
    index = position[:, None] + back
    exists = (index >= 0) & (step[position][:, None] + back >= 0)
    return jnp.where(exists[..., None], rows[jnp.maximum(index, 0)], 0)


def errors(model: HistoryModel, params: Any, view: View, code: Array, target: Array | None = None):
    """Absolute errors [...] of all that is predicted, summed over its entries.

    `target` takes the place of `view.next_obs` as what a predicted observation is compared with.
    """
    found = model.predict(params, view.obs, view.action, view.next_obs, code)
    truth = {"reward": view.reward[..., None], "next_obs": view.next_obs}
    if target is not None:
        truth["next_obs"] = target
    return sum(jnp.abs(x - truth[head]).sum(-1) for head, x in found.items())
