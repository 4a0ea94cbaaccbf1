"""Random search: settings drawn within what their fields allow, judged on withheld training tasks.

The log, `<results>/search.json`, has every setting that was drawn, the score of each seed under it
and, once all its cells have ended, the best setting of each group of cells, a group being all that
differ in seed and setting alone. The score is the return, mean over the withheld tasks, by the
first of `eval.protocols`. A setting under which a cell failed is not chosen.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from metastar import files
from metastar.config import fields, schema
from metastar.config.fields import Field, flatten
from metastar.errors import UserError
from metastar.tools.sweep import cell as cell_files
from metastar.tools.sweep.grid import Cell, Setting, Sweep
from metastar.tools.sweep.state import ENDED, Entries

FILE = "search.json"
KINDS = ("log", "uniform", "choice")
_FIXED = ("seed", "num_seeds", "data.validation_tasks")
_DIGITS = 4  # of a drawn number, so that its line can be read


def draw(sweep: Sweep, cells: Sequence[Cell], num: int) -> list[Setting]:
    """Draws settings; more of them begin with the same ones.

    Args:
        sweep: its `search` maps paths of fields to ranges: `("log", low, high)`,
            `("uniform", low, high)`, `("choice", a, b, ...)`, or `()`, all that the field allows.
        cells: of the sweep as it is; every one has the fields.
        num: how many settings.

    Raises:
        UserError: there is nothing to search; a cell lacks a field, or would be scored on test
            tasks; a range is not one, is not bounded, or leaves what the field allows.
    """
    if not sweep.search:
        raise UserError(
            f"{sweep.source} has no search; give it ranges, for instance "
            'search={"agent.iql.expectile": ("uniform", 0.6, 0.9)}'
        )
    found = [_fields_of(cell, sweep) for cell in cells]
    ranges = {path: _range(path, sweep.search[path], field) for path, field in found[0].items()}
    settings = []
    for k in range(num):
        rng = np.random.default_rng((sweep.search_seed, k))
        values = {path: _value(rng, *ranges[path], found[0][path]) for path in ranges}
        words = [f"{path}={_typed(value)}" for path, value in values.items()]
        settings.append(Setting(f"draw{k}", tuple(words)))
    return settings


def write(
    sweep: Sweep, settings: Sequence[Setting], cells: Sequence[Cell], entries: Entries
) -> str:
    """Writes the log of a search, as far as it has come; returns its sentences for a terminal.

    Raises:
        UserError: a result is not of withheld training tasks; a file is damaged or not writable.
    """
    groups = {cell.group: {} for cell in cells}
    for cell in cells:
        own = groups[cell.group].setdefault(cell.setting, {})
        done = entries[cell.name].state == "done"
        own.update(_scores(cell, sweep) if done else {str(cell.cfg.seed): None})
    unfinished = {c.group for c in cells if entries[c.name].state not in ENDED}
    report, lines = {}, []
    for group, drawn in groups.items():
        means = {
            name: float(np.mean(list(own.values())))
            for name, own in drawn.items()
            if None not in own.values()
        }
        best = max(means, key=means.get, default=None) if group not in unfinished else None
        report[group] = {"scores": drawn, "means": means, "chosen": best}
        scored = f"{len(means)} of {len(drawn)} settings have all their scores"
        if best is None:
            lines.append(f"{group}: {scored}")
        else:
            words = next(setting.values for setting in settings if setting.name == best)
            lines.append(f"{group}: {scored}, best {best}, {means[best]:.4g}: {' '.join(words)}")
    log = {
        "source": sweep.source,
        "search_seed": sweep.search_seed,
        "ranges": {path: list(rule) for path, rule in sweep.search.items()},
        "settings": {setting.name: list(setting.values) for setting in settings},
        "groups": report,
    }
    files.write_json(sweep.results / FILE, log)
    return "\n".join([*lines, f"log: {sweep.results / FILE}"])


def _fields_of(cell: Cell, sweep: Sweep) -> dict[str, Field]:
    """The searched fields as a cell has them."""
    if not cell.cfg.data.validation_tasks:
        raise UserError(
            f"cell {cell.name}: a search is scored on withheld training tasks alone; give the "
            "override data.validation_tasks=K, K > 0"
        )
    found = schema.of(flatten(cell.cfg))
    for path in sweep.search:
        if path not in found.fields:
            raise UserError(f"cell {cell.name}: {schema.explain_unknown(found, path)}")
        if path in _FIXED:
            raise UserError(f"search: {path} decides what a score is, and cannot be searched")
    return {path: found.fields[path] for path in sweep.search}


def _range(path: str, rule: Any, field: Field) -> tuple[str, tuple]:
    """How a field is drawn, and from what; its ends or choices are values that it may have."""
    if not isinstance(rule, tuple | list):
        raise UserError(f"search: {path} is {rule!r} but must be a range such as ('log', 1e-4, 1)")
    if not rule:
        return _allowed(path, field)
    kind, *values = rule
    if kind not in KINDS:
        raise UserError(f"search: {path} begins with {kind!r}, not with one of {', '.join(KINDS)}")
    if isinstance(fields.example(field), float):
        values = [float(x) if type(x) is int else x for x in values]
    for value in values:
        fields.check(f"search: {path}", value, field)
    if kind == "choice":
        if not values:
            raise UserError(f"search: {path} has no choices")
        return kind, tuple(values)
    numbers = all(type(x) in (int, float) for x in values)
    if not numbers or len(values) != 2 or not values[0] < values[1]:
        raise UserError(f"search: {path} is {rule!r} but must be ({kind!r}, low, high)")
    if kind == "log" and values[0] <= 0:
        raise UserError(f"search: {path} is {rule!r} but a range in logarithms lies above 0")
    return kind, tuple(values)


def _allowed(path: str, field: Field) -> tuple[str, tuple]:
    if isinstance(fields.example(field), bool):
        return "choice", (False, True)
    if isinstance(field.allowed, tuple):
        return "choice", field.allowed
    if field.allowed.startswith(("[", "(")):
        low, high = map(float, field.allowed[1:-1].split(","))
        if math.isfinite(high - low):
            return "uniform", (low, high)
    raise UserError(
        f"search: {path} may be {field.allowed or 'any value'}, which is not bounded; give a range "
        "such as ('log', 1e-4, 1e-2)"
    )


def _value(rng: np.random.Generator, kind: str, ends: tuple, field: Field) -> Any:
    if kind == "choice":
        return ends[rng.integers(len(ends))]
    low, high = ends
    if type(fields.example(field)) is int and kind == "uniform":
        return int(rng.integers(int(low), int(high), endpoint=True))
    drawn = math.exp(rng.uniform(math.log(low), math.log(high))) if kind == "log" else None
    drawn = rng.uniform(low, high) if drawn is None else drawn
    if type(fields.example(field)) is int:
        return min(max(round(drawn), low), high)
    return min(max(float(f"{drawn:.{_DIGITS}g}"), low), high)


def _typed(value: Any) -> str:
    """As it stands on a command line."""
    return repr(value).replace(" ", "") if isinstance(value, tuple) else str(value)


def _scores(cell: Cell, sweep: Sweep) -> Mapping[str, float]:
    """The score of each seed of a finished cell."""
    file = cell_files.file_of(cell, sweep)
    found = {}
    for run in cell_files.read(file)["runs"]:
        results = run["results"]
        if results["split"] != "validation":
            raise UserError(
                f"{file} was scored on {results['split']} tasks, and a search is on withheld "
                "training tasks alone; move it away"
            )
        first = next(iter(results["protocols"].values()))
        found[str(results["seed"])] = first["mean"]
    return found
