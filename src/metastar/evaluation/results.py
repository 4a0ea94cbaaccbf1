"""`results.json`: summaries of returns, the bounds beside them, and where the numbers come from."""

import io
from pathlib import Path
from typing import Any

import numpy as np

from metastar import files
from metastar.data import store
from metastar.errors import UserError
from metastar.files import Each, Maybe, MayLack
from metastar.training.workdir import RUNS, identity

FILE = "results.json"
ARRAYS_FILE = "evaluation.npz"  # what the figures need
_SCORES = {"per_task": [Maybe(float)], "optimum": Maybe(float)}
_COMPARED = _SCORES | {
    "title": str,
    "success": MayLack(Maybe(float)),
    "informative": MayLack(Maybe(_SCORES)),
    "by_context_source": MayLack(Each(Maybe(_SCORES))),
}
_BOUNDS = dict.fromkeys(("random", "behavior_best", "oracle", "optimum"), Maybe(float))
_COLUMN = {"tasks": {"ids": [int]}, "protocols": Each(_COMPARED), "bounds": _BOUNDS}
_NUMBERS = dict.fromkeys(("mean", "drop"), MayLack(Maybe(float)))
# What a comparison and a bound read, in results of all versions.
SCORED = _COLUMN | {
    **dict.fromkeys(("method", "preset", "family", "commit", "split"), str),
    **dict.fromkeys(("seed", "updates"), int),
    "wall_seconds": float,
    "privileged": bool,
    "hyper_params": MayLack(Each(float)),
    "stability": MayLack(Each(_NUMBERS)),
    **{name: MayLack(_COLUMN) for name in store.OOD},
}


def read_oracle(workdir: str, family: str) -> dict | None:
    """The results of an oracle run; None without a workdir.

    Raises:
        UserError: there are no results, or they are of another family, or of a method that is not
            told the task and so is no bound.
    """
    if not workdir:
        return None
    other = scored(read(workdir), Path(workdir) / FILE, f"{_remedy(workdir)} again")
    where = f"eval.oracle {workdir!r}"
    if other["family"] != family:
        raise UserError(
            f"{where} is a run on {other['family']}, not on {family}; give an oracle's workdir of "
            "this family or leave the field empty"
        )
    if not other["privileged"]:
        raise UserError(
            f"{where} is a run of method {other['method']!r}, which is not told the task; give an "
            "oracle's workdir or leave the field empty"
        )
    return other


