"""The real thing in small: killed anywhere, a run ends where a whole one ends."""

import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from metastar.data.layout import FIELDS

ROOT = Path(__file__).parent.parent
CONFIG = ROOT / "configs/metastar.py"


def start(folder: Path, name: str):
    command = [
        sys.executable,
        "-m",
        "metastar",
        "train",
        f"--config={CONFIG}:point_robot_sparse,debug",
    ]
    command += [f"--workdir={folder / name}", f"--config.data.dir={folder / name}_data"]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def finish(folder: Path, name: str):
    process = start(folder, name)
    output, _ = process.communicate()
    assert process.returncode == 0, output
    results = json.loads((folder / name / "results.json").read_text())
    rows = [json.loads(x) for x in (folder / name / "metrics.jsonl").read_text().splitlines()]
    return results, rows


@pytest.mark.slow
def test_a_killed_run_ends_bitwise_where_a_whole_run_ends(tmp_path):
    began = time.monotonic()
    whole, whole_rows = finish(tmp_path, "whole")
    duration = time.monotonic() - began
    rng = random.Random(0)
    for kill in (signal.SIGKILL, signal.SIGTERM, signal.SIGKILL, signal.SIGTERM):
        process = start(tmp_path, "killed")
        time.sleep(rng.uniform(0.1, 0.9) * duration)
        process.send_signal(kill)
        process.communicate()
    killed, rows = finish(tmp_path, "killed")
    assert killed["params_sha256"] == whole["params_sha256"]
    for block in ("protocols", "train", "bounds"):
        assert killed[block] == whole[block]
    steps = [row["step"] for row in rows]
    assert steps == [row["step"] for row in whole_rows] and len(set(steps)) == len(steps)
    files = [p.name for p in (tmp_path / "whole_data").glob("*.npy")]
    assert sorted(files) == sorted(f"{name}.npy" for name in FIELDS)
    for name in files:
        data = [(tmp_path / f"{run}_data" / name).read_bytes() for run in ("whole", "killed")]
        assert data[0] == data[1], name
