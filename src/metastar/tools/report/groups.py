"""Runs to be compared: reads them, groups them by system, refuses runs that cannot be compared.

The runs of a group share method, preset and hyper-parameters; they are its seeds. All runs are of
one family and were evaluated on the same held-out tasks, so that scores of any two groups are
paired by task.
"""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from metastar import files
from metastar.data import choose, store
from metastar.errors import UserError
from metastar.evaluation import results
from metastar.files import Maybe

# What a protocol's block may have of some of its contexts, where it is, and its title.
PARTS = {
    "{}, windows with reward": ("informative",),
    # in the task at hand, by a policy that learned another one
    "{}, cross-task contexts": ("by_context_source", f"{choose.CROSS_TASK} expert"),
}
BOUNDS = ("random", "behavior_best", "oracle", "optimum")
_CELL = {"runs": [{"results": {}, "audit": Maybe({})}]}  # of `tools/sweep/cell.py`


class Run(NamedTuple):
    """One run."""

    source: str  # as the user named it
    results: dict  # its results.json
    audit: dict | None = None  # its audit.json, if the source holds that too


class Group(NamedTuple):
    """The runs of one method, preset and set of hyper-parameters, by seed."""

    method: str
    name: str
    runs: list[Run]


class Scores(NamedTuple):
    """One evaluation of every group, on the N tasks for which every run has a score."""

    name: str
    whole: bool  # all of a protocol, on held-out tasks like the training tasks
    task_id: np.ndarray  # [N]
    groups: list[np.ndarray]  # [S, N] of each group: mean return of seed s on task n
    oracle: np.ndarray | None  # [S, N] of the first oracle group; [1, N], equal, if only its mean
    bounds: dict[str, float | None]  # mean return by name of `BOUNDS`


def read(sources: Sequence[str]) -> list[Group]:
    """Reads runs and groups them, in the order of their first appearance.

    Groups of one method and preset are told apart by the hyper-parameters that differ among them.

    Args:
        sources: workdirs with `results.json`, or such files (`*.json`), or the result files of a
            sweep's cells, which stand for all their runs. The same file twice counts once.

    Raises:
        UserError: a source holds no results or damaged ones; two runs differ in the family, the
            split or the held-out tasks; two runs of a group have the same seed.
    """
    named = {_file(source): source for source in sources}
    runs = [run for source in named.values() for run in _read(source)]
    for run in runs[1:]:
        _check_alike(runs[0], run)
    names = _names(runs)
    groups = []
    for name in dict.fromkeys(names):
        seeds = [run for run, own in zip(runs, names) if own == name]
        seeds.sort(key=lambda run: run.results["seed"])
        groups.append(Group(seeds[0].results["method"], name, seeds))
        for a, b in pairwise(seeds):
            if a.results["seed"] == b.results["seed"]:
                raise UserError(
                    f"{a.source!r} and {b.source!r} are both seed {a.results['seed']} of {name}; "
                    "leave one of them out, or train a variant with --config.preset=NAME"
                )
    return groups


def measure(groups: Sequence[Group]) -> list[Scores]:
    """Collects every evaluation that all runs have: in distribution first, then out of it.

    A task that some run has no score of (no window with reward) is left out for all of them, an
    evaluation that some run lacks (data without cross-task episodes) altogether. The
    oracle's bound is the first oracle group's mean, or that of `bounds.oracle` if every run has it.
    Raises `UserError` if no evaluation is left.
    """
    runs = [run.results for group in groups for run in group.runs]
    shared, found = protocols_of(groups), []
    for protocol in shared:
        found += [_scores(groups, "", protocol, "{}", ())]
        found += [_scores(groups, "", protocol, name, path) for name, path in PARTS.items()]
    for part in store.OOD:
        if all(part in run for run in runs):
            found += [_scores(groups, part, protocol, "{}", ()) for protocol in shared]
    found = [scores for scores in found if scores is not None]
    if not found:
        raise UserError(
            "these runs have no evaluation in common; evaluate them with the same eval.protocols"
        )
    return found


def protocols_of(groups: Sequence[Group]) -> list[str]:
    """Names of the protocols that all runs were evaluated by."""
    found = [run.results["protocols"] for group in groups for run in group.runs]
    return [name for name in found[0] if all(name in blocks for blocks in found)]


