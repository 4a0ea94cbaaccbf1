"""A GRU over the steps of a window: the code is a map of its last state.

Cho et al. 2014 (arXiv 1406.1078), as the context encoders of VariBAD (Zintgraf et al. 2020, arXiv
1910.08348) and Meta-DT have it.
"""

from typing import Any

from metastar.models import sequence_encoder
from metastar.models.nets.recurrent import Recurrent
from metastar.types import DataSpec, Encoder

DEFAULTS = sequence_encoder.SETTINGS


def check(cfg: Any) -> None:
    """Raises `UserError` for a context without order."""
    sequence_encoder.expect_window(cfg, "gru")


def make(cfg: Any, spec: DataSpec) -> Encoder:
    """Binds the encoder to its settings; a padded step does not move the state."""
    core = Recurrent(cfg.width, cfg.num_layers, 1, cfg.context_len, cfg.code_dim)
    return sequence_encoder.make(core, cfg, spec)
