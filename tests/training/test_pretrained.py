"""Runs that begin behind the pretraining of another run."""

import pytest

import make_config
from fake_method import SPEC, make_cfg, make_data, make_method
from metastar.data import store
from metastar.errors import UserError
from metastar.training import checkpoint, plan, runs
from metastar.training.chunk import abstract
from metastar.training.loop import fit
from metastar.training.metrics import read_rows
from metastar.training.runs import Run
from metastar.training.workdir import identity, opened, write_spec


def fit_fake(folder, method=None, changes=None, **fields):
    """Fits the runs of a config with the method of `fake_method.py`."""
    cfg = make_cfg(**fields)
    cfg.update_from_flattened_dict(changes or {})
    method = method or make_method()
    with runs.opened(cfg, folder) as (_, found):
        for run in found:
            write_spec(run.workdir, SPEC)
        return fit(found, method, make_data(), [method.hp] * len(found))


def pretrain(folder, **changes):
    """Pretrains MetaSTAR at debug sizes on a few random episodes."""
    cfg = make_config.preset("metastar", "point_robot_sparse", "debug")
    cfg.update_from_flattened_dict({"train.updates": 0, **changes})
    data, manifest = plan.sample_data(cfg)
    spec = store.data_spec(manifest, data)
    method = runs.make_method(cfg, spec)
    with opened(cfg, folder):
        write_spec(folder, spec)
        return fit([Run(cfg, folder)], method, data, [method.hp]).loops[0]


def test_a_pretraining_does_not_depend_on_what_may_differ(tmp_path):
    changes = {
        "agent.conservative.penalty": "combo",
        "agent.conservative.num_actions": 3,
        "imagine.horizon": 2,
    }
    changes |= {"sampler.batch_size": 32, "sampler.meta_batch": 2, "world_model.lr": 3e-4}
    changes |= {"world_model.code_noise": 0.1}
    states = [pretrain(tmp_path / "a"), pretrain(tmp_path / "b", **changes, **{"train.chunk": 4})]
    assert checkpoint.params_sha256(states[0]) == checkpoint.params_sha256(states[1])


def test_a_run_behind_another_ones_pretraining_ends_where_it_would_have_with_its_own(tmp_path):
    fit_fake(tmp_path / "a", keep_checkpoints=9)
    here = {"chunk": 3, "eval_every": 7}
    own = fit_fake(tmp_path / "own", **here)
    taken = fit_fake(tmp_path / "taken", pretrained=str(tmp_path / "a"), **here)
    hashes = [checkpoint.params_sha256(done.loops[0]) for done in (own, taken)]
    assert hashes[0] == hashes[1] and taken.traces == {"pretrain": 0, "joint": 1}
    assert read_rows(tmp_path / "taken" / "metrics.jsonl")[0]["step"] == 12


@pytest.mark.parametrize("num", [1, 2])
def test_it_counts_the_seconds_of_the_pretraining_and_resumes_from_its_own(tmp_path, num):
    seeds = {"num_seeds": num}
    fit_fake(tmp_path / "a", changes=seeds, keep_checkpoints=9)
    folders = (
        [tmp_path / "a" / "seeds" / str(k) for k in range(num)] if num > 1 else [tmp_path / "a"]
    )
    state = abstract(make_method())
    owners = [identity(folder) for folder in folders]
    spent = checkpoint.restore_common([f / "checkpoints" for f in folders], state, owners, only=10)
    again = {"pretrained": str(tmp_path / "a"), "checkpoint_every": 5}
    taken = fit_fake(tmp_path / "b", changes=seeds, **again)
    assert taken.wall_seconds > spent[0][2]["wall_seconds"] > 0
    for folder in folders:
        (folder / "checkpoints").rename(folder / "gone")
    resumed = fit_fake(tmp_path / "b", changes=seeds, **again)
    assert resumed.traces == {"pretrain": 0, "joint": 0}


@pytest.mark.parametrize(
    "changes, sentence",
    [
        (
            {"world_model.width": 64},
            "holds a run with world_model.width = 128, and this one has 64",
        ),
        ({"seed": 1}, "holds a run with seed = 0, and this one has 1"),
        ({"num_seeds": 2}, "holds 1 trained runs, and this config asks for 2"),
        (
            {"agent.conservative.hidden": (8,)},
            r"holds a run with agent.conservative.hidden = \(128, 128\)",
        ),
        ({"train.pretrained": "elsewhere"}, "holds 0 trained runs"),
    ],
)
def test_another_pretraining_is_refused_in_one_sentence(tmp_path, changes, sentence):
    fit_fake(tmp_path / "a")
    changes = {"train.pretrained": str(tmp_path / "a")} | changes
    with pytest.raises(UserError, match=f"^train.pretrained='.*' {sentence}"):
        fit_fake(tmp_path / "b", changes=changes)


def test_a_pretraining_that_is_not_there_any_more_is_refused(tmp_path):
    fit_fake(tmp_path / "a", keep_checkpoints=1)
    with pytest.raises(UserError, match="no good checkpoint of update 10, the end of the pretrain"):
        fit_fake(tmp_path / "b", pretrained=str(tmp_path / "a"))
    with pytest.raises(UserError, match="but this run has no pretraining"):
        fit_fake(tmp_path / "b", make_method(pretrain=0), pretrained=str(tmp_path / "a"))


def test_a_dry_run_names_it_and_measures_the_rest():
    text = plan.describe(make_cfg(pretrained="runs/a"), make_method(), make_data(), "fake")
    rows = [line.split() for line in text.splitlines() if line.startswith(("pretrain", "joint"))]
    assert rows[0] == ["pretrain", "10", "those", "of", "runs/a"]
    assert rows[1][:2] == ["joint", "14"] and len(rows[1]) > 5
