"""What a first start pays for compilation, and the next one, which finds the programs kept.

    python experiments/compilation.py

MetaSTAR's default of Cheetah-Vel, three seeds in one program as in `sweeps/default.py`, 200 updates
of each phase, which compile what all of them do; `data/cheetah_vel_default` must be there. The
second of two runs finds the cache of compiled programs as the first one left it, which found none.
Writes `experiments/results/compilation.json` and a table to `docs/results.md`.
"""

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import cells

from metastar import files
from metastar.tools.report import tables
from metastar.training import provenance

LABEL = "compilation"
COMMAND = "python experiments/compilation.py"
RUN = (
    *("metastar", "train", "--config=configs/metastar.py:cheetah_vel", "--config.num_seeds=3"),
    *("--config.train.pretrain_updates=200", "--config.train.updates=200"),
    *("--config.eval.windows=1", "--config.eval.zero_shot_streams=1"),
    "--config.eval.curve_windows=1",
)
STARTS = ("nothing kept", "programs kept")
COMPILED = re.compile(r"compiled (\w+) in ([\d.]+) s")


def seconds_of(workdir: Path, cache: Path) -> dict[str, float]:
    """Seconds of compilation of each phase in one run, as it says."""
    environ = {**os.environ, "JAX_COMPILATION_CACHE_DIR": str(cache)}
    command = (sys.executable, "-m", *RUN, f"--workdir={workdir}")
    said = subprocess.run(command, env=environ, capture_output=True, text=True, check=True).stdout
    return {phase: float(seconds) for phase, seconds in COMPILED.findall(said)}


def table(report: dict) -> str:
    """One line a start, one column a phase."""
    phases = list(report["seconds"][STARTS[0]])
    rows = [("seconds of compilation", *phases, "all")]
    for start, found in report["seconds"].items():
        seconds = (*(found[phase] for phase in phases), sum(found.values()))
        rows.append((start, *(f"{x:.1f}" for x in seconds)))
    file = f"experiments/results/{LABEL}.json"
    return f"{tables.markdown(rows)}\n\nCommand: `{COMMAND}`; file: `{file}`.\n"


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        found = {start: seconds_of(root / start, root / "cache") for start in STARTS}
    report = {
        "command": COMMAND,
        "run": " ".join(RUN),
        "cores": len(os.sched_getaffinity(0)),
        "commit": provenance.commit(),
        "versions": provenance.versions(),
        "seconds": found,
    }
    files.write_json(cells.RESULTS / f"{LABEL}.json", report)
    tables.insert(cells.DOCS / "results.md", LABEL, table(report))
    print(table(report))


if __name__ == "__main__":
    main()
