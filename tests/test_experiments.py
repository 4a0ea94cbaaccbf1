"""What the tables of `experiments/` compute from a run's files, worked by hand."""

import json

import cells
import critics
import exploring
import focal
import imagination
import invariance
import pytest
import reference_protocol

import make_config
from metastar import config
from metastar.training import workdir


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


def cells_of_all():
    """(script, cell, config, fields) of every run that the scripts start."""
    for family, updates in invariance.UPDATES.items():
        for name, fields in invariance.CELLS.items():
            own = {**updates, **cells.MIXED[family], **fields}
            yield "invariance", name, f"configs/metastar.py:{family},quick", own
    for name, fields in imagination.CELLS.items():
        own = {**imagination.UPDATES, **fields, "sampler.batch_size": imagination.BATCH}
        yield "imagination", name, "configs/metastar.py:point_robot,quick", own
    for name, fields in critics.CELLS.items():
        own = {**critics.SHARED, **fields}
        yield "critics", name, "configs/metastar.py:cheetah_vel,quick", own
    for family in focal.FAMILIES:
        for name, (recipe, fields) in focal.CELLS.items():
            yield "focal", name, f"configs/{recipe}.py:{family},quick", fields
    yield "exploring", "", exploring.CONFIG, exploring.FIELDS
    own = {**reference_protocol.DEVIATIONS, **reference_protocol.HABITS}
    yield "reference_protocol", "", reference_protocol.CONFIG.removeprefix("--config="), own


@pytest.mark.parametrize(
    "source, fields",
    [pytest.param(*rest, id=f"{script} {name}") for script, name, *rest in cells_of_all()],
)
def test_every_cell_is_a_valid_config(source, fields):
    """A script must not fail after the hours of the cells before."""
    root = cells.DOCS.parent
    overrides = [f"--config.{name}={value}" for name, value in fields.items()]
    config.validate(config.load(str(root / source), overrides))
