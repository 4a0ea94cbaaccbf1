"""One setting of a run: its value, what it may be, what it means (floor 0: imports no JAX)."""

import math
import re
import unicodedata
from collections.abc import Mapping
from typing import Any, NamedTuple

from metastar import registry
from metastar.errors import UserError, brief, did_you_mean

SEED = "[0, 4294967295]"
COUNT = "[1, inf)"
RATE = "(0, 1]"
NOT_NEGATIVE = "[0, inf)"
POSITIVE = "(0, inf)"
_MOST = {int: 2**31 - 1, float: 3e38}  # that a device holds in 32 bits, where there is no other end
_NUMBER = r"-?(?:inf|\d+(?:\.\d+)?)"
_INTERVAL = re.compile(rf"[\[(]{_NUMBER}, {_NUMBER}[\])]")


class Field(NamedTuple):
    """One setting, declared in the `DEFAULTS` of the file that it belongs to."""

    value: Any  # the default; its type is the field's
    # An interval of every number, "[0, inf)"; choices; or a kind of `registry.KINDS`: the names of
    # its files. "" is any value of the type.
    allowed: str | tuple = ""
    doc: str = ""  # what it is, its unit, its source
    swept: bool = False  # enters updates as a traced number, so that runs of one program may differ
    switch: bool = False  # 0 leaves the term out of the program: no sweep may mix 0 and others
    decays: bool = False  # follows the learning-rate schedule of its phase
    selector: bool = False  # names extensions, whose sections are merged; several with commas
    before: Any = None  # value in runs written before the field existed; None: every run has it


class Like(NamedTuple):
    """As `Field.value`: the default is whatever another field has; `type_of` tells its type."""

    path: str  # of the other field
    type_of: Any = 0.0
    fallback: Any = None  # in a config that has no such field; None: it must have one


class Open(NamedTuple):
    """A section whose keys are names of extensions of a kind; all its values are of one field."""

    kind: str  # of `registry.KINDS`
    field: Field


def example(field: Field) -> Any:
    """A value of the field's type."""
    value = field.value
    if not isinstance(value, Like):
        return value
    return value.type_of if value.fallback is None else value.fallback


def check(path: str, value: Any, field: Field) -> None:
    """Raises `UserError` unless a field may have a value: its type, interval, choice or name."""
    _check_type(path, value, field)
    if isinstance(field.allowed, tuple):
        if value not in field.allowed:
            raise UserError(f"{path} is {value!r}{did_you_mean(value, field.allowed)}")
    elif field.allowed in registry.KINDS:
        for name in names_in(value, field):
            registry.expect(field.allowed, name)
    elif field.allowed and not isinstance(example(field), str):
        check_interval(path, value, field.allowed)
    else:
        _check_plain(path, value)


def names_in(value: str | tuple, field: Field) -> list[str]:
    """The names that a field which names extensions holds; only a selector may hold several."""
    if not field.selector:
        return [value]
    return [name.strip() for name in value.split(",")]


def check_interval(path: str, value: Any, interval: str) -> None:
    """Raises `UserError` unless a number, or each of a tuple, lies in an interval."""
    low, high = map(float, interval[1:-1].split(","))
    for x in value if isinstance(value, tuple) else (value,):
        above = x >= low if interval[0] == "[" else x > low
        below = x <= high if interval[-1] == "]" else x < high
        if not (above and below):  # also true of NaN
            raise UserError(f"{path} is {value!r} but must lie in {interval}")
        most = _MOST[type(x)]
        if math.isinf(high) and x > most:
            raise UserError(f"{path} is {brief(value)} but must be at most {most}")


def _check_plain(path: str, value: Any) -> None:
    """Raises `UserError` for a text that cannot be printed, or a number that is not finite."""
    for x in value if isinstance(value, tuple) else (value,):
        if isinstance(x, str) and any(map(_is_control, x)):
            raise UserError(f"{path} is {brief(x)} but must not hold control characters")
        if isinstance(x, float) and not math.isfinite(x):
            raise UserError(f"{path} is {value!r} but must be finite")


def _is_control(character: str) -> bool:
    """Whether a character breaks a line, steers a terminal or is half of a surrogate pair."""
    return unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp")


def is_allowed_form(allowed: Any) -> bool:
    """Whether something may stand as `Field.allowed`."""
    if isinstance(allowed, str):
        return not allowed or allowed in registry.KINDS or bool(_INTERVAL.fullmatch(allowed))
    return isinstance(allowed, tuple)


def _check_type(path: str, value: Any, field: Field) -> None:
    default = example(field)
    ok = type(value) is type(default)
    if ok and isinstance(value, tuple):
        entry = type(default[0]) if default else str
        ok = (len(value) > 0 or not default) and all(type(x) is entry for x in value)
    if not ok:
        kind = type_name(field)
        raise UserError(f"{path} is {brief(value)} but must be of type {kind}")


def type_name(field: Field) -> str:
    """The type of a field's values, for a reader."""
    default = example(field)
    if isinstance(default, tuple):
        return f"tuple of {type(default[0]).__name__ if default else 'str'}s"
    return type(default).__name__


def flatten(tree: Mapping) -> dict[str, Any]:
    """Returns the leaves of a nested mapping, a config for instance, by dotted path, sorted."""

    def walk(node, prefix):
        for key, value in node.items():
            if hasattr(value, "items"):
                yield from walk(value, f"{prefix}{key}.")
            else:
                yield f"{prefix}{key}", value

    return dict(sorted(walk(tree, "")))


def nest(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Undoes `flatten`."""
    tree: dict[str, Any] = {}
    for path, value in flat.items():
        *sections, name = path.split(".")
        node = tree
        for section in sections:
            node = node.setdefault(section, {})
        node[name] = value
    return tree
