"""Which fields a config has: those of the files that it names (floor 0: imports no JAX itself).

First the selectors, `method`, `family` and those of what they name, then the sections of all that
they select, each at its mount point. A file says in

* `DEFAULTS`, name -> `Field`: its own settings;
* `SECTIONS`, section -> parts: other settings that it adds to a config; a part is a module with
  `DEFAULTS`, such a dict, or `Open`;
* `READS`: sections that it reads but does not add;
* `check(cfg)`, what must hold between fields; `cfg` is as in `scope`.
"""

import importlib
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import ModuleType
from typing import Any, NamedTuple

from ml_collections import ConfigDict, FrozenConfigDict

from metastar import registry
from metastar.config import fields
from metastar.config.fields import COUNT, SEED, Field, Open
from metastar.errors import UserError, brief, did_you_mean

# The fields of every run that no other file owns.
ROOT = {
    "method": Field("metastar", "method", "the system: a file of methods/", selector=True),
    "family": Field("point_robot_sparse", "family", "of tasks: a file of envs/", selector=True),
    "preset": Field("", "", "the training preset's name, for reports"),
    "imports": Field((), "", "dotted names of files outside that define extensions"),
    "seed": Field(0, SEED, "of the first run; all that is random follows from it"),
    "num_seeds": Field(1, COUNT, "runs of one program: seed, seed + 1, ...", before=1),
}
# Sections of every config, and the files that own them.
ALWAYS = {
    "train": "metastar.training.loop",
    "mesh": "metastar.training.placement",
    "data": "metastar.data.store",
    "collect": "metastar.collection.collect",
    "simulator": "metastar.envs.make",
    "eval": "metastar.evaluation.evaluate",
}
PLACE = "mesh"  # where a run is computed: no part of what it is, so its files do not have it
SWEEP = "sweep"  # an open section: runs of one program, by the paths of swept fields


class Part(NamedTuple):
    """A file at its mount point."""

    mount: str  # "" is the root
    module: ModuleType


class Schema(NamedTuple):
    """The fields of a config."""

    fields: dict[str, Field]  # by path
    owners: dict[str, str]  # name of the file that a field belongs to, by path
    parts: list[Part]  # every file, once at each of its mount points
    selected: dict[tuple[str, str], str]  # (kind, name) of every extension -> path of its selector
    open: dict[str, Open]  # by section


def of(values: Mapping[str, Any]) -> Schema:
    """The schema of a config.

    Args:
        values: what it holds, by dotted path; only `imports`, the selectors and the keys of open
            sections matter. What is missing has its default.

    Raises:
        UserError: a selector names nothing, an import fails, or two files claim one field.
    """
    schema = Schema({}, {}, [], {}, {})
    registry.register(_strings(values, "imports"))
    _add(schema, values, "", ROOT, "metastar.config")
    for section, path in ALWAYS.items():
        _add_module(schema, values, section, importlib.import_module(path))
    return schema


def _strings(values: Mapping[str, Any], path: str) -> tuple:
    found = values.get(path, ())
    if not isinstance(found, tuple) or not all(isinstance(name, str) for name in found):
        raise UserError(f"{path} is {found!r} but must be names of modules, separated by commas")
    return found


def _add_module(schema: Schema, values: Mapping, mount: str, module: ModuleType) -> None:
    part = Part(mount, module)
    if part in schema.parts:
        return
    schema.parts.append(part)
    _add(schema, values, mount, module.DEFAULTS, module.__name__)
    for section, parts in _sections(module).items():
        for inner in parts:
            if isinstance(inner, ModuleType):
                _add_module(schema, values, section, inner)
            elif isinstance(inner, Open):
                _add_open(schema, values, section, inner, module.__name__)
            else:
                _add(schema, values, section, inner, module.__name__)


def _expect_field(owner: str, name: Any, field: Any) -> None:
    """Raises `UserError` unless a file declares a setting as it should."""
    if not (isinstance(name, str) and name.isidentifier() and isinstance(field, Field)):
        raise UserError(
            f"settings of {owner} must be names and their Field, but {brief(name)} has "
            f"{brief(field)}; write name: Field(value, range, meaning)"
        )
    if not fields.is_allowed_form(field.allowed):
        raise UserError(
            f"`allowed` of the setting {name!r} of {owner} is {brief(field.allowed)} but must be "
            'an interval such as "[0, inf)", a tuple of choices, or a kind of extension'
        )


def _sections(module: ModuleType) -> Mapping[str, Sequence]:
    """`SECTIONS` of a file; raises `UserError` unless each is a tuple of parts."""
    found = getattr(module, "SECTIONS", {})
    try:
        ok = all(
            isinstance(part, Open | Mapping) or hasattr(part, "DEFAULTS")
            for parts in found.values()
            for part in parts
        )
    except (AttributeError, TypeError):
        ok = False
    if not ok:
        raise UserError(
            f"SECTIONS of {module.__name__} must be a dict, section -> tuple of parts: files with "
            "DEFAULTS, dicts like it, or Open"
        )
    return found


