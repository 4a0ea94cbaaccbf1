"""One seed of a family's default preset from nothing, timed: collection, training, report.

    python experiments/alone.py --family=cheetah_vel

Writes `experiments/results/default_<family>/alone.json` and a table to `docs/results.md`. The data
set must not be there yet, the machine should have nothing else to do. Compiled programs are kept
from nowhere.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cells
from default import minutes_of
from sweeps.default import label_of

from metastar import files
from metastar.tools.report import tables
from metastar.training import metrics, provenance

PROTOCOLS = {"few_shot": "few-shot", "zero_shot": "zero-shot"}


def timed(*words: str) -> float:
    """Minutes of a command of the library."""
    start = time.perf_counter()
    environ = {k: v for k, v in os.environ.items() if k != "JAX_COMPILATION_CACHE_DIR"}
    subprocess.run((sys.executable, "-m", "metastar", *words), env=environ, check=True)
    return (time.perf_counter() - start) / 60


def measure(family: str) -> dict:
    """Runs both commands and reads what the second found."""
    config = f"--config=configs/metastar.py:{family}"
    with tempfile.TemporaryDirectory() as folder:
        collection = timed("collect", config)
        training = timed("train", config, f"--workdir={folder}")
        results = cells.read(Path(folder), "results.json")
        parts = minutes_of(metrics.read_rows(Path(folder) / metrics.FILE), results)
    parts = {"collection": collection, **parts}
    parts["the rest"] = collection + training - sum(parts.values())  # starts, checkpoints, report
    protocols = results["protocols"]
    return {
        "command": f"python experiments/alone.py --family={family}",
        "seed": results["seed"],
        "cores": len(os.sched_getaffinity(0)),
        "commit": provenance.commit(),
        "versions": provenance.versions(),
        "minutes": parts,
        "returns": {name: protocols[name]["mean"] for name in PROTOCOLS},
        "params_sha256": results["params_sha256"],
    }


def table(family: str, report: dict) -> str:
    """Minutes of one seed, and what it returns on the test tasks."""
    minutes, returns = report["minutes"], report["returns"]
    rows = [
        ("minutes of", *minutes, "all", *(f"{word} return" for word in PROTOCOLS.values())),
        (
            f"seed {report['seed']}",
            *(f"{x:.1f}" for x in (*minutes.values(), sum(minutes.values()))),
            *(f"{returns[name]:.1f}" for name in PROTOCOLS),
        ),
    ]
    file = f"experiments/results/{label_of(family)}/alone.json"
    return f"{tables.markdown(rows)}\n\nCommand: `{report['command']}`; file: `{file}`.\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--family", default="cheetah_vel")
    family = parser.parse_args().family
    data = Path(f"data/{family}_default")
    if data.exists():
        parser.error(f"{data} is there already, so that its collection cannot be timed; move it")
    report = measure(family)
    files.write_json(cells.RESULTS / label_of(family) / "alone.json", report)
    content = table(family, report)
    tables.insert(cells.DOCS / "results.md", f"alone_{family}", content)
    print(content)


if __name__ == "__main__":
    main()
