"""What a data set says about itself: `manifest.json`, of this format and of those before."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from metastar import config, files
from metastar.config import legacy
from metastar.data import checks
from metastar.envs.make import spec_of
from metastar.errors import UserError
from metastar.types import EnvSpec

MANIFEST = "manifest.json"
# 1 and 2 had episodes as equal blocks [N, E, T] and the sizes in the family's code; the config of 1
# is of the first format of configs.
FORMAT = 3


class Manifest(NamedTuple):
    """What a data set says about itself; with it the arrays can be checked and shown."""

    family: str  # of a simulator where there is one by that name
    env_spec: EnvSpec  # sizes of observations, actions and episodes
    tasks: dict[str, np.ndarray]  # float64, leaves [N, ...]; {} where they are not known
    split: dict[str, list[int]]  # "train", "test" and perhaps the names in `store.OOD`: tasks
    policies: tuple[str, ...]
    stages: tuple[str, ...]
    config: dict  # the whole config the data were made with; {} for imported data
    versions: dict[str, str]  # of the tool and of what it used
    files: dict[str, dict]  # by field: sha256, shape, dtype; written by `store.save`
    origin: str = "metastar collect"  # the tool that wrote the data set
    source: str = ""  # of imported data: where they are from, such as an address or a paper
    config_format: int = config.FORMAT
    format: int = FORMAT  # of the data set on disk; `store.save` writes this one


def read_manifest(path: str | Path) -> Manifest:
    """Reads what a data set says about itself.

    Raises:
        UserError: it is missing, damaged or of a newer format; or of an older one, whose sizes the
            family has, and of no family that is known.
    """
    file = Path(path) / MANIFEST
    if not file.exists():
        raise UserError(
            f"no data set in {path}: {MANIFEST} is missing; make one with `metastar collect`, "
            "or name another folder with --config.data.dir"
        )
    stored = files.read_json(file, checks.FIX)
    number = stored.get("format", 1)
    if isinstance(number, int) and number > FORMAT:
        raise UserError(
            f"data set {path} is of format {number}, but this version knows formats up to {FORMAT} "
            "only; use the version that wrote it, or a newer one"
        )
    try:
        manifest = Manifest(**(stored if number == FORMAT else _of_blocks(stored, number)))
        manifest = manifest._replace(env_spec=EnvSpec(**manifest.env_spec))
    except (KeyError, TypeError):
        raise UserError(f"{file} is not the manifest of a data set; {checks.FIX}") from None
    return manifest._replace(
        tasks={name: np.asarray(value, float) for name, value in manifest.tasks.items()},
        policies=tuple(manifest.policies),
        stages=tuple(manifest.stages),
    )


def to_json(manifest: Manifest) -> dict[str, Any]:
    """The object that `read_manifest` reads, of this version's format."""
    tasks = {name: np.asarray(value).tolist() for name, value in manifest.tasks.items()}
    spec = manifest.env_spec._asdict()
    return manifest._replace(tasks=tasks, env_spec=spec, format=FORMAT)._asdict()


def config_of(manifest: Manifest) -> dict[str, Any]:
    """The leaves of the config that a data set was made with, by their paths of today."""
    flat = config.flatten(manifest.config)
    flat = {path: tuple(x) if isinstance(x, list) else x for path, x in flat.items()}
    return legacy.translate(flat) if manifest.config_format == 1 else flat


def _of_blocks(stored: dict, number: int) -> dict:
    """Adds what formats 1 and 2 leave to the family's code and to their number."""
    if number not in (1, 2):
        raise TypeError(number)
    profile = stored["config"].get("env", {}).get("profile", "default")
    spec = spec_of(stored["family"], profile)._asdict()
    return {"format": number, **stored, "env_spec": spec, "config_format": number}
