"""`metastar doctor`: what is installed, what works, what is missing and how to install it."""

import contextlib
import importlib
import io
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

DISTRIBUTION = "metastar-jax"
MODELS = ("half_cheetah", "hopper", "walker2d", "ant", "humanoid")
RENDERERS = {
    "egl": "install the GPU's driver, or the system packages libegl1 and libgl1",
    "osmesa": "install the system package libosmesa6",
    "glfw": "needs a display; without one use MUJOCO_GL=egl or osmesa",
}
_REINSTALL = "run `make env`, or `pip install --editable .`"
_DRAW = (
    "import mujoco; m = mujoco.MjModel.from_xml_string('<mujoco><worldbody>"
    '<light pos="0 0 3"/><geom size=".1"/></worldbody></mujoco>\'); d = mujoco.MjData(m);'
    "mujoco.mj_forward(m, d); r = mujoco.Renderer(m, 16, 16); r.update_scene(d); r.render()"
)


class Finding(NamedTuple):
    """One line: `fix` is empty where all is well; only a `required` one makes doctor fail."""

    topic: str
    text: str
    fix: str = ""
    required: bool = False


def main() -> int:
    """Prints every finding; returns 1 if something required is missing, else 0."""
    failed = False
    for finding in examine():
        failed |= bool(finding.fix and finding.required)
        print(render(finding), flush=True)
    print("something required is missing" if failed else "ready: everything required is there")
    return int(failed)


def render(finding: Finding) -> str:
    """One line of the report; its fix, if any, follows on the same line."""
    mark = "ok" if not finding.fix else "missing" if finding.required else "optional"
    line = f"{mark:<9} {finding.topic:<11} {finding.text}"
    return f"{line}  fix: {finding.fix}" if finding.fix else line


def examine() -> Iterator[Finding]:
    """Yields the findings, slow ones last."""
    yield Finding("python", f"{platform.python_version()} on {platform.platform()}")
    yield Finding("cpu", f"{os.cpu_count()} cores")
    yield from packages(metadata.requires(DISTRIBUTION) or [])
    yield from devices()
    yield from simulators()
    yield from renderers()


def packages(requirements: list[str]) -> Iterator[Finding]:
    """Compares the installed versions with what the distribution declares; extras are optional."""
    try:
        from packaging.requirements import Requirement
    except ImportError:
        yield Finding("package", "packaging is not installed", _REINSTALL, True)
        return
    for requirement in map(Requirement, requirements):
        marker = str(requirement.marker or "")
        if "extra" in marker and not any(extra in marker for extra in ("dev", "analysis")):
            continue  # accelerators: see devices()
        required = "extra" not in marker
        wanted = f"{requirement.name}{requirement.specifier}"
        try:
            version = metadata.version(requirement.name)
        except metadata.PackageNotFoundError:
            fix = _REINSTALL if required else f"`pip install '{wanted}'`"
            yield Finding("package", f"{wanted} is not installed", fix, required)
            continue
        good = requirement.specifier.contains(version, prereleases=True)
        fix = "" if good else f"needs {wanted}: {_REINSTALL}"
        yield Finding("package", f"{requirement.name} {version}", fix, required)


def devices() -> Iterator[Finding]:
    """Tells which devices JAX sees, and whether a GPU is there that it does not see."""
    try:
        jax = importlib.import_module("jax")
        found = jax.devices()
    except Exception as error:  # a broken backend raises anything
        yield Finding("device", f"JAX does not start: {_first_line(error)}", _REINSTALL, True)
        return
    for device in found:
        yield Finding("device", f"{device.platform} {device.id}: {device.device_kind}")
    if shutil.which("nvidia-smi") and all(device.platform == "cpu" for device in found):
        fix = f"`pip install '{DISTRIBUTION}[cuda]'`"
        yield Finding("device", "an NVIDIA GPU is present but JAX does not use it", fix)


def simulators() -> Iterator[Finding]:
    """Steps the model files of gymnasium in MuJoCo's C engine, and a body in MJX; imports brax."""
    try:
        mujoco = importlib.import_module("mujoco")
        folder = Path(importlib.import_module("gymnasium").__file__).parent / "envs/mujoco/assets"
    except Exception as error:
        yield Finding("simulator", f"MuJoCo: {_first_line(error)}", _REINSTALL, True)
        return
    mujoco.set_mju_user_warning(lambda text: None)  # else it also writes a log file
    for name in MODELS:
        try:
            model = mujoco.MjModel.from_xml_path(str(folder / f"{name}.xml"))
            mujoco.mj_step(model, mujoco.MjData(model))
            yield Finding("simulator", f"mujoco model {name}: {model.nq} positions")
        except Exception as error:
            yield Finding("simulator", f"model {name}: {_first_line(error)}", _REINSTALL, True)
    for name in ("mujoco.mjx", "brax"):
        try:
            with contextlib.redirect_stdout(io.StringIO()):  # mjx talks about absent warp
                importlib.import_module(name)
            yield Finding("simulator", name)
        except Exception as error:
            yield Finding("simulator", f"{name}: {_first_line(error)}", _REINSTALL, True)


def renderers(timeout: float = 60.0) -> Iterator[Finding]:
    """Draws one frame with each back end, in a process of its own: a failure there may be fatal."""

    def draw(name: str) -> Finding:
        environment = {**os.environ, "MUJOCO_GL": name}
        try:
            done = subprocess.run(
                [sys.executable, "-c", _DRAW], env=environment, capture_output=True, timeout=timeout
            )
        except subprocess.TimeoutExpired:
            return Finding("renderer", f"{name} hangs", RENDERERS[name])
        text = f"MUJOCO_GL={name}"
        return Finding("renderer", text, RENDERERS[name] if done.returncode else "")

    with ThreadPoolExecutor() as pool:
        yield from pool.map(draw, RENDERERS)


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0]
