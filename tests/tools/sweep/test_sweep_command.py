"""`metastar sweep` as processes: what a terminal sees, a killed driver, one real cell."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

import sweep_files
from metastar import files
from metastar.errors import UserError
from metastar.main import main
from metastar.tools.report import compare, groups
from metastar.tools.sweep import cell as cell_files
from metastar.tools.sweep import process, state, table
from metastar.tools.sweep.executor import Share
from metastar.tools.sweep.executors import local
from metastar.tools.sweep.state import Entry

TESTS = Path(__file__).parents[2]
GRID = sweep_files.GRID | {"seeds": (0, 1)}
NAMES = [f"bc_point_robot_debug_{k}" for k in range(2)]

# Takes the place of Python in the commands of cells: holds the workdir as a run does, waits for the
# file "go", and leaves what a sweep reads. Of seed 1 only a sentence, if there is a file "fail".
FAKE = f"""\
#!{sys.executable} -S
import fcntl, json, pathlib, sys, time
workdir = pathlib.Path(next(w for w in sys.argv if w.startswith("--workdir=")).split("=", 1)[1])
workdir.mkdir(parents=True, exist_ok=True)
lock = open(workdir / ".lock", "w")
fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
root = workdir.parents[1]
(root / f"began_{{workdir.name}}").touch()
end = time.monotonic() + 60
while not (root / "go").exists() and time.monotonic() < end:
    time.sleep(0.02)
if "--config.seed=1" in sys.argv and (root / "fail").exists():
    sys.exit("metastar: seed 1 is unlucky")
