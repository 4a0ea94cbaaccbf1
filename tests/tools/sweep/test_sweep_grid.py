"""A sweep file and its cells: every product once, every line valid, every mistake one sentence."""

import shlex

import pytest

import sweep_files
from metastar import config
from metastar.errors import UserError
from metastar.main import main
from metastar.tools.sweep import cell as cell_files
from metastar.tools.sweep import grid

GRID = sweep_files.GRID


def test_cells_are_the_product_and_their_lines_have_their_configs(tmp_path):
    overrides = {"": (), "iql": ("agent.name=iql",), "wide": ("agent.iql.hidden=(8,8)",)}
    product = {"methods": ("focal",), "overrides": overrides, "seeds": (0, 1, 2)}
    cells, sweep = sweep_files.cells(tmp_path, GRID | product | {"runs_per_program": 2})
    stem = "point_robot_debug"
    systems = ("focal", "focal-iql", "focal-wide")
    assert [cell.name for cell in cells] == [f"{s}_{stem}_{n}" for s in systems for n in ("0-1", 2)]
    first, wide = cells[0], cells[-1]
    assert (first.cfg.seed, first.cfg.num_seeds, wide.cfg.seed, wide.cfg.num_seeds) == (0, 2, 2, 1)
    assert wide.cfg.agent.iql.hidden == (8, 8) and wide.workdir == sweep.runs / wide.name
    _, command, source, workdir, *options = shlex.split(cell_files.command(wide))
    assert command == "train" and workdir == f"--workdir={wide.workdir}"
    read = config.load(source.removeprefix("--config="), options)
    assert config.diff(read, wide.cfg) is None


def test_the_runs_of_a_cell_have_the_digests_of_their_own_configs(tmp_path):
    then = ("audit", "evaluate --explore=posterior")
    twice = GRID | {"seeds": (0, 1), "runs_per_program": 2, "then": then}
    (pair,), _ = sweep_files.cells(tmp_path, twice)
    lone, _ = sweep_files.cells(tmp_path, GRID | {"seeds": (0, 1)})
    assert cell_files.digests(pair) == [cell_files.digests(cell)[0] for cell in lone]
    folders = [f"--workdir={pair.workdir / 'seeds' / str(k)}" for k in range(2)]
    found = cell_files.commands(pair)
    after = [["audit", folders[0]], ["evaluate", folders[0], "--explore=posterior"]]
    assert found[:3] == [list(pair.argv), *after] and found[3] == ["audit", folders[1]]


def test_the_argument_reaches_the_file_and_names_the_folder_of_its_runs(tmp_path, monkeypatch):
    file = tmp_path / "s.py"
    file.write_text(
        "from ml_collections import ConfigDict\n"
        "def get_config(argument):\n"
        "    family, preset = argument.split(',')\n"
        "    grid = {'methods': ('bc',), 'families': (family,), 'presets': (preset,)}\n"
        "    return ConfigDict({'grids': (grid,), 'results': 'kept'})\n"
    )
    sweep = grid.read(f"{file}:cheetah_vel,debug")
    assert str(sweep.runs) == "runs/s_cheetah_vel_debug" and str(sweep.results) == "kept"
    assert [cell.cfg.family for cell in grid.cells(sweep)] == ["cheetah_vel"]


def test_a_cell_needs_those_whose_workdirs_its_line_names(tmp_path):
    bound = "eval.oracle={runs}/oracle_{family}_{preset}_{seed}"
    pretrained = "train.pretrained={runs}/bc_point_robot_debug_0-1/seeds/1"
    cells, _ = sweep_files.cells(
        tmp_path,
        GRID | {"overrides": {"": (bound,)}, "seeds": (0, 1), "runs_per_program": 2},
        GRID | {"methods": ("oracle",)},
        GRID | {"methods": ("metastar",), "overrides": {"": (pretrained,)}},
    )
    needs = {cell.name: cell.needs for cell in cells}
    assert needs["bc_point_robot_debug_0-1"] == ("oracle_point_robot_debug_0",)
    assert needs["oracle_point_robot_debug_0"] == ()
    assert needs["metastar_point_robot_debug_0"] == ("bc_point_robot_debug_0-1",)


