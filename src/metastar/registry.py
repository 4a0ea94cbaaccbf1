"""Finds extensions by the names of their files (floor 0: imports no JAX itself)."""

import importlib
import pkgutil
from collections.abc import Iterable
from types import ModuleType
from typing import NamedTuple

from metastar.errors import UserError, did_you_mean


class Kind(NamedTuple):
    """A kind of extension."""

    package: str  # whose files they are
    mount: str  # the section of a config that their settings are in
    needs: tuple[str, ...] = ("DEFAULTS", "make")  # what every file defines


KINDS = {
    "method": Kind("metastar.methods", "{name}"),
    "agent": Kind("metastar.agents", "agent.{name}"),
    "encoder": Kind("metastar.models.encoders", "encoder.{name}"),
    "task loss": Kind("metastar.losses.task", "{name}"),
    "family": Kind("metastar.envs.families", "env", ("DEFAULTS", "DATA", "FAMILY")),
    "behavior": Kind("metastar.collection.behaviors", "collect.{name}"),
    "protocol": Kind("metastar.evaluation.protocols", "eval"),
    "exploration strategy": Kind("metastar.evaluation.exploration", "explore.{name}"),
    "executor": Kind("metastar.tools.sweep.executors", "", ("make",)),
}

_imported: dict[tuple[str, str], str] = {}  # (kind, name) of a file outside -> its dotted path


def names(kind: str) -> list[str]:
    """Names of all files of a kind, those of `register` among them, in alphabetical order."""
    package = importlib.import_module(KINDS[kind].package)
    own = [module.name for module in pkgutil.iter_modules(package.__path__)]
    return sorted({*own, *(name for k, name in _imported if k == kind)})


def expect(kind: str, name: str) -> None:
    """Raises `UserError` unless there is a file of that kind and name; imports nothing."""
    if name not in names(kind):
        raise UserError(f"unknown {kind} {name!r}{did_you_mean(name, names(kind))}")


def find(kind: str, name: str) -> ModuleType:
    """Returns the module of a kind by its name.

    Raises `UserError` if there is none, or it lacks something that its kind needs.
    """
    expect(kind, name)
    path = _imported.get((kind, name), f"{KINDS[kind].package}.{name}")
    module = importlib.import_module(path)
    _expect_complete(kind, path, module)
    return module


def register(paths: Iterable[str]) -> None:
    """Imports files outside this package, by dotted path, and makes them known by their leaf name.

    Such a file says what it is: `KIND = "task loss"`, one of `KINDS`.

    Raises:
        UserError: it cannot be imported or lacks what its kind needs; its name is no identifier, or
            another file of that kind has it.
    """
    for path in paths:
        module = _import(path)
        kind = getattr(module, "KIND", None)
        if kind not in KINDS:
            raise UserError(
                f"imports: {path!r} must define KIND, one of {', '.join(map(repr, KINDS))}"
            )
        _expect_complete(kind, path, module)
        name = path.rpartition(".")[2]
        other = _imported.get((kind, name))
        if other is None and name in names(kind):
            other = f"{KINDS[kind].package}.{name}"
        if other not in (None, path):
            raise UserError(
                f"imports: {path!r} and {other!r} are both {kind} {name!r}; rename one of the files"
            )
        _imported[kind, name] = path


def mount(kind: str, name: str) -> str:
    """The section that the settings of an extension are in."""
    return KINDS[kind].mount.format(name=name)


def _import(path: str) -> ModuleType:
    if not all(part.isidentifier() for part in path.split(".")):
        raise UserError(f"imports: {path!r} is no dotted name of a module, such as my_package.spc")
    try:
        return importlib.import_module(path)
    except ModuleNotFoundError as error:
        if error.name and f"{path}.".startswith(f"{error.name}."):
            raise UserError(
                f"imports: {path!r} is not importable: no module {error.name!r}; "
                "put its folder on PYTHONPATH"
            ) from None
        raise UserError(f"imports: {path!r} needs the module {error.name!r}") from error
    except Exception as error:
        raise UserError(f"imports: {path!r} fails with {type(error).__name__}: {error}") from error


def _expect_complete(kind: str, path: str, module: ModuleType) -> None:
    missing = [name for name in KINDS[kind].needs if not hasattr(module, name)]
    if missing:
        raise UserError(f"{kind} {path!r} does not define {', '.join(missing)}")