def _scores(
    groups: Sequence[Group], part: str, protocol: str, name: str, path: tuple[str, ...]
) -> Scores | None:
    parts = [[run.results[part] if part else run.results for run in g.runs] for g in groups]
    blocks = [[_block(results, protocol, path) for results in row] for row in parts]
    if any(block is None for row in blocks for block in row):
        return None
    arrays = [np.array([block["per_task"] for block in row], float) for row in blocks]
    counted = np.isfinite(np.concatenate(arrays)).all(0)
    if not counted.any():
        return None
    bounds = {key: _mean([p["bounds"][key] for row in parts for p in row]) for key in BOUNDS}
    bounds["optimum"] = _mean([block["optimum"] for row in blocks for block in row])
    arrays = [array[:, counted] for array in arrays]
    oracles = [array for array, group in zip(arrays, groups) if group.runs[0].results["privileged"]]
    oracle = None
    if oracles:
        oracle = oracles[0]
        bounds["oracle"] = float(oracle.mean())
    elif bounds["oracle"] is not None:
        oracle = np.full((1, counted.sum()), bounds["oracle"])
    name = name.format(parts[0][0]["protocols"][protocol]["title"])
    if part:
        name = f"{part.removeprefix('ood_')} OOD, {name}"
    if not counted.all():
        name = f"{name} ({counted.sum()} of {len(counted)} tasks)"
    task_id = np.array(parts[0][0]["tasks"]["ids"])[counted]
    return Scores(name, not path and not part, task_id, arrays, oracle, bounds)


def _block(part: dict, protocol: str, path: tuple[str, ...]) -> dict | None:
    block: Any = part["protocols"]
    for key in (protocol, *path):
        block = block.get(key) if block else None
    return block


def _mean(values: list[float | None]) -> float | None:
    return None if None in values else float(np.mean(values))


def _names(runs: Sequence[Run]) -> list[str]:
    """The name of each run's group."""
    names = []
    for run in runs:
        own = run.results.get("hyper_params", {})  # results of older versions have none
        rest = [r.results.get("hyper_params", {}) for r in runs if _system(r) == _system(run)]
        varied = [name for name in own if any(own[name] != hp.get(name, own[name]) for hp in rest)]
        names.append(", ".join([_system(run), *(f"{name} {own[name]:g}" for name in varied)]))
    return names


def _system(run: Run) -> str:
    return f"{run.results['method']} {run.results['preset'] or 'default'}"


def _is_json(source: str) -> bool:
    return source.endswith(".json") and not Path(source).is_dir()


def _file(source: str) -> Path:
    return Path(source if _is_json(source) else f"{source}/{results.FILE}").resolve()


def _read(source: str) -> list[Run]:
    """The runs that a source holds: one, or those of a cell (`tools/sweep/cell.py`)."""
    remedy = f"give a run's folder or its {results.FILE}, or evaluate the run again"
    if not _is_json(source):
        runs = [Run(source, results.read(source))]
    elif not Path(source).is_file():
        raise UserError(f"there is no file {source!r}; give a run's folder or its {results.FILE}")
    else:  # a copy, perhaps of an earlier version, which wrote no checksum
        found = files.read_json(source, "copy it again from its run", sealed=False)
        runs = _of_cell(source, found, remedy) if "cell" in found else [Run(source, found)]
    runs = [
        run._replace(results=results.scored(results.translate(run.results), source, remedy))
        for run in runs
    ]
    if len(runs) > 1:
        runs = [run._replace(source=f"{source}, seed {run.results['seed']}") for run in runs]
    return runs


def _of_cell(source: str, found: dict, remedy: str) -> list[Run]:
    """The runs of a result file; raises `UserError` if it is none."""
    otherwise = f"{source!r} does not hold the results of a run"
    files.expect(found, _CELL, otherwise, remedy)
    if not found["runs"]:
        raise UserError(f"{otherwise}: it has no runs; {remedy}")
    return [Run(source, run["results"], run["audit"]) for run in found["runs"]]


def _check_alike(first: Run, run: Run) -> None:
    """Raises `UserError` unless two runs were evaluated on the same tasks."""
    a, b = first.results, run.results
    if a["family"] != b["family"]:
        raise UserError(
            f"{run.source!r} is a run on {b['family']} but {first.source!r} one on {a['family']}; "
            "compare runs on one family"
        )
    if a["split"] != b["split"]:
        raise UserError(
            f"{run.source!r} was evaluated on {b['split']} tasks but {first.source!r} on "
            f"{a['split']} tasks; compare runs with the same data.validation_tasks"
        )
    parts = [(a, b), *((a[name], b[name]) for name in store.OOD if name in a and name in b)]
    if any(one["tasks"] != other["tasks"] for one, other in parts):
        raise UserError(
            f"{run.source!r} was evaluated on other held-out tasks than {first.source!r}; "
            "compare runs on one data set"
        )
