"""The wheel carries every room and the configs, and runs without the checkout."""

import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def test_the_wheel_has_every_room():
    """The list is written out, since the folder of the configs lies outside src."""
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    src = ROOT / "src"
    rooms = {".".join(p.parent.relative_to(src).parts) for p in src.rglob("*.py")}
    assert sorted(declared["packages"]) == sorted({*rooms, "metastar.configs"})


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The folder of an unpacked wheel of this checkout."""
    root = tmp_path_factory.mktemp("wheel")
    source = root / "source"
    source.mkdir()
    for name in ("src", "configs"):
        ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
        shutil.copytree(ROOT / name, source / name, ignore=ignored)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*pip, f"--wheel-dir={root}", str(source)], check=True)
    (wheel,) = root.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(root / "installed")
    return root / "installed"


def metastar(installed, folder, *words):
    """Runs the command of the unpacked wheel in a folder of its own."""
    script = (
        f"import sys; sys.path.insert(0, {str(installed)!r}); import metastar.main as m; "
        f"assert m.__file__.startswith({str(installed)!r}); sys.exit(m.main({list(words)!r}))"
    )
    command = [sys.executable, "-c", script]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True)


def test_its_configs_are_found_by_name(installed, tmp_path):
    done = metastar(installed, tmp_path, "config", "--config=metastar.py:point_robot_sparse,debug")
    assert done.returncode == 0, done.stderr
    assert "task_losses.infonce" in done.stdout and not list(tmp_path.iterdir())


def test_a_config_that_it_lacks_is_one_sentence(installed, tmp_path):
    (installed / "metastar/configs/oracle.py").unlink()
    done = metastar(installed, tmp_path, "config", "--config=oracle.py:point_robot_sparse,debug")
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.startswith("metastar: ") and "oracle.py" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1 and "Traceback" not in done.stderr
