"""Files that are whole or absent, whenever the process dies; JSON with a checksum and of a form.

A checksum proves that a file is what somebody wrote, not that a reader can use it. A form is

* `str`, `bool` or `int`: a value of this very type, so that true is no number;
* `float`: any number;
* `[form]`: a list of it;
* `{name: form}`: an object that has these names and perhaps others;
* `Each(form)`: an object of any names, with values of one form;
* `Maybe(form)`: that, or null;
* `{name: MayLack(form)}`: an object that may lack the name.
"""

import hashlib
import json
import math
import os
from pathlib import Path
from typing import Any, NamedTuple

from metastar.errors import UserError, brief

_SEAL = "sha256"  # key of the checksum of everything else
_DEEPEST = 50  # levels of lists and objects; what goes through them calls itself for each
_WORDS = {str: "a text", bool: "true or false", int: "a whole number", float: "a number"}


class Each(NamedTuple):
    """An object whose values all have one form."""

    form: Any


class Maybe(NamedTuple):
    """A value that may be null."""

    form: Any


class MayLack(NamedTuple):
    """The value of a name that an object may lack."""

    form: Any


def write_atomic(path: Path, content: str | bytes) -> None:
    """Writes a file under a temporary name, forces it to disk, then renames it into place."""
    path = Path(path)
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_bytes(content.encode() if isinstance(content, str) else content)
    sync(temporary)
    temporary.replace(path)
    sync(path.parent)


def sync(path: Path) -> None:
    """Forces one file, or the entries of one folder, to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_tree(folder: Path) -> None:
    """Forces a folder and everything below it to disk."""
    for root, _, names in os.walk(folder):
        for name in names:
            sync(Path(root, name))
        sync(Path(root))


def save(path: Path, content: str | bytes) -> None:
    """Writes one file, whole or not at all; raises `UserError` if the folder is read-only."""
    try:
        write_atomic(path, content)
    except OSError as error:
        raise UserError(
            f"cannot write {str(path)!r} ({error.strerror}); make its folder writable"
        ) from None


def write_json(path: Path, content: dict) -> None:
    """Writes a JSON object with the key "sha256", its checksum; errors are those of `save`."""
    save(path, sealed(content))


def sealed(content: dict) -> str:
    """The text that `write_json` writes."""
    content = json.loads(json.dumps(content, allow_nan=False))  # as a reader will find it
    return json.dumps({**content, _SEAL: _digest(content)}, indent=2, allow_nan=False) + "\n"


def read_json(path: str | Path, remedy: str, sealed: bool = True) -> dict:
    """Returns the object that `write_json` wrote, once its checksum is found to be right.

    Args:
        path: the file.
        remedy: what the user is told to do if it cannot be had.
        sealed: whether the checksum must be there; one that is there must be right.

    Raises:
        UserError: the file is missing, unreadable, edited, lacks the checksum, or is no JSON object
            that `parse_json` takes.
    """
    try:
        content = parse_json(Path(path).read_bytes())
    except FileNotFoundError:
        raise UserError(f"{path} is missing; {remedy}") from None
    except OSError as error:
        raise UserError(f"cannot read {path} ({error.strerror}); {remedy}") from None
    except ValueError as error:
        raise UserError(f"{path} is damaged: {error}; {remedy}") from None
    if not isinstance(content, dict):
        raise UserError(f"{path} is damaged: it holds no JSON object; {remedy}")
    if _SEAL not in content:
        if sealed:
            raise UserError(f"{path} is damaged: it has no checksum (sha256); {remedy}")
        return content
    if content.pop(_SEAL) != _digest(content):
        raise UserError(f"{path} is damaged: its content does not match its SHA-256; {remedy}")
    return content


def parse_json(text: str | bytes) -> Any:
    """Returns what a JSON text in UTF-8 says.

    What other parsers pass on, each in its own way, is refused, so that every reader has plain
    values: NaN and infinities, whole numbers beyond 64 bits, an object that names a key twice, half
    of a surrogate pair, and nesting that leaves no stack.

    Raises:
        ValueError: it is no such text; its message says why, to follow "it is damaged: ".
    """
    try:
        content = json.loads(
            text.decode() if isinstance(text, bytes) else text,
            object_pairs_hook=_unique,
            parse_constant=_number,
            parse_float=_number,
            parse_int=_number,
        )
        level = [content]
        for _ in range(_DEEPEST):
            level = [part for container in level for part in _parts(container)]
    except _Refused:
        raise
    except UnicodeEncodeError:
        raise ValueError("it holds half of a surrogate pair, which is no character") from None
    except ValueError:
        raise ValueError("it is not JSON") from None
    except RecursionError:
        level = [text]
    if level:
        raise ValueError(f"it nests lists and objects more than {_DEEPEST} deep")
    return content


def expect(content: Any, form: Any, otherwise: str, remedy: str) -> None:
    """Raises `UserError` at the first part of a content that does not have its form.

    Args:
        content: what `read_json` returned.
        form: as in the head of this file.
        otherwise: what the file is not then, with its path: the head of the sentence.
        remedy: what the user is told to do: its end.
    """
    if wrong := _first_wrong(content, form, ""):
        raise UserError(f"{otherwise}: {wrong}; {remedy}")


def _first_wrong(value: Any, form: Any, path: str) -> str | None:
    """What is wrong with the first part that does not have its form, for a sentence; or None."""
    if isinstance(form, Maybe | MayLack):
        if value is None and isinstance(form, Maybe):
            return None
        return _first_wrong(value, form.form, path)
    if isinstance(form, type):
        kinds = (int, float) if form is float else (form,)
        return None if type(value) in kinds else _must_be(value, path, _WORDS[form])
    if isinstance(form, list):
        if not isinstance(value, list):
            return _must_be(value, path, "a list")
        parts = [(str(i), part, form[0]) for i, part in enumerate(value)]
    elif not isinstance(value, dict):
        return _must_be(value, path, "an object")
    elif isinstance(form, Each):
        parts = [(name, part, form.form) for name, part in value.items()]
    else:
        lacking = [n for n, own in form.items() if n not in value and not isinstance(own, MayLack)]
        if lacking:
            return f"{f'{path}.{lacking[0]}'.lstrip('.')} is missing"
        parts = [(name, value[name], own) for name, own in form.items() if name in value]
    found = (_first_wrong(part, own, f"{path}.{name}") for name, part, own in parts)
    return next(filter(None, found), None)


def _must_be(value: Any, path: str, words: str) -> str:
    return f"{path.lstrip('.') or 'it'} is {brief(value)} but must be {words}"


class _Refused(ValueError):
    """A value that JSON may have and no reader can use."""


def _unique(pairs: list[tuple[str, Any]]) -> dict:
    content = dict(pairs)
    if len(content) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise _Refused(f"it names {twice!r} twice in one object")
    return content


def _number(text: str) -> int | float:
    if text.lstrip("-").isdecimal():
        if len(text) > 20 or not -(2**63) <= int(text) < 2**63:
            raise _Refused("it holds a whole number beyond 64 bits")
        return int(text)
    if not math.isfinite(value := float(text)):
        raise _Refused("it holds a number that is not finite")
    return value


def _parts(value: Any) -> list:
    """What a list or an object holds, whose texts must be encodable; [] of anything else."""
    if isinstance(value, str):
        value.encode()
    if isinstance(value, dict):
        return [*value, *value.values()]
    return value if isinstance(value, list) else []


def _digest(content: dict) -> str:
    """SHA-256 of an object, independent of layout and order."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
