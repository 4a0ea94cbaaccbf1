"""Configs by the names that the command line has for them: a file, its argument, and overrides.

A config file is Python that defines `get_config(argument) -> ConfigDict`. Those of this project are
one a method, and their argument is `family,preset`; an empty preset is the default one.
"""

import importlib.util
import re
import sys
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from absl import flags
from ml_collections import ConfigDict, FrozenConfigDict
from ml_collections.config_flags import config_flags

import metastar
from metastar import registry
from metastar.config import fields, legacy, schema, sweep, values
from metastar.config.fields import flatten
from metastar.errors import UserError, brief, did_you_mean, explain

OVERRIDES = (
    "--config.FIELD=VALUE overrides a field of the config, for instance --config.train.chunk=50 "
    "or --config.imports=my_package.my_loss"
)


def recipe(
    method: str, argument: str, presets: Mapping[str, Mapping], families: Mapping[str, Mapping]
) -> ConfigDict:
    """The config of a method on `family,preset`, for the files of `configs/`.

    Values come from the family's data set of that name, then from `presets[preset]`, then from
    `families[family][preset]`; a family that is not named there takes those of the one that its
    file names in `LIKE`, or of the one that this one is like. The numbers of updates are the
    family's (`UPDATES`) unless given. A recipe may name an agent: what the presets say of others
    does not count then.

    Args:
        method: its name.
        argument: what follows the colon, "point_robot,quick" for instance.
        presets: by name, "" among them: what all families share.
        families: by name: what each of them changes in a preset.

    Raises:
        UserError: there is no recipe for the family, or no such preset.
    """
    family, _, preset = argument.partition(",")
    if not family:
        raise UserError(
            f"the configs of {method!r} want a family and perhaps a preset: "
            f"{method}.py:{next(iter(families))},quick; families are {', '.join(_served(families))}"
        )
    if not (like := _like(family, families)):
        raise UserError(
            f"configs/{method}.py has no recipe for family {family!r}"
            f"{did_you_mean(family, _served(families))}; add one there, or override "
            "--config.family of a family that is like it"
        )
    if preset not in presets:
        hint = did_you_mean(preset, filter(None, presets))
        raise UserError(f"unknown preset {preset!r} of configs/{method}.py{hint}")
    updates = registry.find("family", family).UPDATES
    if preset not in updates:
        raise UserError(
            f"family {family!r} has no preset {preset!r}; its presets are "
            f"{', '.join(name or 'the empty one' for name in updates)}"
        )
    found = {
        "method": method,
        "family": family,
        "preset": preset,
        "data.preset": preset or "default",
        "train.updates": updates[preset],
        **presets[preset],
        **families[like].get(preset, {}),
    }
    if agent := found.get("agent.name"):
        known = ("agent.name", f"agent.{agent}.")
        found = {
            path: value
            for path, value in found.items()
            if not path.startswith("agent.") or path.startswith(known)
        }
    return values.build(found)


def _like(family: str, families: Mapping[str, Mapping]) -> str:
    """The first of `families` in the row of a family and those it is like; "" if none is."""
    row = [""]
    while family not in families and family not in row:
        row.append(family)
        known = family in registry.names("family")
        family = getattr(registry.find("family", family), "LIKE", "") if known else ""
    return family if family in families else ""


def _served(families: Mapping[str, Mapping]) -> list[str]:
    """Names of the families that have a recipe, of their own or of another one."""
    like = [name for name in registry.names("family") if _like(name, families)]
    return [*families, *(name for name in like if name not in families)]


def load_preset(source: str) -> ConfigDict:
    """Returns the config of `path.py:argument`, as the command line's `--config` takes it.

    A path that exists wins; otherwise the file of that name among the configs that come with the
    package is taken.

    Raises:
        UserError: the file or the preset is missing, or the file fails.
    """
    head, colon, argument = source.partition(".py:")
    path = find_file(f"{head}.py" if colon else source, argument)
    cfg = call_file(path, argument)
    if not isinstance(cfg, ConfigDict):
        raise UserError(f"get_config of {str(path)!r} must return a ConfigDict, not {cfg!r}")
    return cfg


