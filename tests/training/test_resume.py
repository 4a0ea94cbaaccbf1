"""A run that is killed at any instant and started again ends bitwise where a whole run ends."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from fake_method import claimed, make_cfg, make_data, make_method
from metastar.training.checkpoint import params_sha256
from metastar.training.loop import fit
from metastar.training.metrics import TIMES, read_rows
from metastar.training.runs import Run

# Every one of these, within the workdir, is an instant at which a kill may leave a file half done.
_FILE_EVENTS = ("open", "os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.listdir")


def run(workdir):
    """More checkpoints than a real run has, so that most kills meet one being written."""
    cfg = make_cfg(chunk=2, checkpoint_every=2, eval_every=4, keep_checkpoints=2)
    method, runs = make_method(6, 10), [claimed(Run(cfg, workdir))]
    return fit(runs, method, make_data(), [method.hp], lambda state, step: {"step": step})


def kill_at(workdir, number, event, delay):
    """Sends this process a signal, `delay` seconds after its n-th file operation in `workdir`."""
    count = 0

    def hook(name, arguments):
        nonlocal count
        if name in _FILE_EVENTS and str(arguments[0]).startswith(str(workdir)):
            count += 1
            if count == event:
                if delay:
                    threading.Timer(delay, os.kill, (os.getpid(), number)).start()
                else:
                    os.kill(os.getpid(), number)

    sys.addaudithook(hook)
    return lambda: count


@pytest.mark.parametrize("most", [3, pytest.param(5, marks=pytest.mark.slow)])
def test_killed_at_any_instant_it_ends_where_a_whole_run_ends(tmp_path, most):
    (tmp_path / "whole").mkdir()
    (tmp_path / "cut").mkdir()
    whole = params_sha256(run(tmp_path / "whole").loops[0])
    rng = np.random.default_rng(0)
    statuses = []
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    while not statuses or statuses[-1] != 0:
        kills = len(statuses)
        number = int(signal.SIGTERM if kills == 2 else signal.SIGKILL)
        event = int(rng.integers(10, 120)) if kills < most else 0
        delay = float(rng.choice([0, rng.uniform(0, 0.03)]))
        command = [sys.executable, __file__, tmp_path / "cut", number, event, delay]
        done = subprocess.run(
            [*map(str, command)], capture_output=True, text=True, timeout=100, env=environment
        )
        statuses.append(done.returncode)
        assert done.returncode in (0, 143, -signal.SIGKILL), done.stderr
        print(statuses, event, done.stdout)
    assert len(statuses) > 3, "too few kills met the run"
    assert done.stdout.splitlines()[-1] == whole
    found = [read_rows(tmp_path / name / "metrics.jsonl") for name in ("cut", "whole")]
    for rows in found:
        seconds = [row["seconds"] for row in rows]
        assert seconds[0] > 0 and seconds == sorted(seconds)
    rows, expected = ([{k: v for k, v in r.items() if k not in TIMES} for r in x] for x in found)
    assert rows == expected


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    file_events = kill_at(folder, int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4]))
    digest = params_sha256(run(folder).loops[0])
    print(f"{file_events()} file events")
    print(digest)
