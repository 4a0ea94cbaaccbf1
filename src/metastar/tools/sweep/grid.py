"""A sweep file, and the cells that it stands for: methods x families x presets x overrides x seeds.

A sweep file is Python that defines `get_config() -> ConfigDict`, or `get_config(argument)` for
`FILE.py:argument`. It has the fields of `SETTINGS`, a section for each executor that it has
settings of, and `grids`: dicts with the fields of `GRID`, each of which is one product. A cell is
one `metastar train` of one program. What a single program varies, its seeds and *swept values*, is
`config/sweep.py`.
"""

import itertools
import re
import shlex
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any, NamedTuple

from ml_collections import FrozenConfigDict

from metastar import config, registry
from metastar.config import fields, launch
from metastar.config.fields import COUNT, POSITIVE, SEED, Field
from metastar.errors import UserError, did_you_mean

SETTINGS = {
    "results": Field("", "", "folder of the result files"),
    "runs": Field("", "", "folder of the workdirs and logs; empty: runs/<name of the file>"),
    "cores": Field(1, COUNT, "processor cores of a cell"),
    "memory_gb": Field(6.0, POSITIVE, "memory that a cell may take, GiB"),
    "search_seed": Field(0, SEED, "of the settings that --search draws"),
}
GRID = {
    "methods": Field((), "", "recipes: configs/<method>.py, or the path of such a file"),
    "families": Field((), "", "the families of the recipes"),
    "presets": Field((), "", "the presets of the recipes; an empty one is the default preset"),
    "seeds": Field((0,), SEED, "of the runs"),
    "then": Field((), "", "commands on every run of a trained cell, such as audit"),
    "runs_per_program": Field(1, COUNT, "seeds that one program trains together"),
}
THEN = ("audit", "evaluate", "render", "report")  # commands that take --workdir of a trained run
OVERRIDES = {"": ()}  # of a grid: what follows --config., by the name of the variant
_OPEN = ("grids", "search")  # fields with a check of their own
_NAME = re.compile(r"[A-Za-z0-9_.+-]*")  # of variants: part of a file's name


class Sweep(NamedTuple):
    """A sweep file."""

    source: str  # as the user named it
    results: Path
    runs: Path
    cores: int
    memory_gb: float
    grids: tuple[dict[str, Any], ...]
    search: dict[str, tuple]  # by path of the field: what `search.draw` draws from
    search_seed: int
    executors: dict[str, dict[str, Any]]  # by name: its settings, all of its `DEFAULTS`


class Cell(NamedTuple):
    """One `metastar train`, or one block of a data set."""

    name: str  # also of its files
    group: str  # the name without the seeds and the setting
    setting: str  # the name of the drawn setting; "" of none
    argv: tuple[str, ...]  # after `metastar`
    cfg: FrozenConfigDict
    workdir: Path  # of a block: the folder that it makes
    then: tuple[str, ...]  # commands on each of its runs, after the training
    needs: tuple[str, ...] = ()  # names of the cells whose workdirs its line names, and of blocks
    is_block: bool = False  # it only makes some tasks of the data set of its config


class Setting(NamedTuple):
    """Overrides of every cell, drawn by a search."""

    name: str  # "" of the sweep as it is
    values: tuple[str, ...]  # what follows --config.