def call_file(path: Path, *arguments: str, kind: str = "config") -> Any:
    """Returns what `get_config(*arguments)` of a Python file returns.

    What lies beside the file can be imported by the name of their folder: `import sweeps.pays`.

    Raises:
        UserError: it is no such file, or it fails; in the name of the `kind` of file.
    """
    # Under a name of its own: configs/metastar.py must not become the package.
    spec = importlib.util.spec_from_file_location(f"{kind}_of_{path.stem}", path)
    if spec is None:
        raise UserError(f"{kind} file {str(path)!r} is not a Python file; its name must end in .py")
    module = importlib.util.module_from_spec(spec)
    before = sys.path[:]
    sys.path.append(str(path.resolve().parent.parent))
    try:
        spec.loader.exec_module(module)
        return module.get_config(*arguments)
    except UserError:
        raise
    except (Exception, SystemExit) as error:  # one that ends the process says nothing itself
        raise UserError(
            f"{kind} file {str(path)!r} fails with {explain(error, str(path))}; "
            "it must define get_config(argument) that returns a ConfigDict"
        ) from error
    finally:
        sys.path[:] = before


def find_file(name: str, argument: str = "") -> Path:
    """The config file of a name; raises `UserError` if there is none."""
    path = Path(name)
    if path.is_file():
        return path
    known = {file.name: file for folder in bundled() for file in sorted(folder.glob("[a-z]*.py"))}
    if path.name in known and path.parent in (Path(), Path("configs")):
        return known[path.name]
    if path.exists() and name:
        kind = "a folder" if path.is_dir() else "no regular file, and may have no end"
        raise UserError(f"config {name!r} is {kind}; give --config=path/to/file.py:family,preset")
    if sentence := legacy.old_config(path, argument):
        raise UserError(sentence)
    here = [str(file) for file in Path("configs").glob("*.py")] or list(known)
    hint = did_you_mean(name, here) if here else "; give --config=path/to/file.py:family,preset"
    raise UserError(f"config file {name!r} does not exist{hint}")


def bundled() -> list[Path]:
    """Folders of the configs that come with the package: in the wheel, or of the checkout."""
    package = Path(metastar.__file__).parent
    folders = (package / "configs", package.parents[1] / "configs")
    return [folder for folder in folders if folder.is_dir()]


def load(source: str, overrides: Sequence[str] = ()) -> FrozenConfigDict:
    """Returns the validated config of a file with `--config.field=value` applied.

    Selectors, `imports` and `data.preset` come first, whatever their place among the overrides,
    since they decide which other fields there are.

    Raises:
        UserError: a missing file or preset; a field that is unknown, not of this config, of
            another type or out of range.
    """
    cfg = load_preset(source)
    given = _options(overrides)
    cfg = _select(cfg, given)
    found = schema.of(flatten(cfg))
    overrides = [_whole_path(found, word) for word in overrides]
    for path, value in _options(overrides).items():
        _expect_field(cfg, found, path)
        _expect_ascii(found, path, value)
    holder = flags.FlagValues()
    argv = ["metastar", *overrides]
    try:
        config_flags.DEFINE_config_dict("config", cfg, flag_values=holder, sys_argv=argv)
        rest = holder(argv)[1:]
    except flags.IllegalFlagValueError as error:
        raise UserError(_wrong_value(found, str(error))) from None
    except (flags.Error, AttributeError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"{str(error).rstrip('.')}; {OVERRIDES}") from None
    if rest:
        raise UserError(f"unknown argument {rest[0]!r}; {OVERRIDES}")
    values.validate(cfg)
    return FrozenConfigDict(cfg)


