"""Blocks of data sets as cells of a sweep: which there are, and that they merge as one process."""

import shlex
import sys

import pytest

import sweep_files
from metastar import files
from metastar.data import store
from metastar.errors import UserError
from metastar.main import main
from metastar.tools.sweep import cell as cell_files
from metastar.tools.sweep import collection, driver, process, state
from metastar.tools.sweep.executor import Executor
from metastar.tools.sweep.state import Entry

WORDS = ("data.dir=set", "collect.behavior=random", "collect.tasks_at_once=3")  # of six tasks
GRID = sweep_files.GRID | {"overrides": {"": WORDS}, "seeds": (0, 1)}
NAMES = ["set_0-2", "set_3-5"]
TRAINED = [f"bc_point_robot_debug_{k}" for k in range(2)]


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def planned(folder, *grids):
    """The cells of a sweep with its blocks, and the sweep."""
    cells, sweep = sweep_files.cells(folder, *(grids or (GRID,)), runs="runs", results="results")
    return collection.with_blocks(cells, sweep), sweep


def make_block(folder, name):
    (folder / "set.blocks" / name).mkdir(parents=True)


def test_what_a_sweep_lacks_is_a_cell_a_group_ahead_of_its_trainings(here):
    cells, _ = planned(here)
    assert [cell.name for cell in cells] == NAMES + TRAINED
    line = "collect --config=configs/bc.py:point_robot,debug"
    line += "".join(f" --config.{word}" for word in (*WORDS, "seed=0"))
    assert shlex.join(cells[1].argv) == f"{line} --tasks=3-5"
    assert str(cells[1].workdir) == "set.blocks/3-5"
    assert [cell.needs for cell in cells] == [(), (), tuple(NAMES), tuple(NAMES)]


def test_blocks_that_are_there_are_no_cells(here):
    make_block(here, "0-2")
    assert [cell.name for cell in planned(here)[0]] == NAMES[1:] + TRAINED
    make_block(here, "3-5")
    assert [cell.name for cell in planned(here)[0]] == TRAINED
    make_block(here, "2-4")
    with pytest.raises(UserError, match="share tasks; delete one of them"):
        planned(here)


def test_a_larger_block_holds_the_groups_in_it(here):
    make_block(here, "0-5")
    assert [cell.name for cell in planned(here)[0]] == TRAINED


def test_where_no_training_lacks_data_there_are_no_blocks(here):
    together = GRID | {"overrides": {"": WORDS[:-1]}}
    assert [cell.name for cell in planned(here, together)[0]] == TRAINED
    cells, sweep = planned(here)
    for cell in cells[2:]:
        sweep_files.finish(cell.workdir)
        cell_files.write(cell, sweep)
    assert [cell.name for cell in planned(here)[0]] == TRAINED
    (sweep.results / f"{TRAINED[0]}.json").unlink()
    assert [cell.name for cell in planned(here)[0]] == NAMES + TRAINED
    (here / "set").mkdir()
    (here / "set" / store.MANIFEST).write_text("{}")
    assert [cell.name for cell in planned(here)[0]] == TRAINED


def test_blocks_of_two_data_sets_of_one_name_are_refused(here):
    words = {name: (f"data.dir={name}", *WORDS[1:]) for name in ("a_b", "a/b")}
    pair = GRID | {"overrides": {"x": words["a_b"], "y": words["a/b"]}, "seeds": (0,)}
    with pytest.raises(UserError, match=r"are named 'a_b_0-2'; name .* or the folder of its data"):
        planned(here, pair)


@pytest.mark.parametrize("behavior", ["td3", "mixture"])
def test_what_must_be_made_together_is_refused_before_the_first_cell(behavior, here, capsys):
    words = (f"collect.behavior={behavior}", "collect.shared_learner=True")
    words += ("collect.tasks_at_once=3",)
    sweep_files.write(here, (GRID | {"overrides": {"": words}},), runs="runs", results="results")
    assert main(["sweep", "s.py"]) == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1 and "shared_learner=True has one learner of them all" in told
    assert told.startswith(f"metastar: cell {TRAINED[0]}: behavior '{behavior}' makes all tasks in")
    assert not (here / "runs").exists()


