"""What a sweep takes beside its cells, by executor, and the driver's memory with many cells queued.

    python experiments/executors.py --out experiments/results/executors.json

Runs the debug cells of `bc` one after the other on one core: as bare commands, then through each
executor that this machine has; for Ray it starts a cluster of one node. What an executor adds is
the difference, which on a machine that does other work is less than the noise: `wall_seconds` of
each are there too. Then each is given `--queued` cells, and once the first of them runs the driver
is asked how much memory it took and how long its plan, and is stopped.
"""

import argparse
import contextlib
import importlib.util
import json
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from metastar import files, registry
from metastar.tools.sweep import grid, process, state
from metastar.tools.sweep.grid import Sweep
from metastar.training import provenance

MEMORY_GB = 4.0
PAUSE = 0.2  # seconds between two looks


def planned(folder: Path, num_cells: int, **sections: dict) -> Sweep:
    """Writes a sweep file of `num_cells` debug cells, which all train on `data` beside it."""
    words = (f"data.dir={folder.parent / 'data'}",)
    product = {"methods": ("bc",), "families": ("point_robot",), "presets": ("debug",)}
    product |= {"seeds": tuple(range(num_cells)), "overrides": {"": words}}
    content = {"grids": (product,), "memory_gb": MEMORY_GB, **sections}
    content |= {name: str(folder / name) for name in ("runs", "results")}
    folder.mkdir()
    file = folder / "cells.py"
    file.write_text(f"def get_config():\n    return {content!r}\n")
    return grid.read(str(file))


def bare(folder: Path, num_cells: int) -> float:
    """Seconds that the commands of the cells take, as `--dry-run` prints them."""
    sweep = planned(folder, num_cells)
    sweep.runs.mkdir()
    core = process.cores()[:1]
    began = time.perf_counter()
    for cell in grid.cells(sweep):
        command = process.start(cell.argv, sweep.runs / "log", core)
        if command.wait():
            sys.exit(f"{shlex.join(cell.argv)} failed; see {sweep.runs / 'log'}")
    return time.perf_counter() - began


def start(sweep: Sweep, name: str, jobs: int) -> subprocess.Popen:
    """Starts the driver of a sweep."""
    words = ["sweep", sweep.source, f"--on={name}", f"--jobs={jobs}"]
    return subprocess.Popen(
        [sys.executable, "-m", "metastar", *words],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def peak_mib(driver: subprocess.Popen) -> float:
    """The most memory that a driver has taken so far."""
    lines = Path(f"/proc/{driver.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) / 2**10 for line in lines if line.startswith("VmHWM"))


def through(name: str, sweep: Sweep) -> dict:
    """Runs the cells of a sweep one after the other on an executor."""
    began = time.perf_counter()
    driver = start(sweep, name, jobs=1)
    _, said = driver.communicate()
    if driver.returncode:
        return {"refused": said.strip().splitlines()[-1]}
    return {"wall_seconds": time.perf_counter() - began}


def queued(name: str, sweep: Sweep, num_cells: int) -> dict:
    """A driver's memory once it has planned all cells and handed over what it can."""
    began = time.perf_counter()
    driver = start(sweep, name, jobs=1 if name == "local" else num_cells)
    while not any(entry.state == "running" for entry in state.read(sweep.runs).values()):
        if driver.poll() is not None:
            sys.exit(driver.stderr.read())
        time.sleep(PAUSE)
    found = {"cells": num_cells, "seconds_until_the_first": time.perf_counter() - began}
    time.sleep(10)  # some tens of looks at the cells
    found["driver_mib"] = peak_mib(driver)
    driver.send_signal(signal.SIGTERM)
    driver.communicate()
    return found


@contextlib.contextmanager
def sections() -> Iterator[dict]:
    """Yields what the sweep files say of the executors, while there is a cluster of Ray's."""
    if importlib.util.find_spec("ray") is None:
        yield {}
        return
    os.environ.setdefault("RAY_AUTH_MODE", "disabled")  # of what is reached from here alone
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    try:
        yield {"ray": {"address": cluster.address}}
    finally:
        cluster.remove_node(cluster.head_node)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cells", type=int, default=20)
    parser.add_argument("--queued", type=int, default=1000)
    parser.add_argument("--out", type=Path, default=Path("experiments/results/executors.json"))
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as place, sections() as own:
        folder = Path(place)
        bare(folder / "first", 1)  # makes the data set, and compiles
        seconds = bare(folder / "bare", args.cells)
        found = {}
        for name in registry.names("executor"):
            found[name] = through(name, planned(folder / name, args.cells, **own))
            if "refused" not in found[name]:
                added = (found[name]["wall_seconds"] - seconds) / args.cells
                found[name]["added_seconds_a_cell"] = added
                found[name]["added_minutes_of_1000_cells"] = 1000 * added / 60
                sweep = planned(folder / f"{name}_queued", args.queued, **own)
                found[name]["queued"] = queued(name, sweep, args.queued)
    report = {
        "command": shlex.join(["python", *sys.argv]),
        "commit": provenance.commit(),
        "versions": provenance.versions(),
        "cores": os.cpu_count(),
        "load": os.getloadavg()[2],  # processes, mean over a quarter of an hour: ours is one
        "cells": args.cells,
        "bare": {"wall_seconds": seconds},
        "executors": found,
    }
    args.out.parent.mkdir(parents=True, exist_ok=True)
    files.write_json(args.out, report)
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
