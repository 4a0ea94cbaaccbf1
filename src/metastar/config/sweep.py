"""The runs a config stands for, seeds and swept values (floor 0: imports no JAX).

Works on flat dicts {dotted path: value}. Only what enters an update as a traced number may differ
among the runs of one program: the seed, and fields with `Field.swept`.
"""

import itertools
import math
from typing import Any

from metastar.config import fields
from metastar.config.schema import SWEEP, Schema
from metastar.errors import UserError, did_you_mean

MOST_RUNS = 256  # of one program: each has files of its own open, and many systems allow 1,024


def path_of(found: Schema, name: str) -> str:
    """Returns the path of the field that `sweep.<name>` varies: a path, or the end of just one.

    Raises `UserError` if it is no such field: everything else is structure, which a program is
    compiled for.
    """
    swept = [path for path, field in found.fields.items() if field.swept]
    ends = [path for path in swept if path == name or path.endswith(f".{name}")]
    if name in ends or len(ends) == 1:
        return name if name in ends else ends[0]
    if ends:
        raise UserError(
            f"{SWEEP}.{name} may be any of {', '.join(ends)}; give the whole path of one"
        )
    raise UserError(
        f"{SWEEP}.{name} names nothing that can be swept, which are rates and weights, but not "
        f"what a program is compiled for{did_you_mean(name, swept)}"
    )


def expect(found: Schema, path: str) -> None:
    """Raises `UserError` unless `sweep.<path>` is the whole path of a swept field."""
    name = path.removeprefix(f"{SWEEP}.")
    whole = path_of(found, name)
    if whole != name:
        raise UserError(f"{path} must have the whole path, {SWEEP}.{whole}")


def check(found: Schema, flat: dict[str, Any]) -> None:
    """Raises `UserError` unless the swept values are such and the runs are not too many."""
    for path, values in flat.items():
        if path.startswith(f"{SWEEP}."):
            own = path.removeprefix(f"{SWEEP}.")
            _check_values(path, values, own, found.fields[own])
    last = flat["seed"] + flat["num_seeds"] - 1
    fields.check_interval("seed of the last run", last, fields.SEED)
    if (num := num_runs(flat)) > MOST_RUNS:
        raise UserError(
            f"num_seeds and sweep ask for {num} runs in one program, but {MOST_RUNS} are the "
            "most; start several with other seeds"
        )


def _check_values(path: str, values: Any, own: str, field: fields.Field) -> None:
    if not (isinstance(values, tuple) and values and all(type(x) in (int, float) for x in values)):
        raise UserError(f"{path} is {values!r} but must be numbers, for instance 0.5,1,5")
    fields.check_interval(path, values, field.allowed)
    if field.switch and 0 in values:
        raise UserError(
            f"{path} is {values!r} but 0 leaves {own} out of the program that all its runs "
            "share; sweep values above 0"
        )
    if len(set(values)) < len(values):
        raise UserError(f"{path} is {values!r} but holds a value twice; give each once")


def is_many(flat: dict[str, Any]) -> bool:
    """Whether a config stands for an axis of runs, each in a folder of its own."""
    return flat["num_seeds"] > 1 or any(path.startswith(f"{SWEEP}.") for path in flat)


def num_runs(flat: dict[str, Any]) -> int:
    """How many runs a flat config stands for."""
    swept = [len(values) for path, values in flat.items() if path.startswith(f"{SWEEP}.")]
    return flat["num_seeds"] * math.prod(swept)


def combinations(flat: dict[str, Any]) -> list[dict[str, float]]:
    """The swept values of a flat config, by path, in all their combinations: [{}] if none is."""
    swept = {
        path.removeprefix(f"{SWEEP}."): values
        for path, values in flat.items()
        if path.startswith(f"{SWEEP}.")
    }
    return [dict(zip(swept, map(float, values))) for values in itertools.product(*swept.values())]


def changes(flat: dict[str, Any]) -> list[dict[str, Any]]:
    """Returns what each run changes in a flat config: the product of swept values and seeds.

    The seed varies fastest: run k has the seed `flat["seed"] + k % flat["num_seeds"]`.
    """
    return [
        {**values, "seed": flat["seed"] + k}
        for values in combinations(flat)
        for k in range(flat["num_seeds"])
    ]
