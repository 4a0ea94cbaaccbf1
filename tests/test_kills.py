"""Real runs that are killed provably inside a part of their work end where whole ones end."""

import itertools
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from metastar.training import status
from metastar.training.metrics import FILE, TIMES, read_rows

CONFIGS = Path(__file__).parent.parent / "configs"
# Long enough for some twenty kills, and each chunk long enough to be met in the middle.
LONG = {
    "train.updates": 6000,
    "train.chunk": 50,
    "train.checkpoint_every": 200,
    "train.eval_every": 1000,
}


class Job:
    """One command, started again and again in the same folder."""

    def __init__(self, folder, cache, *words, **fields):
        """`words` of the command line, and fields of its config with `__` for each dot."""
        overrides = [f"--config.{name.replace('__', '.')}={x}" for name, x in fields.items()]
        self.folder, self.workdir, self.data = folder, folder / "run", folder / "data"
        self.command = [sys.executable, "-m", "metastar", *words, *overrides]
        self.command += [f"--config.data.dir={self.data}"]
        if words[0] == "train":
            self.command += [f"--workdir={self.workdir}"]
        self.environment = {
            **os.environ,
            "JAX_COMPILATION_CACHE_DIR": str(cache),
            "JAX_ENABLE_COMPILATION_CACHE": "true",
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        }

    def start(self):
        self.folder.mkdir(exist_ok=True)
        self.log = self.folder / "log.txt"
        with self.log.open("w") as log:
            return subprocess.Popen(self.command, stdout=log, stderr=log, env=self.environment)

    def finish(self):
        assert self.start().wait() == 0, self.log.read_text()
        return self

    def killed_inside(self, inside, number, skip=0):
        """Runs it until `inside(job, pid)` holds, looks `skip` times again, and kills it there.

        The process is halted first, so that what holds then holds when the signal comes. Returns
        False if it came to its end before.
        """
        process = self.start()
        while process.poll() is None:
            if inside(self, process.pid):
                os.kill(process.pid, signal.SIGSTOP)
                _, halted = os.waitpid(process.pid, os.WUNTRACED)
                if not os.WIFSTOPPED(halted):
                    process.returncode = os.waitstatus_to_exitcode(halted)
                    break
                there = inside(self, process.pid)
                if there and skip == 0:
                    process.send_signal(number)
                process.send_signal(signal.SIGCONT)
                if there and skip == 0:
                    code, text = process.wait(), self.log.read_text()
                    assert code == (-9 if number == signal.SIGKILL else 143), text
                    assert "Traceback" not in text
                    return True
                skip -= there
            time.sleep(0.003)
        assert process.returncode == 0, self.log.read_text()
        return False

    def runs(self):
        return sorted(path.parent for path in self.workdir.rglob("results.json"))

    def outcome(self):
        """All that must not depend on kills."""
        found = {path.name: path.read_bytes() for path in self.data.glob("*.npy")}
        for folder in self.runs():
            results = json.loads((folder / "results.json").read_text())
            for name in ("params_sha256", "protocols", "train", "bounds", "stability", "updates"):
                found[folder.name, name] = results[name]
            rows = read_rows(folder / FILE)
            found[folder.name, "rows"] = [r | dict.fromkeys(TIMES) for r in rows]
        return found


def told(job, pid, state):
    found = status.read(job.workdir)
    return found is not None and found.pid == pid and found.state == state


def in_save(job, pid):
    return told(job, pid, "training") and any(job.workdir.rglob("checkpoints/tmp.*"))


def in_updates(job, pid):
    """Behind a row of metrics that neither an evaluation nor a checkpoint follows."""
    if not told(job, pid, "training") or in_save(job, pid):
        return False
    rows = [row for path in job.workdir.rglob(FILE) for row in read_rows(path)[-1:]]
    return any(row["step"] % LONG["train.checkpoint_every"] for row in rows)


def in_state(state):
    return lambda job, pid: told(job, pid, state)


def in_collection(job, pid):
    """Behind the first line of a collection and before its data set."""
    return "collecting" in job.log.read_text() and not job.data.exists()


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "fields", "in_training", "later"),
    [
        (("train", f"--config={CONFIGS}/metastar.py:point_robot_sparse,debug"), {}, 18, 10),
        (
            ("train", f"--config={CONFIGS}/oracle.py:point_robot_sparse,debug"),
            {"num_seeds": 2},
            8,
            6,
        ),
    ],
    ids=["one", "two_together"],
)
def test_a_run_that_was_killed_anywhere(tmp_path, cache, words, fields, in_training, later):
    fields = {name.replace(".", "__"): x for name, x in {**LONG, **fields}.items()}
    whole = Job(tmp_path / "whole", cache, *words, **fields).finish()
    job, rng, kills = Job(tmp_path / "killed", cache, *words, **fields), random.Random(0), []
    numbers = itertools.cycle([signal.SIGKILL, signal.SIGKILL, signal.SIGTERM])
    points = [("collecting", in_state("collecting"))]
    points += [("save", in_save), ("updates", in_updates)] * (in_training // 2)
    points += [
        (name, in_state(name)) for name in ("evaluating", "reporting") for _ in range(later // 2)
    ]
    for name, inside in points:
        number = next(numbers)
        skip = rng.randrange(60) if name == "updates" else 0
        if job.killed_inside(inside, number, skip):
            kills.append((name, number.name))
    job.finish()
    print(f"{len(kills)} of {len(points)} kills met their point: {kills}")
    assert len(kills) >= 0.9 * len(points)
    assert job.outcome() == whole.outcome() and len(job.runs()) == fields.get("num_seeds", 1)
    assert status.read(job.workdir).state == "complete"


@pytest.mark.slow
@pytest.mark.parametrize(("engine", "kills"), [("c", 4), ("mjx", 2)])
def test_a_collection_that_was_killed_anywhere(tmp_path, cache, engine, kills):
    words = ("collect", f"--config={CONFIGS}/oracle.py:cheetah_vel,debug")
    fields = {"simulator__backend": engine}
    whole = Job(tmp_path / "whole", cache, *words, **fields).finish()
    job, rng = Job(tmp_path / "killed", cache, *words, **fields), random.Random(1)
    for k in range(kills):
        number = (signal.SIGKILL, signal.SIGTERM)[k % 2]
        assert job.killed_inside(in_collection, number, skip=rng.randrange(500))
        assert not job.data.exists()
    job.finish()
    print(f"{kills} kills of a collection by {engine}")
    assert job.outcome() == whole.outcome() and len(job.outcome()) > 5
