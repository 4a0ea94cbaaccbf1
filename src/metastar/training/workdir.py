"""The folder of a run: which config it belongs to, and who writes in it."""

import contextlib
import fcntl
import json
from collections.abc import Iterator
from pathlib import Path

from ml_collections import ConfigDict

from metastar import config, files
from metastar.config import sweep
from metastar.errors import UserError
from metastar.types import DataSpec

RUNS = "seeds"  # below the workdir of a config that stands for several runs: one workdir for each

COMMAND = "command.txt"  # what started the run


@contextlib.contextmanager
def opened(cfg: ConfigDict, path: str | Path) -> Iterator[Path]:
    """Makes or reopens the workdir of `cfg` and holds it until the context ends.

    Writes `config.json` on the first visit and compares it on the next ones. A mistake that shows
    before the run has its data and writes `COMMAND`, such as a policy that these lack, leaves the
    folder free for another config.

    Raises:
        UserError: not writable, in use by another process, or made by another config.
    """
    path = Path(path).resolve()
    with contextlib.ExitStack() as stack:
        try:
            path.mkdir(parents=True, exist_ok=True)
            lock = stack.enter_context(open(path / ".lock", "w"))
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # the kernel frees it, also on SIGKILL
        except BlockingIOError:
            raise UserError(
                f"workdir {path} is in use by another run; wait for it or give another --workdir"
            ) from None
        except OSError as error:
            raise UserError(
                f"workdir {path} is not writable ({error.strerror}); give another --workdir"
            ) from None
        _claim(cfg, path)
        try:
            yield path
        except UserError:
            if not (path / COMMAND).exists():
                (path / "config.json").unlink(missing_ok=True)
            raise


def read_config(path: str | Path) -> ConfigDict:
    """Returns the config of a run.

    Raises:
        UserError: the folder has no config or an unreadable one, or it holds several runs.
    """
    cfg = _stored(path)
    flat = config.flatten(cfg)
    if sweep.is_many(flat):
        num, folder = len(sweep.changes(flat)), Path(path) / RUNS
        raise UserError(f"{path} holds {num} runs; give one of them, {folder / '0'} for instance")
    return cfg


def write_spec(path: Path, spec: DataSpec) -> None:
    """Saves what the method knows of its data; raises `UserError` if the data changed since."""
    if (path / "spec.json").exists() and read_spec(path) != spec:
        raise UserError(
            f"workdir {path} was trained on other data than the data directory holds now; "
            "restore the data or give another --workdir"
        )
    files.write_atomic(path / "spec.json", json.dumps(spec._asdict(), indent=2) + "\n")


def read_spec(path: str | Path) -> DataSpec:
    """Returns the `DataSpec` of a workdir; raises `UserError` if there is no readable one."""
    file = Path(path) / "spec.json"
    try:
        fields = json.loads(file.read_text())
        return DataSpec(**{k: tuple(v) if isinstance(v, list) else v for k, v in fields.items()})
    except (OSError, ValueError, TypeError, AttributeError):
        raise UserError(
            f"{file} is missing or damaged; run `metastar train` with this workdir again"
        ) from None


def _stored(path: str | Path) -> ConfigDict:
    file = Path(path) / "config.json"
    try:
        return config.from_dict(json.loads(file.read_text()), str(file))
    except (OSError, UnicodeDecodeError):
        raise UserError(f"{path} is not a workdir: it has no readable config.json") from None


def _claim(cfg: ConfigDict, path: Path) -> None:
    if (path / "config.json").exists():
        stored = _stored(path)
        mine = config.from_dict(json.loads(json.dumps(config.to_dict(cfg))))
        mine.eval.oracle = stored.eval.oracle  # shown beside this run's results; may change
        difference = config.diff(stored, mine)
        if difference is not None:
            name, there, here = difference
            raise UserError(
                f"workdir {path} holds a run with {name} = {there!r}, and this one has {here!r}; "
                "give another --workdir or the old value"
            )
    text = json.dumps(config.to_dict(cfg), indent=2, sort_keys=True)
    files.write_atomic(path / "config.json", text + "\n")