def read(source: str) -> Sweep:
    """Reads a sweep file, `FILE.py` or `FILE.py:argument`.

    Raises:
        UserError: there is no such file, it fails, or it has an unknown field or a wrong value.
    """
    path, argument = locate(source)
    found = launch.call_file(path, *([argument] if argument else []), kind="sweep")
    if not isinstance(found, Mapping) and not hasattr(found, "to_dict"):
        raise UserError(f"get_config of {str(path)!r} must return a ConfigDict, not {found!r}")
    given = dict(found.to_dict() if hasattr(found, "to_dict") else found)
    where = f"sweep file {str(path)!r}"
    grids, search = given.pop("grids", ()), given.pop("search", {})
    names = registry.names("executor")
    sections = {name: _section(given.pop(name, {}), name, where) for name in names}
    own = _filled(given, SETTINGS, where, also=[*_OPEN, *names])
    if not own["results"]:
        raise UserError(f"{where}: results is empty; name the folder of its result files")
    if not isinstance(grids, tuple | list) or not grids:
        raise UserError(f"{where}: grids is {grids!r} but must be a tuple of dicts, one a product")
    if not isinstance(search, Mapping):
        raise UserError(f"{where}: search is {search!r} but must be a dict, field to range")
    own["runs"] = Path(own["runs"] or folder_of(path, argument))
    own["results"] = Path(own["results"])
    products = tuple(_grid(grid, f"{where}, grid {k}") for k, grid in enumerate(grids))
    search = fields.flatten(search)
    return Sweep(source, grids=products, search=search, executors=sections, **own)


def locate(source: str) -> tuple[Path, str]:
    """The path and the argument of a sweep file; raises `UserError` if there is no such file."""
    head, colon, argument = source.partition(".py:")
    path = Path(f"{head}.py" if colon else source)
    if not path.is_file():
        near = [str(file) for file in path.parent.glob("*.py")]
        hint = did_you_mean(str(path), near) if near else "; give the path of a Python file"
        raise UserError(f"sweep file {str(path)!r} does not exist{hint}")
    return path, argument


def folder_of(path: Path, argument: str) -> Path:
    """Where workdirs go if a sweep file does not say."""
    return Path("runs", "_".join([path.stem, *filter(None, re.split(r"\W+", argument))]))


def cells(sweep: Sweep, settings: Sequence[Setting] = (Setting("", ()),)) -> list[Cell]:
    """Returns the cells of a sweep under each of the settings, all of them valid configs.

    In an override, `{runs}`, `{method}`, `{family}`, `{preset}` and `{seed}` (the first of the
    program) stand for what the cell has there. A cell whose line names the workdir of another one,
    as its oracle or its pretraining, comes after that.

    Raises:
        UserError: the config of a cell is refused, two cells have one name, or cells need each
            other.
    """
    found = [
        _cell(sweep, grid, setting, *product)
        for setting in settings
        for grid in sweep.grids
        for product in itertools.product(
            grid["methods"],
            grid["overrides"].items(),
            grid["families"],
            grid["presets"],
            _programs(grid["seeds"], grid["runs_per_program"]),
        )
    ]
    expect_own_names(found, sweep)
    workdirs = {cell.workdir: cell.name for cell in found}
    found = [cell._replace(needs=_needs(cell, workdirs)) for cell in found]
    try:
        tuple(TopologicalSorter({cell.name: cell.needs for cell in found}).static_order())
    except CycleError as error:
        circle = " -> ".join(error.args[1])
        raise UserError(f"cells of {sweep.source} wait for each other: {circle}") from None
    return found


def expect_own_names(cells: Sequence[Cell], sweep: Sweep) -> None:
    """Raises `UserError` if two cells have one name, which is also that of their files."""
    names = Counter(cell.name for cell in cells)
    if twice := [name for name, number in names.items() if number > 1]:
        raise UserError(
            f"two cells of {sweep.source} are named {twice[0]!r}; name the overrides of one of "
            "them, or the folder of its data, in another way"
        )


def _cell(sweep, grid, setting, method, variant, family, preset, seeds) -> Cell:
    variant_name, overrides = variant
    known = {"method": method, "family": family, "preset": preset, "seed": seeds[0]}
    recipe = method if method.endswith(".py") else f"configs/{method}.py"
    system = "-".join(filter(None, [Path(method).stem, variant_name]))
    group = "_".join(filter(None, [system, family, preset]))
    span = f"{seeds[0]}-{seeds[-1]}" if len(seeds) > 1 else str(seeds[0])
    name = "_".join(filter(None, [group, setting.name, span]))
    try:
        chosen = [word.format(runs=sweep.runs, **known) for word in overrides]
    except (AttributeError, LookupError, ValueError) as error:
        raise UserError(
            f"cell {name}: an override of {list(overrides)} cannot be filled in ({error}); braces "
            f"may hold runs, {', '.join(known)}"
        ) from None
    chosen = [*chosen, *setting.values, f"seed={seeds[0]}"]
    chosen += [f"num_seeds={len(seeds)}"] * (len(seeds) > 1)
    source = f"{recipe}:{family},{preset}" if preset else f"{recipe}:{family}"
    options = [f"--config.{word}" for word in chosen]
    try:
        cfg = config.load(source, options)
    except UserError as error:
        raise UserError(f"cell {name}: {error}") from None
    workdir = sweep.runs / name
    argv = ("train", f"--config={source}", f"--workdir={workdir}", *options)
    return Cell(name, group, setting.name, argv, cfg, workdir, grid["then"])


