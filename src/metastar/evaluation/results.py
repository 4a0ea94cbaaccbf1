"""`results.json`: summaries of returns, the bounds beside them, and where the numbers come from."""

import io
import zipfile
from pathlib import Path

import numpy as np

from metastar import files
from metastar.errors import UserError
from metastar.training.workdir import RUNS, identity

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
    files.write_json(Path(workdir) / FILE, results)


def read(workdir: str | Path) -> dict:
    """Reads `results.json` of a run, or of a folder that holds nothing else of one.

    Raises:
        UserError: it is not there, damaged, edited, or of another run than the one in the folder.
    """
    path, remedy = Path(workdir) / FILE, f"{_remedy(workdir)} again"
    if not path.exists():
        raise _missing(workdir, FILE)
    if not (Path(workdir) / "config.json").exists():
        return files.read_json(path, remedy, sealed=False)
    run = identity(workdir)
    found = files.read_json(path, remedy, sealed=run.format > 1)
    if "digests" not in found and run.format == 1:
        return found
    for name, digest in run.digests.items():
        if found.get("digests", {}).get(name) != digest:
            raise UserError(
                f"{path} is not of this run: {name}.json beside it is not the one that it was "
                f"written with; {remedy}"
            )
    return found


def write_arrays(workdir: str | Path, arrays: dict[str, np.ndarray]) -> None:
    """Writes `evaluation.npz`, whole or not at all; raises `UserError` as `write` does."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    files.save(Path(workdir) / ARRAYS_FILE, buffer.getvalue())


def read_arrays(workdir: str | Path) -> dict[str, np.ndarray]:
    """Reads `evaluation.npz`; raises `UserError` if it is not there or damaged."""
    path = Path(workdir) / ARRAYS_FILE
    try:
        return dict(np.load(path, allow_pickle=False))
    except OSError:
        raise _missing(workdir, ARRAYS_FILE) from None
    except (ValueError, zipfile.BadZipFile):
        raise UserError(f"{str(path)!r} is damaged; {_remedy(workdir)} again") from None


def _missing(workdir: str | Path, name: str) -> UserError:
    remedy = f"{_remedy(workdir)} first"
    if (runs := Path(workdir) / RUNS).is_dir():
        remedy = f"it holds several runs: give one of them, {runs / '0'} for instance"
    return UserError(f"there is no {name} in {str(workdir)!r}; {remedy}")


def _remedy(workdir: str | Path) -> str:
    return f"run `metastar evaluate --workdir={workdir}`"
