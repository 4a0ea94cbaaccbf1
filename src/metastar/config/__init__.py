"""What a run is told: fields, presets, sweeps, checks and JSON (floor 0: imports no JAX)."""

from metastar.config.values import (
    base,
    diff,
    flatten,
    from_json,
    load_preset,
    to_json,
    validate,
)

__all__ = ["base", "diff", "flatten", "from_json", "load_preset", "to_json", "validate"]
