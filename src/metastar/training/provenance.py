"""Where numbers come from: the commit of the code and the versions of the packages."""

import importlib.metadata
import platform
import subprocess
from pathlib import Path

PACKAGES = ("jax", "jaxlib", "flax", "optax", "mujoco", "numpy")


_CODE = ("*.py", "*.toml", "*.lock")  # files under version control that are code


def versions() -> dict[str, str | None]:
    """Versions of Python and of the packages that numbers depend on; None if not installed."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = None
    return found


def commit() -> str:
    """Commit of this code, with `-dirty` if code differs from it; "unknown" outside of git.

    Result files and pages do not make it dirty: a series of runs writes them one after the other.
    """
    source = Path(__file__)

    def git(*args):
        command = ["git", "-C", str(source.parent), *args]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        git("ls-files", "--error-unmatch", source.name)  # not just some repository around it
        changed = git(
            "status",
            "--porcelain",
            "--untracked-files=no",
            "--",
            *(f":(top){name}" for name in _CODE),
        )
        return git("rev-parse", "HEAD") + ("-dirty" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