def test_blocks_run_at_once_and_fail_those_that_need_them(here):
    """One that an earlier call left behind is started again, and waits for its lock by itself."""
    cells, sweep = planned(here)
    earlier = {NAMES[0]: Entry("set.blocks/0-2", "running", 1.0, place={"pid": 1})}
    entries, started = driver.entries_of(cells, sweep, earlier), []

    def start(argv, log, taken):
        started.append((argv[0], argv[-1], len(taken)))
        return argv

    def poll(argv):
        if argv[-1] == "--tasks=3-5":
            return 2
        make_block(here, "0-2")  # without a manifest
        return 0

    executor = Executor(start, poll, lambda job: None, lambda job: {})
    sweep.runs.mkdir()
    names = driver.chosen(cells, entries)
    clock = driver.Clock(sleep=lambda seconds: None)
    assert driver.drive(cells, sweep, executor, entries, names, lambda e: None, clock=clock) == 0
    assert started == [("collect", "--tasks=0-2", 0), ("collect", "--tasks=3-5", 1)]
    assert [entries[name].state for name in NAMES + TRAINED] == ["failed"] * 4
    assert "no data set in set.blocks/0-2" in entries[NAMES[0]].sentence
    assert entries[TRAINED[1]].sentence == f"needs {NAMES[0]}, which failed"


# Takes the place of Python in the commands of cells: that itself for blocks, unless there is a file
# "kill" and the block is the second; of a training it leaves results alone.
FAKE = """\
#!/bin/sh
case "$*" in
*" train "*)
    for word; do case "$word" in --workdir=*) folder="${word#*=}";; esac; done
    mkdir -p "$folder" && cp template.json "$folder/results.json" && exit 0;;
*--tasks=3-5) [ -e kill ] && kill -9 $$;;
esac
exec PYTHON "$@"
"""


def test_blocks_on_this_machine_are_bitwise_what_one_process_makes(here, monkeypatch, capsys):
    (here / "python").write_text(FAKE.replace("PYTHON", sys.executable))
    (here / "python").chmod(0o755)
    files.write_json(here / "template.json", sweep_files.results())
    monkeypatch.setattr(process, "sys", type("sys", (), {"executable": "./python"}))
    fields = {"memory_gb": 2.0, "runs": "runs", "results": "results"}
    sweep_files.write(here, (GRID,), **fields)
    (here / "kill").touch()
    assert main(["sweep", "s.py"]) == 2
    told = capsys.readouterr()
    assert f"{NAMES[0]}: running; runs collect" in told.out
    assert f"{NAMES[1]}: was killed by SIGKILL; its output is in runs/{NAMES[1]}.log" in told.err
    assert f"{TRAINED[0]}: needs {NAMES[1]}, which failed" in told.err
    (here / "kill").unlink()
    assert main(["sweep", "s.py", "--resume"]) == 0
    assert "3 cells: 3 done" in capsys.readouterr().out
    assert list(state.read(here / "runs")) == NAMES[1:] + TRAINED
    logs = [(here / f"runs/{name}.log").read_text().count("$ metastar collect") for name in NAMES]
    assert logs == [1, 2]
    line = ["collect", "--config=configs/bc.py:point_robot,debug"]
    line += [f"--config.{word}" for word in WORDS[1:]]
    for name in ("set", "whole"):
        assert main([*line, f"--config.data.dir={name}"]) == 0
    told = capsys.readouterr().out
    assert "merging 2 blocks into set" in told and "collecting 6 tasks" in told
    merged, whole = (store.read_manifest(here / name) for name in ("set", "whole"))
    assert merged.files == whole.files
