"""Configs: built from the few values that are not defaults, checked, and kept as JSON (floor 0)."""

from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from metastar import registry
from metastar.config import fields, legacy, schema, sweep
from metastar.config.fields import Like, flatten, nest
from metastar.config.schema import Schema
from metastar.errors import UserError, did_you_mean

FORMAT = 3  # of runs and data sets: 1 had one list of fields, 2 one state for all parts


def build(values: Mapping[str, Any]) -> ConfigDict:
    """Returns the config of a few values, by dotted path; every other field has its default.

    The family's `DATA[data.preset]` comes between the two. Raises `UserError` for a name, a path or
    a preset that is unknown.
    """
    preset = _data_preset(values)
    found = schema.of({**preset, **values})
    _expect_known(found, values)
    # A preset knows how each behaviour is to learn, whichever is chosen.
    preset = {path: value for path, value in preset.items() if path in found.fields}
    return ConfigDict(nest(_with_defaults(found, {**preset, **values})))


def change(cfg: ConfigDict, changes: Mapping[str, Any]) -> ConfigDict:
    """Returns a config with other values, by dotted path, selectors and data preset among them.

    Fields that differ from what `build` makes of the old selectors keep their values, if the new
    ones have such a field. Raises `UserError` as `build` does.
    """
    old = flatten(cfg)
    chosen = {path: old[path] for path in _choosing(schema.of(old)) if path in old}
    plain = flatten(build(chosen))
    own = {p: x for p, x in old.items() if p not in plain or repr(plain[p]) != repr(x)}
    values = {**chosen, **own, **changes}
    known = schema.of({**_data_preset(values), **values}).fields
    return build({p: x for p, x in values.items() if p in known or p in changes})


def _choosing(found: Schema) -> list[str]:
    """Paths of the fields that decide which other fields there are, or what they start from."""
    return [*(p for p, field in found.fields.items() if field.selector), "imports", "data.preset"]


def _data_preset(values: Mapping[str, Any]) -> dict[str, Any]:
    registry.register(values.get("imports", ()))  # the family may be one of them
    name = values.get("data.preset", "")
    if not name:
        return {}
    family = values.get("family", schema.ROOT["family"].value)
    presets = registry.find("family", family).DATA
    if name not in presets:
        raise UserError(
            f"family {family!r} has no data preset {name!r}{did_you_mean(name, presets)}"
        )
    return presets[name]


def _with_defaults(found: Schema, values: Mapping[str, Any]) -> dict[str, Any]:
    flat = {path: values.get(path, field.value) for path, field in found.fields.items()}
    for path, value in flat.items():
        if isinstance(value, Like):
            if value.path not in flat and value.fallback is None:
                raise UserError(f"{path} follows {value.path}, which this config does not have")
            flat[path] = flat.get(value.path, value.fallback)
    return flat | {p: x for p, x in values.items() if p.startswith(f"{schema.SWEEP}.")}


def _expect_known(found: Schema, values: Mapping[str, Any]) -> None:
    for path in values:
        if path.startswith(f"{schema.SWEEP}."):
            sweep.expect(found, path)
        elif path not in found.fields:
            raise legacy.renamed(path, found) or schema.explain_unknown(found, path)


def validate(cfg: ConfigDict) -> None:
    """Checks every field's presence, type and range, and what files demand between fields.

    Raises `UserError` with one sentence about the first field that is wrong.
    """
    flat = flatten(cfg)
    found = schema.of(flat)
    _expect_known(found, flat)
    for path, field in found.fields.items():
        if path not in flat:
            raise UserError(f"config field {path!r} is missing; make configs with config.build")
        fields.check(path, flat[path], field)
    sweep.check(found, flat)
    _expect_effect(cfg, found, flat)
    for changes in sweep.combinations(flat):
        for check in schema.checks(ConfigDict(nest({**flat, **changes})), found):
            check()


