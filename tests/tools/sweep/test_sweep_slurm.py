"""Cells as jobs of SLURM: by submitit's local executor, and with stand-ins for SLURM's programs."""

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
from metastar.tools.sweep import executor, state
from metastar.tools.sweep.executor import Share
from metastar.tools.sweep.executors import slurm

SRC = Path(__file__).parents[3] / "src"
GRID = sweep_files.GRID | {"seeds": (0, 1)}
NAMES = [f"bc_point_robot_debug_{k}" for k in range(2)]
SETTINGS = {name: field.value for name, field in slurm.DEFAULTS.items()}

# Takes the place of Python in the commands of cells: waits for the file "go", and leaves what a
# sweep reads. A signal ends it as it ends a run: a first one once it has saved, a second one now.
CELL = f"""\
#!{sys.executable} -S
import fcntl, os, pathlib, signal, sys, time
if sys.argv[1:3] == ["-S", "-c"]:
    code, sys.argv = sys.argv[3], ["-c", *sys.argv[4:]]
    exec(code)
asked = []
def ask(number, frame):
    if asked:
        os._exit(128 + number)
    asked.append(number)
for number in (signal.SIGINT, signal.SIGTERM):
    if number == signal.SIGINT or signal.getsignal(number) != signal.SIG_IGN:
        signal.signal(number, ask)
workdir = pathlib.Path(next(w for w in sys.argv if w.startswith("--workdir=")).split("=", 1)[1])
workdir.mkdir(parents=True, exist_ok=True)
lock = open(workdir / ".lock", "w")
fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
root = workdir.parents[1]
(root / f"began_{{workdir.name}}").touch()
end = time.monotonic() + 60
while not (root / "go").exists() and time.monotonic() < end:
    time.sleep(0.02)
    if asked:
        time.sleep(0.5)
        (root / f"saved_{{workdir.name}}").touch()
        sys.exit(128 + asked[0])
(workdir / "results.json").write_text((root / "template.json").read_text())
"""
# In every Python that a job starts: puts that in its place.
SITE = """\
import sys
if "submitit.core._submit" in sys.orig_argv:
    from metastar.tools.sweep import process
    process.sys = type("sys", (), {"executable": "./python"})
"""
# SLURM, as far as it is needed: files <id>.pid of the step, <id>.script and <id>.state.
SLURM = f"""\
#!{sys.executable} -S
import os, pathlib, re, signal, subprocess, sys
place = pathlib.Path(__file__).parent
name, words = pathlib.Path(sys.argv[0]).name, sys.argv[1:]
def to_all(pid, number):
    for child in pathlib.Path(f"/proc/{{pid}}/task/{{pid}}/children").read_text().split():
        to_all(int(child), number)
    os.kill(pid, number)
def start(number, task, script):
    own = {{"SLURM_JOB_ID": str(number), "SLURM_PROCID": "0", "SLURM_LOCALID": "0"}}
    if task is not None:
        own |= {{"SLURM_ARRAY_JOB_ID": str(number), "SLURM_ARRAY_TASK_ID": str(task)}}
    full = f"{{number}}_{{task}}" if task is not None else str(number)
    (place / f"{{full}}.script").write_text(script)
    subprocess.Popen(["bash", script], env=os.environ | own | {{"FULL": full}},
                     start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
if name == "sbatch":
    if (place / "refuse").exists():
        sys.exit("sbatch: error: invalid partition specified: gpu")
    number = 100 + len(list(place.glob("*.script")))
    script = words[-1]
    array = re.search("--array=0-([0-9]+)%", pathlib.Path(script).read_text())
    for task in range(int(array[1]) + 1) if array else (None,):
        start(number, task, script)
    print("Submitted batch job", number)
elif name == "srun":
    (place / f"{{os.environ['FULL']}}.pid").write_text(str(os.getpid()))
    first = next(k for k, word in enumerate(words) if word == sys.executable)
    os.execv(words[first], words[first:])
elif name == "scontrol":  # requeue ID
    number, _, task = words[1].partition("_")
    start(int(number), int(task) if task else None, (place / f"{{words[1]}}.script").read_text())
elif name == "scancel":
    with open(place / "calls", "a") as calls:
        print(words[0], file=calls)
    for number in words[1:] if words[0] == "--signal=USR1" else ():
        to_all(int((place / f"{{number}}.pid").read_text()), signal.SIGUSR1)
elif name == "signal":  # NUMBER ID, to all processes of the step as SLURM does
    to_all(int((place / f"{{words[1]}}.pid").read_text()), int(words[0]))
elif name == "sacct":
    print("JobID|State|NodeList")
    for file in place.glob("*.pid"):
        state = place / f"{{file.stem}}.state"
        print(f"{{file.stem}}|{{state.read_text() if state.exists() else 'RUNNING'}}|node1")
"""


