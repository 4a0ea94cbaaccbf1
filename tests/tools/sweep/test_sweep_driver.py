"""The scheduling of cells, by a fake executor and a fake clock: no process is started."""

import contextlib
import os
import signal
from typing import NamedTuple

import pytest

import sweep_files
from metastar import files
from metastar.errors import UserError
from metastar.tools.sweep import cell as cell_files
from metastar.tools.sweep import driver, state
from metastar.tools.sweep.executor import Executor
from metastar.tools.sweep.state import Entry
from metastar.training import runs, workdir

GRID = sweep_files.GRID | {"seeds": (0, 1, 2)}
NAMES = [f"bc_point_robot_debug_{k}" for k in range(3)]


@pytest.fixture(autouse=True)
def manifest(tmp_path, monkeypatch):
    """That of the data set of all cells, which is there."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "data/point_robot_debug/manifest.json"
    path.parent.mkdir(parents=True)
    path.write_text("{}")
    return path


class Job(NamedTuple):
    """A command that ends `length` seconds after its start."""

    argv: list[str]
    log: object
    ends: float


class Fake:
    """An executor with room for two; each command takes 60 s and leaves what training leaves."""

    def __init__(self, cells, room=2, statuses=(), said=""):
        self.cells, self.room, self.statuses, self.said = cells, room, dict(statuses), said
        self.time, self.started, self.ended, self.stopped = 1000.0, [], [], []
        self.on_sleep = lambda: None
        self.clock = driver.Clock(lambda: self.time, self.sleep)
        self.executor = Executor(self.start, self.poll, self.stopped.extend, lambda job: {"n": 1})

    def sleep(self, seconds):
        self.time += 5  # not the fraction of a second that was asked for
        self.on_sleep()

    def start(self, argv, log, taken):
        if len(taken) >= self.room:
            return None
        self.started.append(self.name(argv))
        return Job(list(argv), log, self.time + 60)

    def poll(self, job):
        name = self.name(job.argv)
        if job in self.stopped:
            return 143
        if self.time < job.ends:
            return None
        self.ended.append(name)
        status = self.statuses.get(name, 0)
        if status:
            job.log.write_text(f"$ metastar {job.argv[0]}\nstep 1\nmetastar: {self.said}\nend\n")
            return status
        for cell in self.cells:
            if job.argv[0] == "train" and cell.name == name:
                for run in runs.expand(cell.cfg, cell.workdir):
                    sweep_files.finish(run.workdir, run.cfg.seed + 0.5, run.cfg.seed)
        return 0

    def name(self, argv):
        folder = next(word for word in argv if word.startswith("--workdir="))
        return folder.split("/runs/")[1].split("/")[0]


def drive(fake, sweep, earlier=None, only_failed=False, **options):
    """Entries after a call, and the signal that it returned."""
    sweep.runs.mkdir(exist_ok=True)
    entries = driver.entries_of(fake.cells, sweep, earlier or {})
    names = driver.chosen(fake.cells, entries, only_failed)
    shown = options.pop("shown", [])
    number = driver.drive(
        fake.cells,
        sweep,
        fake.executor,
        entries,
        names,
        lambda e: shown.append(dict(e)),
        clock=fake.clock,
        **options,
    )
    assert state.read(sweep.runs) == entries
    return entries, number


def states(entries):
    return [entry.state for entry in entries.values()]


def test_as_many_run_as_there_is_room_for_and_each_leaves_its_result_file(tmp_path):
    cells, sweep = sweep_files.cells(tmp_path, GRID)
    fake, shown = Fake(cells), []
    entries, number = drive(fake, sweep, shown=shown)
    assert number == 0 and states(entries) == ["done"] * 3 and fake.started == NAMES
    assert max(states(e).count("running") for e in shown) == 2
    assert fake.time == 1120  # two together, then the third
    content = cell_files.read(sweep.results / f"{NAMES[2]}.json")
    assert content["command"] == cell_files.command(cells[2]) and content["commit"] == "abc"
    (run,) = content["runs"]
    assert run == {"results": sweep_files.results(2.5, 2), "audit": None}
    assert entries[NAMES[2]].returns == {"few_shot": 2.5} and entries[NAMES[2]].seconds >= 60


def test_what_is_done_by_its_digest_is_not_run_again(tmp_path):
    cells, sweep = sweep_files.cells(tmp_path, GRID)
    sweep_files.finish(cells[1].workdir)
    cell_files.write(cells[1], sweep)
    fake = Fake(cells)
    entries, _ = drive(fake, sweep)
    assert states(entries) == ["done"] * 3 and fake.started == [NAMES[0], NAMES[2]]


def test_a_result_file_of_another_config_is_refused_by_the_field(tmp_path):
    cells, sweep = sweep_files.cells(tmp_path, GRID)
    sweep_files.finish(cells[0].workdir)
    cell_files.write(cells[0], sweep)
    changed = GRID | {"overrides": {"": ("bc.actor_lr=0.5",)}}
    others, _ = sweep_files.cells(tmp_path, changed)
    with pytest.raises(UserError, match=r"bc\.actor_lr = 0\.001, and this one has 0\.5; move it"):
        driver.entries_of(others, sweep, {})
    with pytest.raises(UserError, match=r"then = \(\), and the sweep file has \('audit',\)"):
        driver.entries_of([cells[0]._replace(then=("audit",))], sweep, {})
    file = cell_files.file_of(cells[0], sweep)
    file.write_text(file.read_text().replace('"few_shot"', '"few_shots"'))
    with pytest.raises(UserError, match="is damaged: its content does not match its SHA-256"):
        driver.entries_of(cells, sweep, {})


def test_a_field_that_was_added_since_leaves_a_result_file_valid(tmp_path):
    """Its config is read as that of any older run, with the value that runs had before."""
    cells, sweep = sweep_files.cells(tmp_path, GRID)
    sweep_files.finish(cells[0].workdir)
    cell_files.write(cells[0], sweep)
    file = cell_files.file_of(cells[0], sweep)
    content = cell_files.read(file)
    del content["config"]["train"]["pretrained"]
    files.write_json(file, content | {"digests": ["0" * 64]})
    assert cell_files.is_done(cells[0], sweep)


def test_a_failing_cell_tells_its_sentence_and_stops_no_other(tmp_path):
    cells, sweep = sweep_files.cells(tmp_path, GRID)
    fake = Fake(cells, statuses={NAMES[0]: 2}, said="the disk is full")
    entries, _ = drive(fake, sweep)
    assert states(entries) == ["failed", "done", "done"]
    assert entries[NAMES[0]].sentence == "the disk is full"
    again = Fake(cells)
    entries, _ = drive(again, sweep, state.read(sweep.runs), only_failed=True)
    assert again.started == [NAMES[0]] and states(entries) == ["done"] * 3


def test_only_failed_leaves_alone_what_has_not_failed(tmp_path):
    cells, sweep = sweep_files.cells(tmp_path, GRID)
    earlier = {
        NAMES[0]: Entry(str(cells[0].workdir), "failed", sentence="no"),
        NAMES[1]: Entry(str(cells[1].workdir), "stopped"),
    }
    fake = Fake(cells)
    entries, _ = drive(fake, sweep, earlier, only_failed=True)
    assert fake.started == NAMES[:1] and states(entries) == ["done", "stopped", "waiting"]


def test_after_the_minutes_no_cell_is_started_and_the_next_call_goes_on(tmp_path):
    cells, sweep = sweep_files.cells(tmp_path, GRID)
    fake = Fake(cells, room=1)
    entries, _ = drive(fake, sweep, minutes=1.5)
    assert states(entries) == ["done", "done", "waiting"]
    entries, _ = drive(fake, sweep, state.read(sweep.runs))
    assert states(entries) == ["done"] * 3 and fake.started == NAMES


def test_without_memory_for_one_cell_a_sweep_waits_and_says_so(tmp_path):
    cells, sweep = sweep_files.cells(tmp_path, GRID)
    fake, shown = Fake(cells, room=0), []
    entries, number = drive(fake, sweep, minutes=2, shown=shown)
    assert number == 0 and states(entries) == ["waiting"] * 3 and not fake.started
    assert fake.time == 1000 + 120  # until no cell may be started
    assert shown[-1][NAMES[0]].sentence == "waits until the memory of a cell is free"


def test_the_commands_after_the_training_run_in_its_turn_even_after_the_minutes(tmp_path):
    cells, sweep = sweep_files.cells(tmp_path, GRID | {"then": ("audit",)})
    fake = Fake(cells, room=1)
    entries, _ = drive(fake, sweep, minutes=0.5)
    assert states(entries) == ["done", "waiting", "waiting"] and fake.started == [NAMES[0]] * 2
    assert entries[NAMES[0]].seconds >= 120


def test_of_the_cells_that_lack_a_data_set_one_runs_until_it_is_made(tmp_path, manifest):
    cells, sweep = sweep_files.cells(tmp_path, GRID)
    fake, shown = Fake(cells, room=3), []
    manifest.unlink()

    def on_sleep():
        if fake.time > 1030 and not manifest.exists():
            manifest.write_text("{}")

    fake.on_sleep = on_sleep
    drive(fake, sweep, shown=shown)
    assert {tuple(states(e)) for e in shown} >= {
        ("running", "waiting", "waiting"),
        ("running", "running", "running"),
    }
    assert shown[0][NAMES[1]].sentence == f"waits for the data set that {NAMES[0]} makes"


def test_a_cell_waits_for_what_it_needs_and_fails_with_it(tmp_path):
    bound = "eval.oracle={runs}/oracle_{family}_{preset}_{seed}"
    bounded = GRID | {"overrides": {"": (bound,)}, "seeds": (0, 1)}
    oracles = GRID | {"methods": ("oracle",), "seeds": (0, 1)}
    cells, sweep = sweep_files.cells(tmp_path, bounded, oracles)
    oracle = "oracle_point_robot_debug_1"
    fake = Fake(cells, room=4, statuses={oracle: 2}, said="no")
    entries, _ = drive(fake, sweep)
    assert fake.started[:2] == ["oracle_point_robot_debug_0", oracle]
    assert states(entries) == ["done", "failed", "done", "failed"]
    assert entries[NAMES[1]].sentence == f"needs {oracle}, which failed"


def test_what_is_done_runs_again_where_its_workdir_is_gone_and_needed(tmp_path):
    bound = "eval.oracle={runs}/oracle_{family}_{preset}_{seed}"
    bounded = GRID | {"overrides": {"": (bound,)}, "seeds": (0,)}
    oracles = GRID | {"methods": ("oracle",), "seeds": (0, 1)}
    cells, sweep = sweep_files.cells(tmp_path, bounded, oracles)
    for cell in cells[1:]:
        sweep_files.finish(cell.workdir)
        cell_files.write(cell, sweep)
    kept = cell_files.file_of(cells[1], sweep).read_bytes()
    fake = Fake(cells)
    entries, _ = drive(fake, sweep)
    assert fake.started == ["oracle_point_robot_debug_0", NAMES[0]]
    assert states(entries) == ["done"] * 3
    assert cell_files.file_of(cells[1], sweep).read_bytes() == kept


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_asks_the_cells_to_save_and_resume_goes_on(tmp_path, number):
    cells, sweep = sweep_files.cells(tmp_path, GRID)
    fake = Fake(cells)
    fake.on_sleep = lambda: fake.time > 1030 and not fake.stopped and os.kill(os.getpid(), number)
    before = signal.getsignal(number)
    entries, received = drive(fake, sweep)
    assert received == number and signal.getsignal(number) is before
    assert states(entries) == ["stopped", "stopped", "waiting"] and len(fake.stopped) == 2
    again = Fake(cells)
    entries, _ = drive(again, sweep, state.read(sweep.runs))
    assert states(entries) == ["done"] * 3


def test_a_cell_that_an_earlier_call_left_running_is_waited_for(tmp_path):
    cells, sweep = sweep_files.cells(tmp_path, GRID)
    earlier = {NAMES[0]: Entry(str(cells[0].workdir), "running", 1.0, place={"n": 7})}
    fake, shown = Fake(cells, room=2), []
    with workdir.opened(cells[0].cfg, cells[0].workdir):

        def on_sleep():
            if fake.time > 1100:
                raise InterruptedError

        fake.on_sleep = on_sleep
        with pytest.raises(InterruptedError):
            drive(fake, sweep, earlier, shown=shown)
    assert fake.started == [NAMES[1], NAMES[2]]  # one after the other: the third place is taken
    assert states(shown[-1]) == ["running", "done", "running"]
    assert shown[-1][NAMES[0]].place == {"n": 7}
    assert len(fake.stopped) == 1  # an error of the sweep's own asks its cells to save
    (cells[0].workdir / "config.json").unlink()  # the fake's results name no run
    again = Fake(cells)
    entries, _ = drive(again, sweep, state.read(sweep.runs))
    assert states(entries) == ["done"] * 3


def test_jobs_are_handed_over_together_and_found_again_by_their_places(tmp_path):
    cells, sweep = sweep_files.cells(tmp_path, GRID)
    earlier = {NAMES[0]: Entry(str(cells[0].workdir), "running", 1.0, place={"n": 7})}
    fake, started = Fake(cells, room=3), []

    @contextlib.contextmanager
    def batch():
        yield
        started.append(len(fake.started))

    def adopt(place, log):
        return Job(list(cells[0].argv), log, fake.time + 30) if place == {"n": 7} else None

    fake.executor = fake.executor._replace(adopt=adopt, batch=batch)
    entries, _ = drive(fake, sweep, earlier)
    assert states(entries) == ["done"] * 3
    assert fake.started == NAMES[1:] and started[0] == 2


def test_a_cell_whose_workdir_another_process_took_first_has_not_failed(tmp_path):
    """A process that an earlier call started just before it was killed may hold it only later."""
    cells, sweep = sweep_files.cells(tmp_path, GRID | {"seeds": (0,)})
    fake, shown = Fake(cells, statuses={NAMES[0]: 2}, said="in use by another run"), []
    with contextlib.ExitStack() as stack:

        def on_sleep():
            if fake.time == 1005:
                stack.enter_context(workdir.opened(cells[0].cfg, cells[0].workdir))
            if fake.time == 1200:
                stack.close()
                (cells[0].workdir / "config.json").unlink()  # the fake's results name no run
                fake.statuses = {}

        fake.on_sleep = on_sleep
        entries, _ = drive(fake, sweep, shown=shown)
    assert states(entries) == ["done"] and fake.started == NAMES[:1] * 2
    assert not any(entry.state == "failed" for e in shown for entry in e.values())


def test_a_second_call_is_refused_while_one_goes_on(tmp_path):
    with state.held(tmp_path), pytest.raises(UserError, match="going on in another process"):
        assert state.is_held(tmp_path)
        with state.held(tmp_path):
            pass
    assert not state.is_held(tmp_path)


LOGS = {
    "the last sentence": "$ metastar train\nmetastar: old\n$ metastar train\nmetastar: a\n"
    "metastar: the last sentence\nmore\n",
    "ended with status 1; the last line in {log} is 'ValueError: x'": "$ metastar train\n"
    "Traceback\nValueError: x\n\n",
    "ended with status 1; the last line in {log} is 'nothing'": "metastar: old\n$ metastar train\n",
}


@pytest.mark.parametrize("sentence", LOGS)
def test_the_sentence_of_a_log_is_of_its_last_command(tmp_path, sentence):
    log = tmp_path / "a.log"
    log.write_text(LOGS[sentence])
    assert driver.sentence_of(log, 1) == sentence.format(log=log)
    log.write_text("$ metastar train\nstep 3\n")
    assert driver.sentence_of(log, -9) == f"was killed by SIGKILL; its output is in {log}"
