"""Imports point only downward (docs/architecture.md), and siblings do not know each other."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "src" / "metastar"

# From the ground up. A module may import what stands on its own floor or below; a name that ends
# in a dot stands for every module of that package.
FLOORS = [
    (
        "types",
        "errors",
        "files",
        "compiled",
        "registry",
        "sweep",
        "constraints",
        "config",
        "presets",
    ),
    ("ops.", "nets."),
    ("data.", "envs."),
    ("world_model", "dynamics", "imagine", "update"),
    ("losses.",),
    ("agent", "online"),
    ("methods.", "behaviors."),
    (
        "precision",
        "chunk",
        "checkpoint",
        "nonfinite",
        "memory",
        "metrics",
        "workdir",
        "runs",
        "pretrained",
        "timing",
        "roofline",
        "protocols",
        "belief",
        "turns",
        "strategies.",
        "explore",
        "play",
        "results",
        "evaluate",
        "figures",
        "report",
        "tables",
        "groups",
        "compare",
        "audit_codes",
        "audit_parts",
        "audit_measures",
        "audit_model",
        "audit_probes",
        "audit_figures",
        "audit_page",
    ),
    (
        "collect",
        "fit",
        "plan",
        "yardstick",
        "train",
        "doctor",
        "loading",
        "render",
        "films",
        "clips",
        "audit",
        "bench",
        "bench_data",
        "bench_parts",
        "bench_eval",
        "bench_report",
        "bench_plots",
    ),
    ("main", "__init__"),
    ("__main__",),
]
SIBLINGS = ("methods.", "behaviors.", "losses.task.", "envs.families.", "strategies.")

MODULES = {
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts): path
    for path in sorted(PACKAGE.rglob("*.py"))
}


def floor(module):
    found = [
        height
        for height, names in enumerate(FLOORS)
        if any(module == n or (n.endswith(".") and module.startswith(n)) for n in names)
    ]
    assert len(found) == 1, f"{module} stands on {len(found)} floors; give it one in FLOORS"
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


@pytest.mark.parametrize("module", MODULES)
def test_siblings_do_not_import_each_other(module):
    family = next((s for s in SIBLINGS if module.startswith(s)), None)
    for other in imports(MODULES[module]) if family else ():
        assert other.endswith("__init__") or not other.startswith(family), f"{module} -> {other}"


@pytest.mark.parametrize("module", [name for name in FLOORS[0] if name != "types"])
def test_the_ground_floor_does_not_import_jax(module):
    assert not {"jax", "flax"} & {n.split(".")[0] for n in imported_names(MODULES[module])}
    assert "types" not in imports(MODULES[module])  # its annotations name jax.Array


def test_every_floor_is_inhabited():
    for names in FLOORS:
        for name in names:
            assert any(m == name or m.startswith(name) for m in MODULES), name


def test_the_architecture_page_names_the_same_floors():
    rows = (PACKAGE.parents[1] / "docs/architecture.md").read_text().splitlines()
    rows = [row for row in rows if row.startswith("| ") and row[2].isdigit()]
    for names, row in zip(FLOORS, rows):
        for name in names:
            assert f"`{name.replace('.', '/')}`" in row or name == "__init__", (name, row)


def test_the_parser_sees_every_form_of_import(tmp_path):
    path = tmp_path / "module.py"
    path.write_text(
        "import metastar.config\n"
        "from metastar import errors, __version__\n"
        "from metastar.ops.td import polyak\n"
        "def f():\n    from metastar.ops import gaussian\n"
    )
    assert list(imports(path)) == ["config", "errors", "ops.td", "ops.gaussian"]
