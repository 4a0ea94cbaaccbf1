"""What has become of each cell, in `<runs>/sweep.json`: what a later call and `status` read."""

import contextlib
import fcntl
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from metastar import files
from metastar.errors import UserError
from metastar.files import Each, Maybe, MayLack

FILE = "sweep.json"
_LOCK = ".sweep.lock"
ENDED = ("done", "failed")


class Entry(NamedTuple):
    """One cell."""

    workdir: str
    state: str = "waiting"  # or "running", "stopped", "done", "failed"
    began: float | None = None  # Unix seconds, of the last start
    seconds: float | None = None  # that its last process took
    place: dict | None = None  # where it runs, in the executor's words
    returns: dict[str, float] = {}  # noqa: RUF012 - of a cell that is done, by protocol
    sentence: str | None = None  # what ended a cell that failed, or what a waiting one waits for


Entries = dict[str, Entry]  # by name of the cell
_FORM = {
    "source": MayLack(str),
    "cells": Each(
        {
            "workdir": str,
            "state": MayLack(str),
            "began": MayLack(Maybe(float)),
            "seconds": MayLack(Maybe(float)),
            "place": MayLack(Maybe({})),
            "returns": MayLack(Each(float)),
            "sentence": MayLack(Maybe(str)),
        }
    ),
}


def read(runs: Path) -> Entries:
    """The entries of an earlier call; {} if there was none; raises `UserError` if damaged."""
    return _read(runs)[0]


def expect_same(runs: Path, source: str, names: Iterable[str]) -> None:
    """Raises `UserError` if a folder holds the state of another file with none of these cells."""
    entries, other = _read(runs)
    if entries and other not in (None, _named(source)) and not entries.keys() & set(names):
        raise UserError(
            f"{runs} holds the state of another sweep, {other}; name another folder in the field "
            f"runs of {source}, or delete {runs / FILE}"
        )


def _named(source: str) -> str:
    return Path(source).name  # with the argument; the file may be reached by several paths


def _read(runs: Path) -> tuple[Entries, str | None]:
    """Entries and the name of the sweep file, None of older versions."""
    if not (runs / FILE).exists():
        return {}, None
    remedy = "delete it; finished cells are known by their result files"
    content = files.read_json(runs / FILE, remedy)
    otherwise = f"{runs / FILE} is not the state of a sweep"
    files.expect(content, _FORM, otherwise, remedy)
    try:
        entries = {name: Entry(**fields) for name, fields in content["cells"].items()}
    except TypeError:
        raise UserError(f"{otherwise}: a cell has an entry too many; {remedy}") from None
    return entries, content.get("source")


def write(runs: Path, entries: Entries, source: str) -> None:
    """Writes the entries of the sweep file `source`, whole or not at all.

    Raises `UserError` if the folder is not writable.
    """
    content = {name: entry._asdict() for name, entry in entries.items()}
    files.write_json(runs / FILE, {"source": _named(source), "cells": content})


@contextlib.contextmanager
def held(runs: Path) -> Iterator[None]:
    """Holds the folder of a sweep's runs, which it makes, until the context ends.

    Raises:
        UserError: another process holds it, or it is not writable.
    """
    try:
        runs.mkdir(parents=True, exist_ok=True)
        lock = open(runs / _LOCK, "w")  # noqa: SIM115 - the context below closes it
    except OSError as error:
        raise UserError(
            f"the folder of the runs, {runs}, is not writable ({error.strerror}); name another "
            "one in the field runs of the sweep file"
        ) from None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # the kernel frees it, also on SIGKILL
        except BlockingIOError:
            raise UserError(
                f"the sweep of {runs} is going on in another process; see it with "
                f"metastar sweep status {runs}"
            ) from None
        yield


def is_held(runs: Path) -> bool:
    """Whether a process drives the sweep at this moment."""
    try:
        with open(runs / _LOCK) as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False
