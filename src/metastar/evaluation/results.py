"""`results.json`: summaries of returns, the bounds beside them, and where the numbers come from."""

import io
import json
import zipfile
from pathlib import Path

import numpy as np

from metastar.errors import UserError
from metastar.files import save
from metastar.training.workdir import RUNS

FILE = "results.json"
ARRAYS_FILE = "evaluation.npz"  # what the figures need


def oracle(workdir: str, family: str, tasks: dict) -> dict | None:
    """The results of an oracle run: a bound for a run on the very same held-out tasks.

    Args:
        workdir: the oracle's workdir; "" if there is none.
        family: of the run that asks.
        tasks: its `tasks` entry of results.json.

    Returns:
        Its results, or None without a workdir.

    Raises:
        UserError: there are no results, or they are of another family or other tasks.
    """
    if not workdir:
        return None
    other = read(workdir)
    where = f"eval.oracle {workdir!r}"
    if other["family"] != family:
        raise UserError(
            f"{where} is a run on {other['family']}, not on {family}; give an oracle's workdir of "
            "this family or leave the field empty"
        )
    _check_tasks(other, tasks, where)
    return other


def oracle_column(oracle: dict | None, name: str, tasks: dict, workdir: str) -> dict | None:
    """The part of an oracle's results for one kind of held-out tasks; raises as `oracle` does."""
    if oracle is None:
        return None
    column = oracle.get(name, {"tasks": None})
    _check_tasks(column, tasks, f"eval.oracle {workdir!r}")
    return column


def _check_tasks(results: dict, tasks: dict, where: str) -> None:
    if results["tasks"] != tasks:
        raise UserError(
            f"{where} was evaluated on other held-out tasks; run the oracle on the same data set "
            "with the same data.validation_tasks, or leave the field empty"
        )


def write(workdir: str | Path, results: dict) -> None:
    """Writes `results.json`, whole or not at all; raises `UserError` if the folder is read-only."""
    save(Path(workdir) / FILE, json.dumps(results, indent=2, allow_nan=False) + "\n")


def read(workdir: str | Path) -> dict:
    """Reads `results.json`; raises `UserError` if it is not there or damaged."""
    return _read(workdir, FILE, lambda path: json.loads(path.read_text()))


def write_arrays(workdir: str | Path, arrays: dict[str, np.ndarray]) -> None:
    """Writes `evaluation.npz`, whole or not at all; raises `UserError` as `write` does."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    save(Path(workdir) / ARRAYS_FILE, buffer.getvalue())


def read_arrays(workdir: str | Path) -> dict[str, np.ndarray]:
    """Reads `evaluation.npz`; raises `UserError` if it is not there or damaged."""
    return _read(workdir, ARRAYS_FILE, lambda path: dict(np.load(path, allow_pickle=False)))


def _read(workdir, name, read_from):
    path = Path(workdir) / name
    remedy = f"run `metastar evaluate --workdir={workdir}`"
    try:
        return read_from(path)
    except OSError:
        if (runs := Path(workdir) / RUNS).is_dir():
            remedy = f"it holds several runs: give one of them, {runs / '0'} for instance"
            raise UserError(f"there is no {name} in {str(workdir)!r}; {remedy}") from None
        raise UserError(f"there is no {name} in {str(workdir)!r}; {remedy} first") from None
    except (ValueError, zipfile.BadZipFile):
        raise UserError(f"{str(path)!r} is damaged; {remedy} again") from None