def oracle(workdir: str, family: str, tasks: dict, protocol: str) -> dict | None:
    """The results of an oracle run: a bound for a run on the very same held-out tasks.

    Args:
        workdir: the oracle's workdir; "" if there is none.
        family: of the run that asks.
        tasks: its `tasks` entry of results.json.
        protocol: the name of the one whose return is the bound.

    Returns:
        Its results, or None without a workdir.

    Raises:
        UserError: as `read_oracle`, or they are of other tasks or other protocols.
    """
    other = read_oracle(workdir, family)
    if other is None:
        return None
    where = f"eval.oracle {workdir!r}"
    if protocol not in other["protocols"]:
        raise UserError(
            f"{where} was not evaluated by protocol {protocol!r}, the first of eval.protocols; "
            "evaluate it so, or leave the field empty"
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
        return translate(files.read_json(path, remedy, sealed=False))
    run = identity(workdir)
    found = files.read_json(path, remedy, sealed=run.format > 1)
    if "digests" not in found and run.format == 1:
        return translate(found)
    owner = found.get("digests")
    for name, digest in run.digests.items():
        if not isinstance(owner, dict) or owner.get(name) != digest:
            raise UserError(
                f"{path} is not of this run: {name}.json beside it is not the one that it was "
                f"written with; {remedy}"
            )
    return translate(found)


def scored(found: dict, source: str | Path, remedy: str) -> dict:
    """Returns what `read` gave, once it is found to hold the scores of a run.

    Raises:
        UserError: something is missing or of another form, or scores are not one a task.
    """
    otherwise = f"{str(source)!r} does not hold the results of a run"
    files.expect(found, SCORED, otherwise, remedy)
    for column in (found, *(found[name] for name in store.OOD if name in found)):
        num = len(column["tasks"]["ids"])
        for name, block in column["protocols"].items():
            parts = [block, block.get("informative"), *block.get("by_context_source", {}).values()]
            if any(part is not None and len(part["per_task"]) != num for part in parts):
                raise UserError(f"{otherwise}: {name} has not one score a task; {remedy}")
        if not (num and column["protocols"]):
            raise UserError(f"{otherwise}: it has no scores; {remedy}")
    return found


def translate(found: Any) -> Any:
    """Contents of `results.json` as they are now, from those that had no `protocols` yet.

    Each protocol had a field of its own there, the strategies of exploration one in common, and the
    training tasks' were beside those of the test tasks. Anything else is returned as it is.
    """
    if not isinstance(found, dict) or "protocols" in found or "few_shot" not in found:
        return found
    prefix = "train_"
    of_train = {k.removeprefix(prefix): x for k, x in found.items() if k.startswith(prefix)}
    rest = {
        name: _column(x) if name.startswith("ood_") else x
        for name, x in found.items()
        if not name.startswith(prefix)
    }
    privileged = found.get("method") == "oracle"  # the only such method of that time
    return _column(rest) | {"train": _column(of_train), "privileged": privileged}


def _column(old: Any) -> Any:
    if not isinstance(old, dict):
        return old
    explored = old.get("explored")
    explored = explored if isinstance(explored, dict) else {}
    blocks = {
        "few_shot": ("few-shot", old.get("few_shot")),
        "zero_shot": ("zero-shot", old.get("zero_shot")),
        **{f"explored_{k}": (f"zero-shot, exploring: {k}", x) for k, x in explored.items()},
    }
    blocks = {k: {"title": title, **x} for k, (title, x) in blocks.items() if isinstance(x, dict)}
    rest = {k: x for k, x in old.items() if k not in ("few_shot", "zero_shot", "explored")}
    return {**rest, "protocols": blocks}


def write_arrays(
    workdir: str | Path, by_protocol: dict[str, dict], shared: dict[str, np.ndarray]
) -> None:
    """Writes `evaluation.npz`, whole or not at all; raises `UserError` as `write` does.

    An array of a protocol is named `<protocol>_<array>`; `protocols` lists those that there are.
    """
    arrays = {f"{k}_{name}": x for k, own in by_protocol.items() for name, x in own.items()}
    buffer = io.BytesIO()
    np.savez_compressed(buffer, protocols=np.array(list(by_protocol)), **arrays, **shared)
    files.save(Path(workdir) / ARRAYS_FILE, buffer.getvalue())


def read_arrays(workdir: str | Path) -> dict[str, np.ndarray]:
    """Reads `evaluation.npz`; raises `UserError` if it is not there or damaged."""
    path = Path(workdir) / ARRAYS_FILE
    try:
        return _translate_arrays(dict(np.load(path, allow_pickle=False)))
    except OSError:
        raise _missing(workdir, ARRAYS_FILE) from None
    except Exception:  # what is wrong surfaces as whatever meets it first
        raise UserError(f"{str(path)!r} is damaged; {_remedy(workdir)} again") from None


def _translate_arrays(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The arrays by their names of now: those of the few-shot protocol had no prefix."""
    if "protocols" in arrays:
        return arrays
    shared = ("split", "task_id", "oracle_per_task", "label", "label_name", "goal", "goal_radius")
    kept = (*shared, *(name for name in arrays if name.startswith(("zero_shot_", "explored_"))))
    return {
        "protocols": np.array(["few_shot", "zero_shot"]),
        "few_shot_title": np.array("few-shot"),
        "zero_shot_title": np.array("zero-shot"),
        **{name if name in kept else f"few_shot_{name}": x for name, x in arrays.items()},
    }


def _missing(workdir: str | Path, name: str) -> UserError:
    remedy = f"{_remedy(workdir)} first"
    if (runs := Path(workdir) / RUNS).is_dir():
        remedy = f"it holds several runs: give one of them, {runs / '0'} for instance"
    return UserError(f"there is no {name} in {str(workdir)!r}; {remedy}")


def _remedy(workdir: str | Path) -> str:
    return f"run `metastar evaluate --workdir={workdir}`"
