"""What the tables of `experiments/` compute from a run's files, worked by hand."""

import json
from pathlib import Path

import critics
import invariance
import pytest
import reference_protocol

import make_config
from metastar import config
from metastar.tools.sweep import grid
from metastar.training import workdir

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("own_pretraining", [True, False])
def test_a_curve_is_that_of_the_last_phase_whoever_pretrained(tmp_path, own_pretraining):
    cfg = make_config.preset("metastar", "cheetah_vel", "quick")
    cfg.train.updates = 400
    with workdir.opened(cfg, tmp_path):
        pass
    rows = [{"step": 2_000, "phase": "pretrain", "updates_per_second": 5.0}] * own_pretraining
    rows += [
        {"step": 2_100, "phase": "joint", "updates_per_second": 10.0},
        {"step": 2_200, "phase": "joint", "updates_per_second": 20.0, "eval/few_shot": -3.0},
        {"step": 2_400, "phase": "joint", "updates_per_second": 10.0, "eval/few_shot": -1.0},
    ]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert critics.curve(tmp_path) == ([200, 400], [15.0, 35.0], [-3.0, -1.0])


def test_the_drop_between_sources_is_measured_by_the_tables_oracle():
    returns = {"random": -30.0, "sac expert": -20.0, "cross_task expert": -60.0}
    sources = {name: {"return": value, "gap_closed": 9.0} for name, value in returns.items()}
    trained = {"energy": {"sources": ["random", "sac expert"]}}
    audit = {
        "cost": {"by_source": sources, "random": -50.0},
        "splits": {"test": {"trained": trained}},
    }
    assert invariance.drop_of(audit, bound=-10.0) == 0.25


SWEEPS = {
    "focal": ("", "cheetah_vel"),
    "point_robot_sparse": ("", "quick,6", "paper"),
    "seeds": ("", "cheetah_vel,quick,6", "point_robot"),
    "invariance": ("", "point_robot,alike", "cheetah_vel", "point_robot,20"),
    "imagination": ("", "20"),
    "exploring": ("",),
    "critics": ("", *critics.TABLES),
    "neighbours": ("", "cheetah_vel", "cheetah_vel,6", "ant_dir,6"),
    "own_context": ("",),
    "meta_dt": ("", "cheetah_vel"),
    "two_data_sets": ("", "cheetah_vel"),
    "pays": ("",),
    "hour": ("", "quick"),
    "default": ("", "cheetah_vel,6"),
    "recipes": ("", "cheetah_dir", "point_robot_wind"),
}


def test_every_sweep_file_is_known_here():
    assert sorted(SWEEPS) == sorted(
        path.stem for path in (ROOT / "experiments/sweeps").glob("*.py")
    )


@pytest.mark.parametrize("name, argument", [(n, a) for n, found in SWEEPS.items() for a in found])
def test_every_cell_of_a_sweep_is_a_valid_config(name, argument, monkeypatch):
    monkeypatch.chdir(ROOT)
    cells = grid.cells(grid.read(f"experiments/sweeps/{name}.py:{argument}"))
    assert cells and all(cell.workdir.parts[0] == "runs" for cell in cells)


def test_a_cell_begins_behind_the_pretraining_of_the_first_with_its_world_model():
    found = grid.cells(grid.read(str(ROOT / "experiments/sweeps/imagination.py")))
    needs = {cell.name.removesuffix("_point_robot_quick_0-2"): cell for cell in found}
    (first,) = needs["metastar-reward_uncertainty"].needs
    assert first == needs["metastar-disagreement"].name
    base = needs["metastar-horizon_1"].cfg.train.pretrained
    sweep = grid.read(str(ROOT / "experiments/sweeps/invariance.py"))
    assert base in [str(cell.workdir) for cell in grid.cells(sweep)]


def test_the_settings_of_the_reference_protocol_are_a_valid_config():
    """A script must not fail after the hours of the cells before."""
    fields = {**reference_protocol.DEVIATIONS, **reference_protocol.HABITS}
    overrides = [f"--config.{name}={value}" for name, value in fields.items()]
    source = reference_protocol.CONFIG.removeprefix("--config=")
    config.validate(config.load(str(ROOT / source), overrides))
