"""Finds extensions by the names of their files (floor 0: imports no JAX itself)."""

import importlib
import pkgutil
from collections.abc import Callable, Iterable, Mapping
from types import ModuleType
from typing import Any, NamedTuple

from metastar.errors import UserError, brief, did_you_mean, explain


class Kind(NamedTuple):
    """A kind of extension."""

    package: str  # whose files they are
    mount: str  # the section of a config that their settings are in
    record: str  # dotted name of what `make` returns
    needs: tuple[str, ...] = ("DEFAULTS", "make")  # what every file defines


_STRATEGY = ("DEFAULTS", "NEEDS_MODEL", "make")
_FAMILY = ("DEFAULTS", "DATA", "FAMILY")  # the record itself, in place of `make`

KINDS = {
    "method": Kind("metastar.methods", "{name}", "metastar.types.Method"),
    "agent": Kind("metastar.agents", "agent.{name}", "metastar.types.Agent"),
    "encoder": Kind("metastar.models.encoders", "encoder.{name}", "metastar.types.Encoder"),
    "task loss": Kind("metastar.losses.task", "{name}", "metastar.types.TaskLoss"),
    "family": Kind("metastar.envs.families", "env", "metastar.envs.family.Family", _FAMILY),
    "behavior": Kind(
        "metastar.collection.behaviors", "collect.{name}", "metastar.collection.behavior.Behavior"
    ),
    "protocol": Kind(
        "metastar.evaluation.protocols", "eval", "metastar.evaluation.protocol.Protocol"
    ),
    "exploration strategy": Kind(
        "metastar.evaluation.exploration",
        "explore.{name}",
        "metastar.evaluation.strategy.Strategy",
        _STRATEGY,
    ),
    "executor": Kind(
        "metastar.tools.sweep.executors", "", "metastar.tools.sweep.executor.Executor"
    ),
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


def make(kind: str, name: str, *args: Any) -> Any:
    """Returns what `make(*args)` of an extension makes.

    Raises:
        UserError: as `find`; or a file outside this package fails; or what comes is no record of
            the kind.
    """
    made = call(find(kind, name), "make", *args)
    if not isinstance(made, record := _record(kind)):
        raise UserError(
            f"make of {kind} {name!r} must return {_a(record)}, not {brief(made)}; "
            f"see the files of {KINDS[kind].package} for examples"
        )
    return made


def call(module: ModuleType, name: str, *args: Any) -> Any:
    """Calls a function of an extension; what a file outside this package raises is one sentence.

    An exception in a file of this package is a defect of ours, which keeps its traceback.
    """
    try:
        return getattr(module, name)(*args)
    except BaseException as error:
        outside = module.__name__ in _imported.values()
        if isinstance(error, UserError) or not (outside and _is_of_a_file(error)):
            raise
        what = explain(error, module.__file__)
        raise UserError(f"{name} of {module.__name__!r} fails with {what}; mend it") from error


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
        if not isinstance(kind, str) or kind not in KINDS:
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
    except BaseException as error:
        if not _is_of_a_file(error):
            raise
        raise UserError(f"imports: {path!r} fails with {explain(error)}; mend that file") from error


def _is_of_a_file(error: BaseException) -> bool:
    """Whether a file raised it, and no signal, which has exceptions of its own."""
    return isinstance(error, Exception) or type(error) is SystemExit


def _expect_complete(kind: str, path: str, module: ModuleType) -> None:
    needs = KINDS[kind].needs
    missing = [name for name in needs if not hasattr(module, name)]
    if missing:
        raise UserError(f"{kind} {path!r} does not define {', '.join(missing)}; add it to the file")
    forms = {"DEFAULTS": (Mapping, "a dict"), "DATA": (Mapping, "a dict")}
    forms |= {"NEEDS_MODEL": (bool, "True or False"), "make": (Callable, "a function")}
    if "FAMILY" in needs:
        forms["FAMILY"] = (_record(kind), _a(_record(kind)))
    for name, (form, words) in forms.items():
        if name in needs and not isinstance(value := getattr(module, name), form):
            raise UserError(f"{name} of {kind} {path!r} must be {words}, not {brief(value)}")


def _record(kind: str) -> type:
    """The record that extensions of a kind make; imported only here, since it brings JAX."""
    module, _, name = KINDS[kind].record.rpartition(".")
    return getattr(importlib.import_module(module), name)


def _a(record: type) -> str:
    return f"{'an' if record.__name__[0] in 'AE' else 'a'} {record.__name__}"