def _needs(cell: Cell, workdirs: Mapping[Path, str]) -> tuple[str, ...]:
    values = [Path(word.partition("=")[2]) for word in cell.argv if word.startswith("--config.")]
    places = [place for value in values for place in (value, *value.parents)]
    return tuple(dict.fromkeys(workdirs[place] for place in places if place in workdirs))


def _programs(seeds: Sequence[int], size: int) -> list[tuple[int, ...]]:
    return [tuple(seeds[k : k + size]) for k in range(0, len(seeds), size)]


def _filled(given: Mapping, known: Mapping[str, Field], where: str, also: Iterable = ()) -> dict:
    """The fields of a part of a sweep file, defaults where it has none, all of them checked."""
    for name in given:
        if name not in known:
            raise UserError(f"{where}: unknown field {name!r}{did_you_mean(name, {*known, *also})}")
    found = {name: given.get(name, field.value) for name, field in known.items()}
    for name, field in known.items():
        fields.check(f"{where}: {name}", found[name], field)
    return found


def _section(given: Any, name: str, where: str) -> dict[str, Any]:
    """The settings of an executor."""
    if not isinstance(given, Mapping):
        raise UserError(f"{where}: {name} is {given!r} but must be a dict")
    return _filled(given, registry.find("executor", name).DEFAULTS, f"{where}, section {name}")


def _grid(given: Any, where: str) -> dict[str, Any]:
    if not isinstance(given, Mapping):
        raise UserError(f"{where} is {given!r} but must be a dict")
    given = dict(given)
    overrides = given.pop("overrides", OVERRIDES)
    found = _filled(given, GRID, where, also=["overrides"])
    for name in ("methods", "families", "presets", "seeds"):
        if not found[name]:
            raise UserError(f"{where}: {name} is empty; give at least one")
    if not isinstance(overrides, Mapping) or not overrides:
        raise UserError(f"{where}: overrides is {overrides!r} but must be a dict, name to strings")
    for name, words in overrides.items():
        if not (isinstance(name, str) and _NAME.fullmatch(name)):
            raise UserError(
                f"{where}: the variant {name!r} is part of a file's name; use letters, digits, "
                "'_', '.', '+' and '-'"
            )
        fields.check(f"{where}: overrides of {name!r}", words, Field(()))
        for word in words:
            if "=" not in word or word.startswith("-"):
                raise UserError(f"{where}: {word!r} must be FIELD=VALUE, as it follows --config.")
            if word.startswith(("seed=", "num_seeds=")):
                raise UserError(f"{where}: {word!r} is for the fields seeds and runs_per_program")
    for command in found["then"]:
        _expect_command(command, where)
    for seeds in _programs(found["seeds"], found["runs_per_program"]):
        if seeds != tuple(range(seeds[0], seeds[0] + len(seeds))):
            raise UserError(
                f"{where}: the seeds {seeds} of one program must follow each other; order them, or "
                "set runs_per_program=1"
            )
    return {**found, "overrides": dict(overrides)}


def _expect_command(command: str, where: str) -> None:
    try:
        verb = "".join(shlex.split(command)[:1])
    except ValueError as error:
        raise UserError(f"{where}: then has {command!r}, which is no command ({error})") from None
    if verb not in THEN:
        raise UserError(f"{where}: then has {command!r}{did_you_mean(verb, THEN)}")
