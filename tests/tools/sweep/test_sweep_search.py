"""Random search: what is drawn, and that withheld training tasks alone choose."""

import math

import pytest

import sweep_files
from metastar import files
from metastar.errors import UserError
from metastar.tools.sweep import cell as cell_files
from metastar.tools.sweep import driver, grid, search

WITHHELD = {"overrides": {"": ("data.validation_tasks=1",)}}
GRID = sweep_files.GRID | {"methods": ("focal",)} | WITHHELD
RANGES = {
    "agent.iql.actor_lr": ("log", 1e-4, 1e-2),
    "agent.iql.expectile": (),
    "agent.iql.inverse_temperature": ("uniform", 1, 10.0),
    "sampler.batch_size": ("uniform", 8, 16),
    "sampler.normalize_obs": (),
    "agent.iql.hidden": ("choice", (8,), (16, 16)),
    "train.lr_decay": (),
}


def drawn(folder, num, grids=(GRID,), ranges=RANGES, **fields):
    cells, sweep = sweep_files.cells(folder, *grids, search=ranges, **fields)
    return search.draw(sweep, cells, num), sweep


def test_draws_lie_in_their_ranges_and_more_of_them_begin_alike(tmp_path):
    settings, sweep = drawn(tmp_path, 40)
    values = [dict(word.split("=") for word in setting.values) for setting in settings]
    assert [list(v) for v in values] == [sorted(RANGES)] * 40
    rates = sorted(math.log10(float(v["agent.iql.actor_lr"])) for v in values)
    assert -4 <= rates[0] < -3.5 and -2.5 < rates[-1] <= -2 and -3.4 < rates[20] < -2.6
    assert all(0 < float(v["agent.iql.expectile"]) < 1 for v in values)
    assert all(1 <= float(v["agent.iql.inverse_temperature"]) <= 10 for v in values)
    assert {v["sampler.batch_size"] for v in values} == {str(k) for k in range(8, 17)}
    assert {v["sampler.normalize_obs"] for v in values} == {"True", "False"}
    assert {v["agent.iql.hidden"] for v in values} == {"(8,)", "(16,16)"}
    assert {v["train.lr_decay"] for v in values} == {"none", "cosine"}
    assert drawn(tmp_path, 3)[0] == settings[:3]
    assert drawn(tmp_path, 3, search_seed=1)[0] != settings[:3]
    cells = grid.cells(sweep, settings[:2])  # all of them valid configs
    assert [c.name for c in cells] == [f"focal_point_robot_debug_draw{k}_0" for k in range(2)]


MISTAKES = {
    "agent.iql.reward_scale may be (0, inf), which is not bounded": {"agent.iql.reward_scale": ()},
    "agent.iql.expectile is 1.5 but must lie in (0, 1)": {
        "agent.iql.expectile": ("uniform", 0.5, 1.5)
    },
    "unknown config field 'agent.iql.expectil'; did you mean": {"agent.iql.expectil": ()},
    "begins with 'normal', not with one of log": {"agent.iql.expectile": ("normal", 0, 1)},
    "must be ('log', low, high)": {"agent.iql.actor_lr": ("log", 1e-3)},
    "a range in logarithms lies above 0": {"task_losses.distance": ("log", 0, 1)},
    "is 0.5 but must be a range": {"agent.iql.expectile": 0.5},
    "has no choices": {"train.lr_decay": ("choice",)},
    "seed decides what a score is": {"seed": ("uniform", 0, 9)},
}


@pytest.mark.parametrize("sentence", MISTAKES)
def test_a_wrong_range_is_one_sentence(tmp_path, sentence):
    with pytest.raises(UserError) as caught:
        drawn(tmp_path, 1, ranges=MISTAKES[sentence])
    assert sentence in str(caught.value)


def test_a_search_on_test_tasks_is_refused(tmp_path):
    plain = sweep_files.GRID | {"methods": ("focal",)}
    with pytest.raises(UserError, match=r"focal_point_robot_debug_0: a search is scored on with"):
        drawn(tmp_path, 1, (GRID | {"seeds": (1,)}, plain))


def test_the_log_has_all_scores_and_the_best_of_each_group(tmp_path):
    grids = (GRID | {"seeds": (0, 1), "presets": ("debug", "quick")},)
    settings, sweep = drawn(tmp_path, 2, grids, {"agent.iql.expectile": ()})
    cells = grid.cells(sweep, settings)
    for k, cell in enumerate(cells[:-1]):  # one of quick has no score yet
        sweep_files.finish(cell.workdir, 10.0 - k, cell.cfg.seed, split="validation")
        cell_files.write(cell, sweep)
    entries = driver.entries_of(cells, sweep, {})
    said = search.write(sweep, settings, cells, entries)
    log = files.read_json(sweep.results / "search.json", "")
    debug, quick = (log["groups"][f"focal_point_robot_{preset}"] for preset in ("debug", "quick"))
    assert debug["scores"] == {"draw0": {"0": 10.0, "1": 9.0}, "draw1": {"0": 6.0, "1": 5.0}}
    assert debug["means"] == {"draw0": 9.5, "draw1": 5.5} and debug["chosen"] == "draw0"
    assert quick["scores"]["draw1"] == {"0": 4.0, "1": None} and quick["chosen"] is None
    assert log["settings"] == {s.name: list(s.values) for s in settings}
    scored = "settings have all their scores"
    assert f"focal_point_robot_debug: 2 of 2 {scored}, best draw0, 9.5: " in said
    assert said.splitlines()[1] == f"focal_point_robot_quick: 1 of 2 {scored}"
    failed = entries | {cells[-1].name: entries[cells[-1].name]._replace(state="failed")}
    said = search.write(sweep, settings, cells, failed)
    assert f"focal_point_robot_quick: 1 of 2 {scored}, best draw0, 7.5: " in said


def test_results_of_test_tasks_choose_nothing(tmp_path):
    settings, sweep = drawn(tmp_path, 1, ranges={"agent.iql.expectile": ()})
    (cell,) = cells = grid.cells(sweep, settings)
    sweep_files.finish(cell.workdir, split="test")
    cell_files.write(cell, sweep)
    with pytest.raises(UserError, match="was scored on test tasks"):
        search.write(sweep, settings, cells, driver.entries_of(cells, sweep, {}))