def _add(schema: Schema, values: Mapping, mount: str, defaults: Mapping, owner: str) -> None:
    for name, field in defaults.items():
        _expect_field(owner, name, field)
        path = f"{mount}.{name}" if mount else name
        if path in schema.fields and schema.owners[path] != owner:
            raise UserError(
                f"config field {path!r} belongs to both {schema.owners[path]} and {owner}; rename "
                "it in one of the files"
            )
        schema.fields[path], schema.owners[path] = field, owner
        if field.selector:
            value = values.get(path, field.value)
            fields.check(path, value, field)
            for chosen in fields.names_in(value, field):
                _select(schema, values, field.allowed, chosen, path)


def _add_open(schema: Schema, values: Mapping, section: str, opened: Open, owner: str) -> None:
    schema.open[section] = opened
    for path in values:
        if path.startswith(f"{section}.") and path.count(".") == section.count(".") + 1:
            name = path.rpartition(".")[2]
            registry.expect(opened.kind, name)
            schema.fields[path], schema.owners[path] = opened.field, owner
            _select(schema, values, opened.kind, name, path)


def _select(schema: Schema, values: Mapping, kind: str, name: str, selector: str) -> None:
    schema.selected[kind, name] = selector
    _add_module(schema, values, registry.mount(kind, name), registry.find(kind, name))


def explain_unknown(schema: Schema, path: str) -> UserError:
    """Why there is no field `path`: it belongs to an extension that is not selected, or to none."""
    for kind in (kind for kind, own in registry.KINDS.items() if "DEFAULTS" in own.needs):
        for name in registry.names(kind):
            mount = registry.mount(kind, name)
            inside = path.startswith(f"{mount}.") and (kind, name) not in schema.selected
            if inside and path.removeprefix(f"{mount}.") in registry.find(kind, name).DEFAULTS:
                return UserError(
                    f"config field {path!r} belongs to {kind} {name!r}, which this config does not "
                    f"use; {_how_to_select(schema, kind, name)}"
                )
    section = path.rpartition(".")[0]
    sections = {known.rpartition(".")[0] for known in schema.fields} - {""}
    if section and section not in sections and section not in schema.fields:
        return UserError(
            f"unknown config field {path!r}: this config has no section {section!r}"
            f"{did_you_mean(section, sections)}"
        )
    return UserError(f"unknown config field {path!r}{did_you_mean(path, schema.fields)}")


def _how_to_select(schema: Schema, kind: str, name: str) -> str:
    for section, opened in schema.open.items():
        if opened.kind == kind:
            return f"give it a weight with {section}.{name}"
    for path, field in schema.fields.items():
        if field.selector and field.allowed == kind:
            return f"select it with {path}={name}"
    return f"no field of this config selects a {kind}"


def scope(cfg: ConfigDict, mount: str, module: ModuleType) -> FrozenConfigDict:
    """What a file may read of a config: its own settings, and the sections that it names.

    Settings of its own stand at the top, whatever the mount point; `SECTIONS` and `READS` keep
    their names, and the sections of what an open one names come with it.

    Raises:
        UserError: it reads a section that no file brought.
    """
    tree = cfg.to_dict()
    own = _section(tree, mount) or {}
    seen = {name: own[name] for name in module.DEFAULTS if name in own}
    brought = getattr(module, "SECTIONS", {})
    for section in (*brought, *getattr(module, "READS", ())):
        top = section.split(".")[0]
        if section in brought:
            tree.setdefault(top, {})  # an open section may be empty
        if top not in tree:
            raise UserError(
                f"{module.__name__} reads the section {section!r}, but nothing that this config "
                "selects mounts one there"
            )
        seen[top] = tree[top]
        for opened in (part for part in brought.get(section, ()) if isinstance(part, Open)):
            mounts = {registry.mount(opened.kind, name) for name in tree[section]}
            seen |= {mount: tree[mount] for mount in mounts if mount in tree}
    return FrozenConfigDict(seen)


def extension(cfg: ConfigDict, kind: str, name: str) -> tuple[ModuleType, FrozenConfigDict]:
    """The module of an extension, and `scope` of it."""
    module = registry.find(kind, name)
    return module, scope(cfg, registry.mount(kind, name), module)


def make(cfg: ConfigDict, kind: str, name: str, *args: Any) -> Any:
    """Calls `make(cfg, ...)` of an extension with its `scope` of a config."""
    _, own = extension(cfg, kind, name)
    return registry.make(kind, name, own, *args)


def checks(cfg: ConfigDict, schema: Schema) -> list[Callable[[], None]]:
    """What files check between fields of a config, as functions without arguments."""
    found = []
    for mount, module in schema.parts:
        if hasattr(module, "check"):
            found.append(partial(registry.call, module, "check", scope(cfg, mount, module)))
    return found


def _section(tree: Mapping, mount: str) -> Any:
    for name in filter(None, mount.split(".")):
        tree = tree.get(name, {})
    return tree
