"""The oracle's update, which is its agent's and nothing else."""

from collections.abc import Callable

from ml_collections import ConfigDict

from metastar import config
from metastar.methods import oracle
from metastar.types import DataSpec


def parts(cfg: ConfigDict, spec: DataSpec) -> dict[str, Callable]:
    """The one part, "critic"."""
    method = oracle.make(config.scope(cfg, "oracle", oracle), spec)
    return {"critic": method.phases[-1].update}
