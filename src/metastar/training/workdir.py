"""The folder of a run: its config, its identity, and the lock of the process that writes in it."""

import contextlib
import fcntl
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from ml_collections import ConfigDict

from metastar import config, files
from metastar.config import sweep
from metastar.errors import UserError
from metastar.files import MayLack
from metastar.types import DataSpec

RUNS = "seeds"  # below the workdir of a config that stands for several runs: one workdir for each

COMMAND = "command.txt"  # what started the run
LOCK = ".lock"  # held by the process that has the workdir open
_COUNTS = ("num_policies", "num_stages", "num_behaviors")  # lacking in older runs
_SPEC = {
    "family": str,
    **dict.fromkeys(("obs_dim", "action_dim", "task_dim", "num_tasks", "max_episode_steps"), int),
    "obs_mean": [float],
    "obs_std": [float],
    "reward_std": MayLack(float),
    **dict.fromkeys(_COUNTS, MayLack(int)),
}
_RESTORE = "restore it from a copy, or give another workdir"


class Identity(NamedTuple):
    """What a run is: the files that its checkpoints and results belong to."""

    digests: dict[str, str]  # SHA-256 of the bytes of "config" (.json) and "spec" (.json)
    format: int


@contextlib.contextmanager
def opened(cfg: ConfigDict, path: str | Path) -> Iterator[Path]:
    """Makes or reopens the workdir of `cfg` and holds it until the context ends.

    Writes `config.json` on the first visit, never again, and compares it on the next ones. A
    mistake that shows before the first update, when `COMMAND` is written, such as a policy that the
    data lack, leaves the folder free for another config.

    Raises:
        UserError: not writable, in use by another process, or made by another config.
    """
    with held(path, make=True) as path:
        _claim(cfg, path)
        try:
            yield path
        except UserError:
            if not (path / COMMAND).exists():
                for name in ("config.json", "spec.json"):
                    (path / name).unlink(missing_ok=True)
            raise


@contextlib.contextmanager
def held(path: str | Path, make: bool = False) -> Iterator[Path]:
    """Keeps other processes out of a workdir until the context ends; yields its absolute path.

    With `make` the folder is made unless it is there.

    Raises:
        UserError: not writable, or in use by another process.
    """
    path = Path(path).resolve()
    with contextlib.ExitStack() as stack:
        try:
            if make:
                path.mkdir(parents=True, exist_ok=True)
            lock = stack.enter_context(open(path / LOCK, "w"))
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # the kernel frees it, also on SIGKILL
        except BlockingIOError:
            raise UserError(
                f"workdir {path} is in use by another run; wait for it or give another --workdir"
            ) from None
        except OSError as error:
            raise UserError(
                f"workdir {path} is not writable ({error.strerror}); give another --workdir"
            ) from None
        yield path


def is_held(path: str | Path) -> bool:
    """Whether a process has a workdir open (`held`) at this moment."""
    try:
        with open(Path(path) / LOCK) as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # there is none yet
        return False
    return False


def read_config(path: str | Path) -> ConfigDict:
    """Returns the config of a run.

    Raises:
        UserError: the folder has no config or no intact one, or it holds several runs.
    """
    cfg = _stored(path)
    flat = config.flatten(cfg)
    if sweep.is_many(flat):
        num, folder = len(sweep.changes(flat)), Path(path) / RUNS
        raise UserError(f"{path} holds {num} runs; give one of them, {folder / '0'} for instance")
    return cfg


def write_spec(path: Path, spec: DataSpec) -> None:
    """Saves what the method knows of its data; raises `UserError` if the data changed since."""
    if not (path / "spec.json").exists():
        files.write_json(path / "spec.json", spec._asdict())
    elif read_spec(path) != spec:
        raise UserError(
            f"workdir {path} was trained on other data than the data directory holds now; "
            "restore the data or give another --workdir"
        )


def read_spec(path: str | Path) -> DataSpec:
    """Returns the `DataSpec` of a workdir; raises `UserError` if there is no intact one."""
    file = Path(path) / "spec.json"
    remedy = "restore it from a copy, or run `metastar train` with this workdir again"
    fields = files.read_json(file, remedy, sealed=format_of(path) > 1)
    otherwise = f"{file} does not describe the data of a run"
    files.expect(fields, _SPEC, otherwise, remedy)
    if unknown := fields.keys() - set(DataSpec._fields):
        raise UserError(f"{otherwise}: it has an entry {min(unknown)!r}; {remedy}")
    spec = DataSpec(**{k: tuple(v) if isinstance(v, list) else v for k, v in fields.items()})
    sizes = [value for value in spec if type(value) is int]
    each_obs = {spec.obs_dim, len(spec.obs_mean), len(spec.obs_std)}
    least = min(*sizes, spec.obs_dim - 1, spec.action_dim - 1, spec.max_episode_steps - 1)
    if least < 0 or max(sizes) >= 2**31 or len(each_obs) > 1 or min(spec.obs_std) <= 0:
        raise UserError(f"{otherwise}: no data have such sizes or scales; {remedy}")
    return spec


def identity(path: str | Path) -> Identity:
    """Returns what checkpoints and results of a run belong to; raises as `digests` does."""
    return Identity(digests(path), format_of(path))


def digests(path: str | Path) -> dict[str, str]:
    """Returns the SHA-256 of the bytes of "config" (.json) and "spec" (.json) of a run.

    Raises:
        UserError: one of them is missing or unreadable.
    """
    found = {}
    for name in ("config", "spec"):
        file = Path(path) / f"{name}.json"
        try:
            found[name] = hashlib.sha256(file.read_bytes()).hexdigest()
        except OSError as error:
            raise UserError(f"cannot read {file} ({error.strerror}); {_RESTORE}") from None
    return found


def format_of(path: str | Path) -> int:
    """Returns the number of the format that a run was written in; raises as `read_config` does."""
    return _read(path).get("format", 1)


def expect_trainable(path: str | Path) -> None:
    """Raises `UserError` if a run is of an older format, which is only read."""
    if (found := format_of(path)) != config.FORMAT:
        raise UserError(
            f"the run in {path} is of format {found}, and training goes on in format "
            f"{config.FORMAT} only; use the version that wrote it, or give another workdir"
        )


def _read(path: str | Path) -> dict:
    """The content of `config.json`, which has a checksum unless it is of format 1."""
    file = Path(path) / "config.json"
    if not file.is_file():
        raise UserError(f"{path} is not a workdir: it has no readable config.json")
    content = files.read_json(file, _RESTORE, sealed=False)
    number = content.get("format", 1)
    if number not in range(1, config.FORMAT + 1):
        raise UserError(
            f"{file} is of format {number!r}, which this version does not know; use the version "
            "that wrote it"
        )
    return content if number == 1 else files.read_json(file, _RESTORE)


def _stored(path: str | Path) -> ConfigDict:
    return config.from_dict(_read(path), str(Path(path) / "config.json"))


def _claim(cfg: ConfigDict, path: Path) -> None:
    content = config.to_dict(cfg)
    if not (path / "config.json").exists():
        files.write_json(path / "config.json", content)
        return
    mine = config.from_dict(json.loads(json.dumps(content)))
    difference = config.diff(_stored(path), mine)
    if difference is not None:
        expect_trainable(path)  # for a run of another format that is the reason
        name, there, here = difference
        raise UserError(
            f"workdir {path} holds a run with {name} = {there!r}, and this one has {here!r}; "
            "give another --workdir or the old value"
        )