@pytest.fixture
def submitit():
    return pytest.importorskip("submitit")


@pytest.fixture
def place(submitit, tmp_path, monkeypatch):
    """A current folder with a sweep file, its data set, the fake programs and a folder `bin`."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data/point_robot_debug").mkdir(parents=True)
    (tmp_path / "data/point_robot_debug/manifest.json").write_text("{}")
    files.write_json(tmp_path / "template.json", sweep_files.results())
    for folder in ("bin", "site"):
        (tmp_path / folder).mkdir()
    (tmp_path / "site/sitecustomize.py").write_text(SITE)
    (tmp_path / "python").write_text(CELL)
    names = ("sbatch", "srun", "scancel", "sacct", "scontrol", "signal")
    programs = [tmp_path / "bin" / name for name in names]
    for program in programs:
        program.write_text(SLURM)
    for program in (tmp_path / "python", *programs):
        program.chmod(0o755)
    own = {
        "partition": "gpu",
        "save_seconds": 10,
        "options": ("exclude=node7",),
        "setup": ("export MODULE=cuda",),
    }
    sweep_files.write(tmp_path, (GRID,), memory_gb=0.5, runs="runs", results="results", slurm=own)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path / 'site'}:{SRC}")
    return tmp_path


def wait_for(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.02)


def steps(place):
    """Process of each job that runs, by its number."""
    return {file.stem: int(file.read_text()) for file in (place / "bin").glob("*.pid")}


def send(place, number, job):
    subprocess.run([place / "bin/signal", str(int(number)), job], check=True)


def begun(place):
    return all((place / f"began_{name}").exists() for name in NAMES)


def test_without_the_extra_the_sentence_says_how_to_get_it():
    with pytest.raises(UserError, match=r"needs the package no_such, .* 'metastar-jax\[slurm\]'"):
        executor.package("no_such", "slurm")


def test_submitits_local_executor_runs_cells(place, submitit, monkeypatch, capsys):
    local = lambda folder, max_num_timeout: submitit.LocalExecutor(folder)  # noqa: E731
    monkeypatch.setattr(submitit, "SlurmExecutor", local)
    monkeypatch.setattr(slurm.executor, "package", lambda name, extra: submitit)
    (place / "go").touch()
    assert main(["sweep", "s.py", "--on=slurm"]) == 0
    assert capsys.readouterr().out.endswith("2 cells: 2 done; results: results\n")


def test_cells_are_one_array_whose_script_holds_what_the_sweep_file_says(place):
    (place / "go").touch()
    assert main(["sweep", "s.py", "--on=slurm"]) == 0
    (script,) = {Path(file.read_text()) for file in (place / "bin").glob("*.script")}
    lines = script.read_text().splitlines()
    expected = "array=0-1%2 cpus-per-task=1 exclude=node7 job-name=metastar mem=1024MB "
    expected += "partition=gpu signal=USR2@10 time=1440"
    assert {f"#SBATCH --{option}" for option in expected.split()} <= set(lines)
    assert lines[-1].startswith("srun ") and " --cpus-per-task=1 " in lines[-1]
    assert lines.index("export MODULE=cuda") < lines.index("export SUBMITIT_EXECUTOR=slurm")
    assert sorted(steps(place)) == ["100_0", "100_1"]


def test_more_cells_than_an_array_takes_are_several(place, monkeypatch):
    monkeypatch.setattr(slurm, "_ARRAY", 2)
    on_slurm = slurm.make(SETTINGS, Share(1, 0.5), folder=place / "runs")
    (place / "go").touch()
    with on_slurm.batch():
        jobs = [on_slurm.start([f"--workdir=runs/{k}"], place / f"{k}.log", []) for k in range(3)]
    assert [on_slurm.place(job)["slurm"] for job in jobs] == ["100_0", "100_1", "102"]
    wait_for(lambda: [on_slurm.poll(job) for job in jobs] == [0, 0, 0])


def test_no_element_of_an_array_waits_for_another(place):
    on_slurm = slurm.make(SETTINGS, Share(1, 0.5), folder=place / "runs")
    (place / "bin/refuse").touch()  # the script is there all the same
    with pytest.raises(UserError), on_slurm.batch():
        for k in range(300):
            on_slurm.start([f"--workdir=runs/{k}"], place / f"{k}.log", [])
    (script,) = (place / "runs/slurm").glob("*.sh")
    assert "#SBATCH --array=0-299%300\n" in script.read_text()


def test_a_suspended_job_has_not_ended(place):
    on_slurm = slurm.make(SETTINGS, Share(1, 0.5), folder=place / "runs")
    with on_slurm.batch():
        job = on_slurm.start(["--workdir=runs/w"], place / "a.log", [])
    (place / "bin/100.state").write_text("SUSPENDED")
    wait_for(lambda: on_slurm.poll(job) is not None or job.handle.state == "SUSPENDED")
    assert on_slurm.poll(job) is None
    (place / "go").touch()
    wait_for(lambda: on_slurm.poll(job) == 0)


def test_the_end_of_what_waited_when_a_sweep_stops_is_seen_soon(place):
    on_slurm = slurm.make(SETTINGS, Share(1, 0.5), folder=place / "runs")
    with on_slurm.batch():
        job = on_slurm.start(["--workdir=runs/w"], place / "a.log", [])
    wait_for((place / "began_w").exists)
    os.kill(steps(place)["100"], signal.SIGKILL)
    watcher = job.handle.watcher
    watcher._start_time -= 3600  # an hour ago, so that sacct is asked every ten minutes
    assert on_slurm.poll(job) is None
    (place / "bin/100.state").write_text("CANCELLED by 0")
    on_slurm.stop([job])
    wait_for(lambda: on_slurm.poll(job) == -signal.SIGTERM, seconds=10)
    (place / "go").touch()


def test_the_jobs_of_a_sweep_are_stopped_by_two_calls_however_many_they_are(place):
    on_slurm = slurm.make(SETTINGS, Share(1, 0.5), folder=place / "runs")
    with on_slurm.batch():
        jobs = [on_slurm.start([f"--workdir=runs/{k}"], place / f"{k}.log", []) for k in range(4)]
    wait_for(lambda: all((place / f"began_{k}").exists() for k in range(4)))
    on_slurm.stop(jobs)
    calls = (place / "bin/calls").read_text().splitlines()
    assert calls == ["--state=PENDING", "--signal=USR1"]
    wait_for(lambda: [on_slurm.poll(job) for job in jobs] == [128 + signal.SIGINT] * 4)


def test_a_preempted_cell_saves_and_is_requeued(place):
    def preempt():
        wait_for(lambda: begun(place))
        (place / f"began_{NAMES[0]}").unlink()
        send(place, signal.SIGUSR2, "100_0")
        wait_for(lambda: begun(place))
        (place / "go").touch()

    threading.Thread(target=preempt).start()
    assert main(["sweep", "s.py", "--on=slurm"]) == 0
    logs = [(place / f"runs/{name}.log").read_text().count("$ metastar train") for name in NAMES]
    assert logs == [2, 1] and (place / f"saved_{NAMES[0]}").exists()


def test_a_preempted_cell_is_not_requeued_once_the_sweep_stops(place):
    on_slurm = slurm.make(SETTINGS, Share(1, 0.5), folder=place / "runs")
    with on_slurm.batch():
        job = on_slurm.start(["--workdir=runs/w"], place / "a.log", [])
    wait_for((place / "began_w").exists)
    send(place, signal.SIGUSR2, "100")
    on_slurm.stop([job])
    wait_for(lambda: on_slurm.poll(job) == 128 + signal.SIGINT)
    assert (place / "saved_w").exists() and (place / "a.log").read_text().count("$ metastar") == 1


def test_a_cell_saves_however_often_slurm_asks_and_waits_for_its_end(place):
    on_slurm = slurm.make(SETTINGS, Share(1, 0.5), folder=place / "runs")
    with on_slurm.batch():
        job = on_slurm.start(["--workdir=runs/w"], place / "a.log", [])
    wait_for((place / "began_w").exists)
    for _ in range(2):
        send(place, signal.SIGTERM, "100")
    wait_for((place / "saved_w").exists)
    time.sleep(0.5)
    assert on_slurm.poll(job) is None
    os.kill(steps(place)["100"], signal.SIGKILL)


def test_a_signal_stops_jobs_and_a_later_call_finds_those_that_go_on(place, capsys):
    def ask():
        wait_for(lambda: begun(place))
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=ask).start()
    with pytest.raises(SystemExit) as caught:
        main(["sweep", "s.py", "--on=slurm"])
    assert caught.value.code == 143
    assert {entry.state for entry in state.read(place / "runs").values()} == {"stopped"}
    assert all((place / f"saved_{name}").exists() for name in NAMES)

    left = state.read(place / "runs")[NAMES[0]]
    on_slurm = slurm.make(SETTINGS, Share(1, 0.5), folder=place / "runs")
    log = place / f"runs/{NAMES[0]}.log"
    argv = [f"--workdir={left.workdir}"]
    with on_slurm.batch():
        job = on_slurm.start(argv, log, [])
        assert on_slurm.place(job) == {}
    entry = left._replace(state="running", began=1.0, place=on_slurm.place(job))
    state.write(place / "runs", state.read(place / "runs") | {NAMES[0]: entry}, "s.py")
    (place / "go").touch()
    assert main(["sweep", "s.py", "--on=slurm", "--resume"]) == 0
    assert log.read_text().count("$ metastar") == 2  # the first, and the one that was found


@pytest.mark.parametrize(
    ("said", "status", "sentence"),
    [
        ("OUT_OF_MEMORY", 1, "it took more memory than the job had; raise memory_gb"),
        ("NODE_FAIL", 1, "SLURM ended job 100 (NODE_FAIL); see "),
        ("CANCELLED by 0", -signal.SIGTERM, ""),
    ],
)
def test_what_ended_a_job_is_told(place, said, status, sentence):
    on_slurm = slurm.make(SETTINGS, Share(1, 0.5), folder=place / "runs")
    log = place / "a.log"
    with on_slurm.batch():
        job = on_slurm.start(["--workdir=runs/w"], log, [])
    wait_for((place / "began_w").exists)
    os.kill(steps(place)["100"], signal.SIGKILL)
    (place / "bin/100.state").write_text(said)
    (place / "go").touch()
    wait_for(lambda: on_slurm.poll(job) is not None)
    assert on_slurm.poll(job) == status and sentence in log.read_text()


def test_what_sbatch_refuses_is_told_and_nothing_is_lost(place, capsys):
    (place / "bin/refuse").touch()
    assert main(["sweep", "s.py", "--on=slurm"]) == 2
    err = capsys.readouterr().err
    assert "invalid partition specified: gpu); change the section slurm" in err
    (place / "bin/refuse").unlink()
    (place / "go").touch()
    assert main(["sweep", "s.py", "--on=slurm"]) == 0


def test_a_limit_that_leaves_no_time_is_refused(place):
    with pytest.raises(UserError, match="minutes = 3 may leave a cell no time ahead of"):
        slurm.make(SETTINGS | {"minutes": 3}, Share(1, 0.5))


def test_a_machine_without_slurm_is_refused(place, monkeypatch, capsys):
    monkeypatch.setenv("PATH", str(place / "site"))  # /usr/bin may have one
    assert main(["sweep", "s.py", "--on=slurm"]) == 2
    assert "this machine has no SLURM (there is no srun on PATH)" in capsys.readouterr().err
