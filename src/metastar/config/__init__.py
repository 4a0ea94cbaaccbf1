"""What a run is told: fields, recipes, sweeps, checks and JSON (floor 0: imports no JAX itself)."""

from metastar.config.fields import Field, Like, Open, flatten, nest
from metastar.config.launch import describe, load, load_preset, recipe
from metastar.config.schema import make, scope
from metastar.config.values import (
    FORMAT,
    build,
    change,
    decaying,
    diff,
    from_dict,
    swept,
    to_dict,
    validate,
)

__all__ = [
    "FORMAT",
    "Field",
    "Like",
    "Open",
    "build",
    "change",
    "decaying",
    "describe",
    "diff",
    "flatten",
    "from_dict",
    "load",
    "load_preset",
    "make",
    "nest",
    "recipe",
    "scope",
    "swept",
    "to_dict",
    "validate",
]