(workdir / "results.json").write_text((root / "template.json").read_text())
"""
# The command line with that in place of Python.
DRIVER = """\
import sys
from metastar.tools.sweep import process
process.sys = type("sys", (), {"executable": "./python"})
from metastar.errors import UserError
from metastar.main import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A current folder with a sweep file `s.py`, its data set, and the fake programs."""
    monkeypatch.chdir(tmp_path)
    sweep_files.write(tmp_path, (GRID,), memory_gb=0.1, runs="runs", results="results")
    (tmp_path / "data/point_robot_debug").mkdir(parents=True)
    (tmp_path / "data/point_robot_debug/manifest.json").write_text("{}")
    (tmp_path / "driver.py").write_text(DRIVER)
    (tmp_path / "python").write_text(FAKE)
    (tmp_path / "python").chmod(0o755)
    files.write_json(tmp_path / "template.json", sweep_files.results())
    return tmp_path


@pytest.fixture
def fake(place, monkeypatch):
    """The same in this process."""
    monkeypatch.setattr(process, "sys", type("sys", (), {"executable": "./python"}))
    return place


def start(*words):
    command = [sys.executable, "driver.py", "sweep", "s.py", *words]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_for(condition, seconds=30):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.02)


def test_a_killed_driver_resumes_and_waits_for_what_it_left_running(place, capsys):
    first = start("--jobs=1")
    wait_for((place / f"began_{NAMES[0]}").exists)
    wait_for(lambda: state.read(place / "runs") and True)
    assert main(["sweep", "status", "s.py"]) == 0  # from another process
    told = capsys.readouterr().out
    assert "2 cells: 1 running, 1 waiting" in told and "no process" not in told
    assert main(["sweep", "s.py", "--resume"]) == 2
    assert "going on in another process" in capsys.readouterr().err
    first.send_signal(signal.SIGKILL)
    first.wait()
    assert main(["sweep", "status", "runs"]) == 0
    assert "no process drives this sweep now" in capsys.readouterr().out
    assert main(["sweep", "s.py"]) == 2
    assert "go on with --resume, or with --only-failed" in capsys.readouterr().err
    second = start("--resume", "--jobs=1")
    wait_for(lambda: "earlier call started" in (place / "runs/sweep.json").read_text())
    assert not (place / f"began_{NAMES[1]}").exists()  # the only place is taken
    (place / "go").touch()
    out, err = second.communicate(timeout=60)
    assert second.returncode == 0 and err == "" and "2 cells: 2 done" in out
    assert sorted(p.name for p in (place / "results").iterdir()) == [f"{n}.json" for n in NAMES]
    log = (place / f"runs/{NAMES[0]}.log").read_text()
    assert log.count("$ metastar train") == 2  # the second finds the run complete


def test_a_signal_stops_a_sweep_with_its_own_status(fake, capsys):
    def ask():
        wait_for((fake / f"began_{NAMES[0]}").exists)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=ask).start()
    with pytest.raises(SystemExit) as caught:
        main(["sweep", "s.py", "--jobs=1"])
    assert caught.value.code == 143
    told = capsys.readouterr().out
    assert "stopped; 2 cells: 1 stopped, 1 waiting; go on with --resume" in told
    assert state.read(fake / "runs")[NAMES[0]].state == "stopped"


def test_lines_without_a_terminal_and_a_failure_that_is_told(fake, capsys):
    (fake / "go").touch()
    (fake / "fail").touch()
    assert main(["sweep", "s.py"]) == 2
    out, err = capsys.readouterr()
    assert f"{NAMES[1]}: failed" in out and "; seed 1 is unlucky" in out
    assert "few_shot 1.0" in out and len(out.splitlines()) == 4
    assert err == (
        "metastar: 2 cells: 1 failed, 1 done; start the failed ones again with --only-failed; "
        f"{NAMES[1]}: seed 1 is unlucky\n"
    )
    (fake / "fail").unlink()
    assert main(["sweep", "s.py", "--only-failed"]) == 0
    assert capsys.readouterr().out.endswith("2 cells: 2 done; results: results\n")
    assert main(["sweep", "s.py"]) == 0  # nothing is left to do
    assert main(["compare", f"results/{NAMES[0]}.json"]) == 0


def test_a_search_prints_and_keeps_what_is_best(fake, capsys):
    (fake / "go").touch()
    files.write_json(fake / "template.json", sweep_files.results(split="validation"))
    grid = sweep_files.GRID | {"overrides": {"": ("data.validation_tasks=1",)}}
    ranges = {"bc": {"actor_lr": ("log", 1e-4, 1e-2)}}
    sweep_files.write(fake, (grid,), search=ranges, memory_gb=0.1, runs="runs", results="results")
    assert main(["sweep", "s.py", "--search=2"]) == 0
    assert "2 of 2 settings have all their scores, best draw0, 1: bc.actor_lr=0.00" in (
        capsys.readouterr().out
    )
    names = [f"bc_point_robot_debug_draw{k}_0.json" for k in range(2)]
    assert sorted(p.name for p in (fake / "results").iterdir()) == [*names, "search.json"]


def test_the_folder_of_another_sweep_is_refused(fake, capsys):
    (fake / "go").touch()
    assert main(["sweep", "s.py"]) == 0
    before = (fake / "runs/sweep.json").read_bytes()
    others = sweep_files.GRID | {"seeds": (7,)}
    sweep_files.write(fake, (others,), name="t.py", runs="runs", results="results")
    assert main(["sweep", "t.py"]) == 2
    assert "runs holds the state of another sweep, s.py; name another" in capsys.readouterr().err
    assert (fake / "runs/sweep.json").read_bytes() == before
    sweep_files.write(fake, (others,), memory_gb=0.1, runs="runs", results="results")
    assert main(["sweep", "s.py"]) == 0  # the same file, with other cells


def test_a_folder_of_results_that_cannot_be_made_stops_before_the_first_cell(fake, capsys):
    (fake / "results").write_text("a file")
    assert main(["sweep", "s.py"]) == 2
    assert "cannot make the folder of the results, results (File exists)" in capsys.readouterr().err
    assert not list((fake / "runs").glob("*.log"))


def test_a_process_is_held_to_its_cores_and_its_memory(tmp_path, monkeypatch):
    (tmp_path / "python").write_text(
        f"#!{sys.executable} -S\nimport os, time\nprint(os.environ['OMP_NUM_THREADS'], "
        "*os.sched_getaffinity(0), flush=True)\nx = b'1' * 300_000_000\ntime.sleep(60)\n"
    )
    (tmp_path / "python").chmod(0o755)
    monkeypatch.setattr(process, "sys", type("sys", (), {"executable": str(tmp_path / "python")}))
    executor = local.make({}, Share(cores=1, memory_gb=0.25), jobs=2)
    log = tmp_path / "a.log"
    job = executor.start(["train", "--workdir=x"], log, [])
    place = executor.place(job)
    wait_for(lambda: executor.poll(job) is not None)
    assert executor.poll(job) == -signal.SIGKILL
    lines = log.read_text().splitlines()
    assert lines[:2] == ["$ metastar train --workdir=x", f"1 {place['cores'][0]}"]
    assert lines[-1].startswith("metastar: the process took more than 0.25 GiB of memory")


def test_room_is_by_cores_memory_and_jobs(tmp_path, monkeypatch):
    gib = 2**30
    monkeypatch.setattr(process, "cores", lambda: [0, 1, 2, 5])
    monkeypatch.setattr(local, "_meminfo", lambda name: 10 * gib)
    monkeypatch.setattr(process, "start", lambda argv, log, cores: None)
    monkeypatch.setattr(process, "memory_of", lambda pid: gib)
    pair = local.make({}, Share(2, 4.0))
    taken = [{"pid": 1, "cores": [0, 1]}]
    assert [pair.start([], tmp_path, x).cores for x in ([], taken)] == [[0, 1], [2, 5]]
    assert pair.start([], tmp_path, [*taken, {}]) is None  # one that is not known takes a place
    one = local.make({}, Share(1, 4.0))
    taken = [{"pid": k, "cores": [k]} for k in range(2)]
    assert one.start([], tmp_path, taken).cores == [2]  # 10 - 2 x 3 that they may still take
    assert one.start([], tmp_path, [*taken, {"pid": 2, "cores": [2]}]) is None
    assert local.make({}, Share(1, 4.0), jobs=1).start([], tmp_path, taken[:1]) is None
    for share, sentence in ((Share(5, 1.0), "takes 5 cores"), (Share(1, 11.0), "11 GiB and the")):
        with pytest.raises(Exception, match=sentence):
            local.make({}, share)


def test_the_table_reads_what_cells_say_of_themselves(tmp_path):
    said = {"state": "training", "phase": "joint", "step": 300, "updates": 900, "pid": 1}
    said |= {"updates_per_second": 4.0, "started": 90.0, "updated": 110.0, "sentence": None}
    said |= {"returns": {"eval/few_shot": -3.14}}
    files.write_json(tmp_path / "status.json", said)
    here = str(tmp_path)
    entries = {
        "a": Entry(here, "running", began=100.0),
        "b": Entry(here, "running", began=120.0),  # the file is of an earlier start
        "c": Entry(here, "done", seconds=90.0, returns={"few_shot": 2.0}),
        "d": Entry(here, "failed", sentence="no"),
    }
    assert table.rows(entries)[1:] == [
        ("a", "training", "300 of 900", "4.0", "2.5 min", "–", "few_shot -3.1"),
        ("b", "starting", "–", "–", "–", "–", "–"),
        ("c", "done", "–", "–", "–", "1.5 min", "few_shot 2.0"),
        ("d", "failed", "–", "–", "–", "–", "–"),
    ]
    assert "d: no" in table.text(entries, driven=True)


def test_compare_takes_a_result_file_for_its_runs_and_their_audits(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (cell,), sweep = sweep_files.cells(tmp_path, GRID | {"runs_per_program": 2})
    audit = {"splits": {"test": {"all": {"ratio": {"ratio": 0.25}}}}}
    for seed in range(2):
        folder = cell.workdir / "seeds" / str(seed)
        sweep_files.finish(folder, 3.0 + seed, seed)
        files.write_json(folder / "audit.json", audit)
    assert cell_files.write(cell, sweep) == {"few_shot": 3.5}
    file = str(cell_files.file_of(cell, sweep))
    told = compare.compare([file, file], "out")
    assert "bc debug                           2       10  3.50" in told
    assert "bc debug   2 of 2  0.2500" in told
    assert f"{file}, seed 1" in Path("out/compare.md").read_text()


@pytest.mark.parametrize("runs", [None, [], [3], [{"results": {"seed": 0}}]])
def test_compare_refuses_a_result_file_that_is_none(tmp_path, runs):
    files.write_json(tmp_path / "a.json", {"cell": "a", "runs": runs})
    with pytest.raises(UserError, match=r"a\.json' does not hold the results of a run"):
        groups.read([str(tmp_path / "a.json")])


@pytest.mark.slow
def test_a_real_cell_from_file_to_result_file(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    pair = GRID | {"runs_per_program": 2, "then": ("audit",)}
    source = sweep_files.write(tmp_path, (pair,), memory_gb=8.0)
    assert main(["sweep", source]) == 0
    name = "bc_point_robot_debug_0-1"
    content = cell_files.read(tmp_path / f"results/{name}.json")
    found = [run["results"]["digests"]["config"] for run in content["runs"]]
    assert found == content["digests"]  # what config.json of each run holds
    assert all("splits" in run["audit"] for run in content["runs"])
    command = (tmp_path / f"runs/{name}/command.txt").read_text().strip()
    assert command == content["command"]
    assert json.loads((tmp_path / f"runs/{name}/seeds/1/config.json").read_text())["seed"] == 1