def _options(overrides: Sequence[str]) -> dict[str, str | None]:
    """Value by path of every override; None where it has none."""
    given, words = {}, [*overrides, "--"]
    for word, after in pairwise(words):
        if word.startswith("-"):
            option, equals, value = word.partition("=")
            path = re.sub(r"^--?(no)?config\.", "", option)
            if path == option:
                raise UserError(f"unknown option {option!r}; {OVERRIDES}")
            apart = None if after.startswith("-") else after
            given[path] = value if equals else apart
    return given


def _select(cfg: ConfigDict, given: Mapping[str, str | None]) -> ConfigDict:
    """Applies the overrides that decide which fields there are.

    A selector may itself come with what another one selects: they are taken in rounds.
    """
    chosen: dict[str, Any] = {}
    while True:
        found = schema.of(flatten(cfg))
        new = {}
        for path, value in given.items():
            section = path.rpartition(".")[0]
            if path in chosen or value is None:
                continue
            if path == "imports":
                new[path] = tuple(filter(None, value.split(",")))
            elif path == "data.preset" or (path in found.fields and found.fields[path].selector):
                new[path] = value
            elif section in found.open and path not in found.fields:
                new[path] = 0.0  # a name that the section does not hold yet
        if not new:
            return cfg
        registry.register(new.get("imports", ()))
        if "imports" in new:  # before the names that it makes known
            new = {"imports": new["imports"]}
        chosen |= new
        cfg = values.change(cfg, new)


def _whole_path(found: schema.Schema, word: str) -> str:
    """`--config.sweep.beta=...` with the whole path of the field that is meant."""
    prefix = f"--config.{schema.SWEEP}."
    if not word.startswith(prefix):
        return word
    name, equals, value = word.removeprefix(prefix).partition("=")
    return f"{prefix}{sweep.path_of(found, name)}{equals}{value}"


def _expect_field(cfg: ConfigDict, found: schema.Schema, path: str) -> None:
    """Raises `UserError` unless there is such a field; adds those of a sweep, which is open."""
    if path.startswith(f"{schema.SWEEP}."):
        node = cfg
        *sections, name = path.split(".")
        for section in sections:
            if section not in node:
                node[section] = ConfigDict()
            node = node[section]
        node[name] = node.get(name, ())
    elif path not in found.fields and not any(p.startswith(f"{path}.") for p in found.fields):
        raise legacy.renamed(path, found) or schema.explain_unknown(found, path)


def _expect_ascii(found: schema.Schema, path: str, value: str | None) -> None:
    """Raises `UserError` for a number in other digits than 0 to 9, which Python would read."""
    if path not in found.fields or value is None or value.isascii():
        return
    default = fields.example(found.fields[path])
    if isinstance(default[0] if isinstance(default, tuple) and default else default, int | float):
        raise UserError(_not_of_type(found, path, value))


def _wrong_value(found: schema.Schema, message: str) -> str:
    match = re.match(r"flag --config\.([^=]+)=(.*?): ", message)
    if not match:
        return message
    return _not_of_type(found, *match.groups())


def _not_of_type(found: schema.Schema, path: str, value: str) -> str:
    kind = fields.type_name(found.fields[path]) if path in found.fields else "section"
    return f"config field {path!r} is {brief(value)} but must be of type {kind}"


def describe(cfg: ConfigDict) -> str:
    """Every field of a config: value, range, the file that it belongs to, and what it means."""
    flat = flatten(cfg)
    found = schema.of(flat)
    lines = []
    for path in sorted(found.fields, key=lambda p: ("." in p, p)):
        field = found.fields[path]
        allowed = field.allowed
        if isinstance(allowed, tuple):
            allowed = " | ".join(map(str, allowed))
        elif allowed in registry.KINDS:
            allowed = f"a {allowed}"
        owner = found.owners[path].removeprefix("metastar.")
        notes = [allowed or fields.type_name(field), owner, *["can be swept"] * field.swept]
        lines.append(f"{path} = {flat[path]!r}")
        lines.append(f"    {field.doc}" if field.doc else "    –")
        lines.append(f"    [{'; '.join(notes)}]")
    return "\n".join(lines)