MISTAKES = {
    "unknown field 'seed'; did you mean 'seeds'": {"grids": (GRID | {"seed": (0,)},)},
    "unknown field 'result'; did you mean 'results'": {"result": "x"},
    "results is empty": {"results": ""},
    "methods is 'bc' but must be of type tuple": {"grids": (GRID | {"methods": "bc"},)},
    "methods is empty": {"grids": (GRID | {"methods": ()},)},
    "grids is () but must be a tuple": {"grids": ()},
    "grid 0 is 3 but must be a dict": {"grids": (3,)},
    "search is 3 but must be a dict": {"search": 3},
    "memory_gb is 0.0 but must lie in": {"memory_gb": 0.0},
    "section ray: unknown field 'adress'; did you mean 'address'": {"ray": {"adress": "x"}},
    "section slurm: gpus is 0.5 but must be of type int": {"slurm": {"gpus": 0.5}},
    "slurm is 3 but must be a dict": {"slurm": 3},
    "the variant 'a b' is part of a file's name": {"grids": (GRID | {"overrides": {"a b": ()}},)},
    "the variant 3 is part of a file's name": {"grids": (GRID | {"overrides": {3: ()}},)},
    "'seed=1' is for the fields seeds": {"grids": (GRID | {"overrides": {"": ("seed=1",)}},)},
    "'seed' must be FIELD=VALUE": {"grids": (GRID | {"overrides": {"": ("seed",)}},)},
    "then has 'audits'; did you mean 'audit'?": {"grids": (GRID | {"then": ("audits",)},)},
    "which is no command (No closing quotation)": {"grids": (GRID | {"then": ("audit '",)},)},
    "must follow each other": {"grids": (GRID | {"seeds": (0, 2), "runs_per_program": 2},)},
}


@pytest.mark.parametrize("sentence", MISTAKES)
def test_a_wrong_file_is_one_sentence(tmp_path, sentence):
    fields = {"grids": (GRID,)} | MISTAKES[sentence]
    with pytest.raises(UserError, match=r"s\.py") as caught:
        grid.read(sweep_files.write(tmp_path, **fields))
    assert sentence in str(caught.value)


CELLS = {
    "cell bc-a_point_robot_debug_0: unknown config field 'bc.actor_rl'; did you mean": (
        GRID | {"overrides": {"a": ("bc.actor_rl=1",)}},
    ),
    "cell bc_point_robot_debug_0: an override of ['eval.oracle={run}'] cannot be filled in": (
        GRID | {"overrides": {"": ("eval.oracle={run}",)}},
    ),
    "cell nothing_point_robot_debug_0: config file 'configs/nothing.py' does not exist": (
        GRID | {"methods": ("nothing",)},
    ),
    "are named 'bc_point_robot_debug_0'; name the overrides": (GRID, GRID),
    "wait for each other: bc_point_robot_debug_0 -> bc_point_robot_debug_0": (
        GRID | {"overrides": {"": ("eval.oracle={runs}/bc_point_robot_debug_0",)}},
    ),
}


@pytest.mark.parametrize("sentence", CELLS)
def test_a_cell_that_cannot_run_is_named_before_any_runs(tmp_path, capsys, sentence):
    assert main(["sweep", sweep_files.write(tmp_path, CELLS[sentence])]) == 2
    error = capsys.readouterr().err
    assert sentence in error and error.count("\n") == 1 and not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    "words, sentence",
    [
        (["no.py"], "sweep file 'no.py' does not exist"),
        (["s.py", "t.py"], "sweep takes one file, not s.py t.py"),
        (["s.py", "--minutes=0"], "'0' is not a number above 0"),
        (["s.py", "--jobs=1.5"], "'1.5' is not a whole number above 0"),
        (["s.py", "--on=loca"], "unknown executor 'loca'; did you mean 'local'?"),
        (["s.py", "--search=2"], "has no search"),
        (["status", "s.py"], "no sweep was started in"),
    ],
)
def test_a_wrong_command_is_one_sentence(tmp_path, monkeypatch, capsys, words, sentence):
    monkeypatch.chdir(tmp_path)
    sweep_files.write(tmp_path)
    assert main(["sweep", *words]) == 2
    error = capsys.readouterr().err
    assert sentence in error and error.count("\n") == 1


@pytest.mark.parametrize(
    "text, sentence",
    [
        ("def get_config():\n    return 3\n", "must return a ConfigDict, not 3"),
        ("def get_config():\n    return 1 / 0\n", "fails with ZeroDivisionError"),
        ("x = 1\n", "fails with AttributeError"),
    ],
)
def test_a_file_that_fails_is_one_sentence(tmp_path, text, sentence):
    (tmp_path / "s.py").write_text(text)
    with pytest.raises(UserError, match=sentence):
        grid.read(str(tmp_path / "s.py"))


def test_a_dry_run_prints_lines_that_can_be_copied_and_starts_nothing(tmp_path, capsys):
    source = sweep_files.write(tmp_path, (GRID | {"seeds": (0, 1)},))
    assert main(["sweep", source, "--dry-run"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 and all(line.startswith("metastar train --config=") for line in lines)
    assert not (tmp_path / "runs").exists()
