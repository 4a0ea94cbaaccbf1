"""Finds a method, a loss, a family or a behaviour by the name of its file."""

import importlib
import pkgutil
from types import ModuleType

from metastar.errors import UserError, did_you_mean

_PACKAGES = {
    "method": "metastar.methods",
    "task loss": "metastar.losses.task",
    "family": "metastar.envs.families",
    "behavior": "metastar.collection.behaviors",
    "exploration strategy": "metastar.evaluation.exploration",
}


def names(kind: str) -> list[str]:
    """Names of the files that hold a `kind`, in alphabetical order."""
    package = importlib.import_module(_PACKAGES[kind])
    return sorted(m.name for m in pkgutil.iter_modules(package.__path__))


def find(kind: str, name: str) -> ModuleType:
    """Returns the module of a `kind` by its name: a "method", "task loss", "family", "behavior"
    or "exploration strategy".

    A dotted name (`my_package.my_loss`) is imported as it stands, so one file outside this
    repository is enough for an extension. A slash may stand for a dot (`my_package/my_loss`): the
    names of task losses are keys of a config, which hold no dots. Raises `UserError` if there is no
    such module.
    """
    name = name.replace("/", ".")
    if "." not in name and name not in names(kind):
        raise UserError(f"unknown {kind} {name!r}{did_you_mean(name, names(kind))}")
    path = name if "." in name else f"{_PACKAGES[kind]}.{name}"
    try:
        return importlib.import_module(path)
    except ModuleNotFoundError as error:
        if error.name and path.startswith(error.name):
            raise UserError(
                f"{kind} {name!r} is not importable: no module {error.name!r}; "
                "put its folder on PYTHONPATH"
            ) from None
        raise
