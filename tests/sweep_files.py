"""Sweep files for tests, and results that no training made."""

from pathlib import Path

from metastar import files
from metastar.tools.sweep import grid

GRID = {"methods": ("bc",), "families": ("point_robot",), "presets": ("debug",)}


def write(folder: Path, grids=(GRID,), name: str = "s.py", **fields) -> str:
    """Writes a sweep file whose `get_config` returns these fields; returns its path."""
    content = {"grids": grids, "results": str(folder / "results"), "runs": str(folder / "runs")}
    text = f"def get_config():\n    return {content | fields!r}\n"
    (folder / name).write_text(text)
    return str(folder / name)


def cells(folder: Path, *grids, **fields) -> tuple[list[grid.Cell], grid.Sweep]:
    """The cells of such a file, and the file."""
    sweep = grid.read(write(folder, grids or (GRID,), **fields))
    sweep.results.mkdir(exist_ok=True)
    return grid.cells(sweep), sweep


def results(few_shot: float = 1.0, seed: int = 0, split: str = "test") -> dict:
    """What `metastar compare` and a sweep read of `results.json`."""
    block = {"title": "few-shot", "per_task": [few_shot], "mean": few_shot, "optimum": None}
    bounds = dict.fromkeys(("random", "behavior_best"), 0.0) | {"oracle": None, "optimum": None}
    return {
        "method": "bc",
        "privileged": False,
        "family": "point_robot",
        "preset": "debug",
        "seed": seed,
        "updates": 10,
        "wall_seconds": 1.0,
        "commit": "abc",
        "split": split,
        "tasks": {"ids": [7], "parameters": {"goal": [[0.0, 1.0]]}},
        "protocols": {"few_shot": block},
        "bounds": bounds,
    }


def finish(folder: Path, few_shot: float = 1.0, seed: int = 0, split: str = "test") -> None:
    """Leaves in a workdir what a run would leave that a sweep reads."""
    folder.mkdir(parents=True, exist_ok=True)
    files.write_json(folder / "results.json", results(few_shot, seed, split))
