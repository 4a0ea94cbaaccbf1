"""What a data set says about itself: `manifest.json`, of this format and of those before."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from metastar import config, files
from metastar.config import legacy
from metastar.data import checks
from metastar.envs.make import spec_of
from metastar.errors import UserError, brief
from metastar.files import Each, Maybe, MayLack
from metastar.types import EnvSpec

MANIFEST = "manifest.json"
# 1 and 2 had episodes as equal blocks [N, E, T] and the sizes in the family's code; the config of 1
# is of the first format of configs.
FORMAT = 3
_OF_ALL = {  # what is alike in all formats
    "family": str,
    "split": Each([int]),
    "policies": [str],
    "stages": [str],
    "versions": Each(Maybe(str)),
    "files": Each({"sha256": str}),
    "tasks": {},
}
_FORM = _OF_ALL | {
    "env_spec": {
        "name": str,
        "obs_dim": int,
        "action_dim": int,
        "max_episode_steps": int,
        "done_ends_episode": bool,
    },
    "config": {},
    "origin": str,
    "source": str,
    "config_format": int,
}


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

    @property
    def task_shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of each parameter of one task."""
        return {name: np.shape(value)[1:] for name, value in self.tasks.items()}


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
    otherwise = f"{file} is not the manifest of a data set"
    if type(number) is not int or number < 1:
        raise UserError(f"{otherwise}: its format is {brief(number)}; {checks.FIX}")
    if number < FORMAT:
        stored = _of_blocks(stored, number, otherwise)
    files.expect(stored, _FORM, otherwise, checks.FIX)
    if wrong := _wrong(stored):
        raise UserError(f"{otherwise}: {wrong}; {checks.FIX}")
    return Manifest(**stored)._replace(
        env_spec=EnvSpec(**stored["env_spec"]),
        tasks={name: _parameter(name, value, file) for name, value in stored["tasks"].items()},
        policies=tuple(stored["policies"]),
        stages=tuple(stored["stages"]),
    )


def _wrong(stored: dict) -> str | None:
    """What no manifest of its form has; None if there is nothing."""
    spec = stored["env_spec"]
    for entries, known in ((stored, Manifest._fields), (spec, EnvSpec._fields)):
        if unknown := entries.keys() - set(known):
            return f"it has an entry {min(unknown)!r}"
    for name in ("obs_dim", "action_dim", "max_episode_steps"):
        if not 1 <= spec[name] < 2**31:
            return f"{name} is {spec[name]}"
    if not 1 <= stored["config_format"] <= config.FORMAT:
        return f"config_format is {stored['config_format']}"
    for name in ("policies", "stages"):
        if len(set(stored[name])) != len(stored[name]) or not stored[name]:
            return f"{name} must be names that differ"
    return None


def _parameter(name: str, value: Any, file: Path) -> np.ndarray:
    """A task parameter [N, ...]."""
    try:
        array = np.asarray(value)
    except ValueError:
        array = np.zeros(())  # rows of unequal lengths
    if array.ndim == 0 or array.dtype.kind not in "iuf":
        raise UserError(
            f"task parameter {name!r} in {file} must be numbers, one row a task; {checks.FIX}"
        )
    return array.astype(float)


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


def _of_blocks(stored: dict, number: int, otherwise: str) -> dict:
    """Adds what formats 1 and 2 leave to the family's code and to their number."""
    form = _OF_ALL | {"config": {"env": MayLack({"profile": MayLack(str)})}}
    files.expect(stored, form, otherwise, checks.FIX)
    profile = stored["config"].get("env", {}).get("profile", "default")
    spec = spec_of(stored["family"], profile)._asdict()
    origin = {"origin": Manifest._field_defaults["origin"], "source": ""}
    return {"format": number, **origin, **stored, "env_spec": spec, "config_format": number}
