"""A run and a data set of the first format of configs are read; training on is refused.

`tests/old_run` holds what `metastar train --config=configs/metastar/point_robot_sparse.py:debug
--workdir=runs/old` of version 0.1.0 wrote before each system's fields belonged to its file.
"""

import shutil
from pathlib import Path

import numpy as np
import pytest

import metastar
from metastar import config, files
from metastar import main as cli
from metastar.data import store
from metastar.evaluation import results
from metastar.training.workdir import format_of, read_config

OLD = Path(__file__).parent / "old_run"
RUN, DATA = "runs/old", "data/point_robot_sparse_debug"


@pytest.fixture(autouse=True)
def beside_the_old_run(tmp_path, monkeypatch):
    shutil.copytree(OLD, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)


def contents(folder):
    found = (p for p in Path(folder).rglob("*") if p.is_file() and p.name != ".lock")
    return {path: path.read_bytes() for path in found}


def test_the_config_is_translated():
    assert format_of(RUN) == 1 and config.FORMAT == 3
    cfg = read_config(RUN)
    assert cfg.agent.conservative.cql_states == 8 and cfg.agent.conservative.hidden == (16, 16)
    assert cfg.collect.sac.batch_size == 16 and cfg.sampler.normalize_obs
    assert cfg.world_model.mask_episode_boundaries and "oracle" not in cfg


def test_the_data_set_is_read():
    found = store.verify(DATA)
    assert found.manifest.format == 1 and found.manifest.family == "point_robot_sparse"
    data = store.load(found, "train", read_config(RUN))
    assert data.count.shape == (read_config(RUN).data.train_tasks,) and (data.count > 0).all()


def test_its_agent_acts():
    agent = metastar.load(RUN)
    steps = 5
    adapted = agent.adapt(
        {"obs": np.zeros((steps, 2)), "action": np.zeros((steps, 2)), "reward": np.zeros(steps)}
    )
    action = adapted.act(np.zeros(2))
    assert action.shape == (2,) and (np.abs(action) <= 1).all()


def test_what_it_scored_is_read_and_compared(capsys):
    """Its results have no checksum, as all of that format."""
    assert results.read(RUN)["updates"] == 16
    before = contents(RUN)
    assert cli.main(["compare", RUN, "--out=compared"]) == 0, capsys.readouterr().err
    assert "few-shot" in Path("compared/compare.md").read_text()
    assert contents(RUN) == before
    assert cli.main(["report", f"--workdir={RUN}"]) == 0, capsys.readouterr().err


def test_it_is_evaluated_and_scores_as_before(capsys):
    before = results.read(RUN)
    assert cli.main(["evaluate", f"--workdir={RUN}"]) == 0, capsys.readouterr().err
    after = results.read(RUN)
    for protocol in ("few_shot", "zero_shot"):
        old, new = (found["protocols"][protocol]["per_task"] for found in (before, after))
        assert new == pytest.approx(old, abs=1e-4)


def test_training_goes_on_only_in_the_version_that_wrote_it(capsys):
    before = contents(RUN)
    source = f"--config={OLD.parents[1]}/configs/metastar.py:point_robot_sparse,debug"
    assert cli.main(["train", source, f"--workdir={RUN}"]) == 2
    sentence = capsys.readouterr().err
    assert "is of format 1, and training goes on in format 3 only" in sentence
    assert "use the version that wrote it" in sentence
    assert contents(RUN) == before


def test_a_format_that_is_unknown_is_refused(capsys):
    file = Path(RUN) / "config.json"
    file.write_text(file.read_text().replace("{", '{"format": 4,', 1))
    assert cli.main(["evaluate", f"--workdir={RUN}"]) == 2
    assert "is of format 4, which this version does not know" in capsys.readouterr().err
    assert files.read_json(file, "", sealed=False)["format"] == 4