def _expect_effect(cfg: ConfigDict, found: Schema, flat: Mapping[str, Any]) -> None:
    """Raises `UserError` for a swept field that changes nothing, which `idle(cfg)` tells."""
    for mount, module in found.parts:
        if hasattr(module, "idle"):
            idle = registry.call(module, "idle", schema.scope(cfg, mount, module))
            for name, reason in idle.items():
                path = f"{mount}.{name}"
                if f"{schema.SWEEP}.{path}" in flat:
                    raise UserError(f"{schema.SWEEP}.{path} changes nothing {reason}")


def diff(a: ConfigDict, b: ConfigDict) -> tuple[str, Any, Any] | None:
    """Returns (path, value in a, value in b) of the first differing field, or None if equal.

    Types count: 1 differs from 1.0. A field that one side lacks has the value None there.
    """
    flat_a, flat_b = flatten(a), flatten(b)
    for path in sorted(flat_a.keys() | flat_b.keys()):
        pair = flat_a.get(path), flat_b.get(path)
        if repr(pair[0]) != repr(pair[1]):
            return (path, *pair)
    return None


def to_dict(cfg: ConfigDict) -> dict[str, Any]:
    """What is kept of a config, for JSON: its fields, but the mesh, and the format's number."""
    kept = {name: value for name, value in cfg.to_dict().items() if name != schema.PLACE}
    return {"format": FORMAT, **kept}


def from_dict(stored: Any, source: str = "config") -> ConfigDict:
    """Rebuilds a config from what `to_dict` made, or from what the first format had, and checks it.

    A field that was introduced since then has the value that runs had before (`Field.before`).

    Raises:
        UserError: in the name of `source`: it is no such config, or of a newer format.
    """
    if not isinstance(stored, dict):
        raise UserError(f"{source} must hold a JSON object with the fields of a config")
    number = stored.get("format", 1)
    if type(number) is not int or not 1 <= number <= FORMAT:
        raise UserError(f"{source} is of format {number!r}, which this version cannot read")
    flat = flatten({name: value for name, value in stored.items() if name != "format"})
    flat = {path: tuple(x) if isinstance(x, list) else x for path, x in flat.items()}
    if number == 1:
        flat = legacy.translate(flat)
    if number <= 2 and "world_model.width" in flat:
        flat = legacy.with_widths(flat)
    found = schema.of(flat)
    for path, field in found.fields.items():
        if path not in flat and field.before is None:
            raise UserError(f"{source} lacks the field {path!r}; restore it from a copy")
    flat = {**{p: field.before for p, field in found.fields.items() if p not in flat}, **flat}
    _expect_known(found, flat)
    for path, value in flat.items():  # edited by hand, 1 may stand for 1.0
        whole = type(value) is int and path in found.fields
        if whole and isinstance(fields.example(found.fields[path]), float):
            flat[path] = float(value)
    cfg = ConfigDict(nest(flat))
    validate(cfg)
    return cfg


def swept(cfg: ConfigDict) -> dict[str, Any]:
    """The values of all fields that enter updates as traced numbers, nested by section.

    Weights of 0 in an open section, which switch their extension off, are left out.
    """
    return _chosen(cfg, lambda field: field.swept)


def decaying(cfg: ConfigDict) -> dict[str, Any]:
    """`swept` with True in place of the values that follow the schedule of their phase."""
    decays = {p: f.decays for p, f in schema.of(flatten(cfg)).fields.items()}
    return nest({path: decays[path] for path in flatten(swept(cfg))})


def _chosen(cfg: ConfigDict, wanted) -> dict[str, Any]:
    flat = flatten(cfg)
    found = schema.of(flat)

    def is_off(path):
        return path.rpartition(".")[0] in found.open and flat[path] == 0

    kept = [p for p, field in found.fields.items() if wanted(field) and not is_off(p)]
    return nest({path: flat[path] for path in sorted(kept)})
