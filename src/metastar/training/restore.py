"""Rebuilds a run from its workdir, at its newest good checkpoint."""

from pathlib import Path
from typing import NamedTuple

from ml_collections import FrozenConfigDict

from metastar.errors import UserError
from metastar.training import checkpoint, chunk, runs
from metastar.training.workdir import identity, read_config, read_spec
from metastar.types import DataSpec, Method, TrainState


class Restored(NamedTuple):
    """A run at its newest good checkpoint."""

    cfg: FrozenConfigDict
    spec: DataSpec
    method: Method
    state: TrainState  # the method's
    step: int
    meta: dict  # wall_seconds
    digests: dict[str, str]  # of the run's files, as `workdir.digests` gives them


def restore(workdir: str | Path) -> Restored:
    """Rebuilds a run from its workdir alone.

    Raises:
        UserError: there is no good checkpoint; or the newest one was written with another config
            or spec than lies there now.
    """
    path = Path(workdir).resolve()
    cfg, spec = FrozenConfigDict(read_config(path)), read_spec(path)
    expected = identity(path)
    method = runs.make_method(cfg, spec)
    found = checkpoint.restore_latest(path / "checkpoints", chunk.abstract(method), expected)
    if found is None:
        raise UserError(
            f"workdir {path} holds no good checkpoint yet; run `metastar train` with it first"
        )
    loop, step, meta = found
    return Restored(cfg, spec, method, loop.state, step, meta, expected.digests)
