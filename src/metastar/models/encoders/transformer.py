"""MetaSTAR's Transformer as an encoder of tasks: a task token that sees every step of a window.

MetaSTAR (arXiv 2606.00780), section on the task representation, without the world model: tokens are
made of observations, not of latents, and only the objective trains it.
"""

from typing import Any

from metastar.config.fields import COUNT, Field
from metastar.errors import UserError
from metastar.models import sequence_encoder
from metastar.models.nets.transformer import Transformer
from metastar.types import DataSpec, Encoder

DEFAULTS = {
    **sequence_encoder.SETTINGS,
    "num_layers": Field(2, COUNT, "blocks; MetaSTAR"),
    "num_heads": Field(4, COUNT, "of the attention; MetaSTAR"),
}


def check(cfg: Any) -> None:
    """Raises `UserError` for a context without order, or heads that do not divide the width."""
    sequence_encoder.expect_window(cfg, "transformer")
    if cfg.width % cfg.num_heads:
        raise UserError(
            f"encoder.transformer.width is {cfg.width} but must be a multiple of "
            f"encoder.transformer.num_heads, {cfg.num_heads}"
        )


def make(cfg: Any, spec: DataSpec) -> Encoder:
    """Binds the encoder to its settings; no step sees a padded one."""
    sizes = cfg.width, cfg.num_layers, cfg.num_heads, cfg.context_len, cfg.code_dim
    return sequence_encoder.make(Transformer(*sizes), cfg, spec)
