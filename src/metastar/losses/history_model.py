"""Loss of the world model of Meta-DT."""

from typing import Any

import jax.numpy as jnp

from metastar.models.history_model import HistoryModel
from metastar.types import Array, View


def loss(
    params: Any, rows: Array, view: View, valid: Array, model: HistoryModel
) -> tuple[Array, dict[str, Array]]:
    """`sum over heads of mean (prediction - truth)^2`; the mean is over rows and entries.

    Args:
        params: of the model, encoder and decoders.
        rows: [..., h, O + A + 1] the transitions before each.
        view: leaves [...], the transitions that are predicted.
        valid: [...] bool.
        model: of `history_model.make`.

    Returns:
        The scalar and, by head, its parts.
    """
    code = model.encode(params, rows)
    found = model.predict(params, view.obs, view.action, view.next_obs, code)
    truth = {"reward": view.reward[..., None], "next_obs": view.next_obs}
    parts = {
        head: jnp.mean((x - truth[head]) ** 2, where=valid[..., None]) for head, x in found.items()
    }
    return sum(parts.values()), {f"model_{head}": x for head, x in parts.items()}
