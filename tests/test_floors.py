"""Imports point only downward (docs/architecture.md), and siblings do not know each other."""

import ast
import tomllib
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "src" / "metastar"

# From the ground up: rooms (packages, and files at the top). A room may import those on its own
# floor and below, and no circle of rooms may close.
FLOORS = [
    ("types", "errors", "files", "registry", "signals", "config"),
    ("ops",),
    ("data", "envs", "models"),
    ("losses",),
    ("agents",),
    ("methods", "collection"),
    ("training",),
    ("evaluation",),
    ("tools",),
    ("train", "loading"),
    ("main", "__init__"),
    ("__main__",),
]
EXTENSIONS = (  # files that are found by their name, and do not know each other
    "agents.",
    "collection.behaviors.",
    "envs.families.",
    "evaluation.exploration.",
    "evaluation.protocols.",
    "losses.task.",
    "methods.",
    "models.encoders.",
    "tools.sweep.executors.",
)

MODULES = {
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts): path
    for path in sorted(PACKAGE.rglob("*.py"))
}


def room(module):
    """The package of a module, or its own name at the top; each tool is a room of its own."""
    parts = module.split(".")
    return ".".join(parts[:2]) if parts[0] == "tools" and len(parts) > 2 else parts[0]


def floor(module):
    found = [height for height, rooms in enumerate(FLOORS) if module.split(".")[0] in rooms]
    assert len(found) == 1, f"{module} stands on {len(found)} floors; give its room one in FLOORS"
    return found[0]


def imported_names(path):
    """Yields the dotted name of everything that a file imports, anywhere in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path} imports relatively"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def imports(path):
    """Yields the modules of the project that a file imports."""
    for name in imported_names(path):
        parts = name.split(".")
        if parts[0] != "metastar":
            continue
        for end in range(len(parts), 1, -1):  # the longest prefix that is a module
            inner = ".".join(parts[1:end])
            found = [m for m in (inner, f"{inner}.__init__") if m in MODULES]
            if found:
                yield found[0]
                break


@pytest.mark.parametrize("module", MODULES)
def test_imports_point_downward(module):
    for other in imports(MODULES[module]):
        assert floor(other) <= floor(module), f"{module} imports {other}, which is above it"


def test_rooms_make_no_circle():
    above = {}
    for module, path in MODULES.items():
        found = {room(other) for other in imports(path)}
        above.setdefault(room(module), set()).update(found - {room(module)})
    tuple(TopologicalSorter(above).static_order())  # raises CycleError and names the circle


@pytest.mark.parametrize("module", MODULES)
def test_siblings_do_not_import_each_other(module):
    family = next((s for s in EXTENSIONS if module.startswith(s)), None)
    for other in imports(MODULES[module]) if family else ():
        assert other.endswith("__init__") or not other.startswith(family), f"{module} -> {other}"


@pytest.mark.parametrize("module", [m for m in MODULES if floor(m) == 0 and m != "types"])
def test_the_ground_floor_does_not_import_jax(module):
    assert not {"jax", "flax"} & {n.split(".")[0] for n in imported_names(MODULES[module])}
    assert "types" not in imports(MODULES[module])  # its annotations name jax.Array


def test_every_room_is_inhabited_and_the_top_is_small():
    rooms = {module.split(".")[0] for module in MODULES}
    assert rooms == {name for floor in FLOORS for name in floor}
    assert len(rooms) <= 22


@pytest.mark.parametrize("kind", EXTENSIONS)
def test_every_kind_of_extension_has_files(kind):
    assert any(m.startswith(kind) for m in MODULES)


def test_the_architecture_page_names_the_same_floors():
    rows = (PACKAGE.parents[1] / "docs/architecture.md").read_text().splitlines()
    rows = [row for row in rows if row.startswith("| ") and row[2].isdigit()]
    assert len(rows) == len(FLOORS)
    for names, row in zip(FLOORS, rows):
        for name in names:
            assert f"`{name}`" in row or f"`{name}/`" in row or name == "__init__", (name, row)


def test_the_parser_sees_every_form_of_import(tmp_path):
    path = tmp_path / "module.py"
    path.write_text(
        "import metastar.config\n"
        "from metastar import errors, __version__\n"
        "from metastar.ops.td import polyak\n"
        "def f():\n    from metastar.ops import gaussian\n"
    )
    assert list(imports(path)) == ["config.__init__", "errors", "ops.td", "ops.gaussian"]


def test_the_default_pytest_call_reaches_every_doctest():
    """`>>>` in a module outside of `testpaths` would never run; `addopts` collects doctests."""
    root = PACKAGE.parents[1]
    options = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["pytest"]["ini_options"]
    collected = [root / path for path in options["testpaths"]]
    assert "--doctest-modules" in options["addopts"]
    examples = [path for path in MODULES.values() if ">>>" in path.read_text()]
    missed = [p for p in examples if not any(p.is_relative_to(place) for place in collected)]
    assert not missed, f"doctests that do not run: {[str(p.relative_to(root)) for p in missed]}"
