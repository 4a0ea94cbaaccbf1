"""What the tables of `experiments/` compute from a run's files, worked by hand."""

import json

import critics
import invariance
import pytest

import make_config
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
