"""The trainer alone, on a method and data with a known, cheap update (`fake_method.py`)."""

import os
import re
import shutil
import signal
import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fake_method import claimed, make_cfg, make_data, make_method
from metastar import config, files
from metastar.errors import Stopped, UserError
from metastar.training import checkpoint, plan
from metastar.training.checkpoint import params_sha256
from metastar.training.chunk import end_phase, init, replay, update_keys
from metastar.training.loop import chunk_end, fit
from metastar.training.metrics import read_rows
from metastar.training.runs import Run
from metastar.training.workdir import (
    COMMAND,
    identity,
    opened,
    read_config,
    read_spec,
    write_spec,
)
from metastar.types import DataSpec


def run(path, method=None, evaluate_fn=None, **settings):
    method, found = method or make_method(), claimed(Run(make_cfg(**settings), path))
    return fit([found], method, make_data(), [method.hp], evaluate_fn)


def restored(path, loop):
    return checkpoint.restore_latest(path / "checkpoints", loop, identity(path))


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """An uninterrupted run: its folder, and what `fit` returned."""
    path = tmp_path_factory.mktemp("whole")
    return path, run(path)


def by_hand(method, num_updates, validate_every):
    """The trainer's arithmetic as a plain loop over single updates."""
    data = jax.device_put(make_data())
    key_init, run_key = jax.random.split(jax.random.key(0))
    state, hp, step = method.init(key_init), method.hp, 0
    for phase in method.phases:
        best_loss, best = np.inf, None
        update, sample = jax.jit(phase.update), jax.jit(phase.sample)
        for done in range(1, phase.num_updates + 1):
            keys = update_keys(run_key, step)
            batch = sample(data, keys.sample, step)
            state, _ = update(state, batch, keys.update, hp, done - 1)
            if phase.validate and (done % validate_every == 0 or done == phase.num_updates):
                key_sample, key_loss = jax.random.split(keys.validate)
                batch = sample(data, key_sample, step)
                loss = float(jax.jit(phase.validate)(state, batch, key_loss, hp))
                if loss < best_loss:
                    best_loss, best = loss, state["line"].params
            step += 1
        if best is not None:
            state = {"line": state["line"]._replace(params=best)}
    return state


def test_equals_a_plain_loop_and_traces_each_phase_once(whole):
    _, fitted = whole
    assert fitted.traces == {"pretrain": 1, "joint": 1}  # with full and shorter chunks
    expected = by_hand(make_method(), 24, 3)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6),
        fitted.loops[0].state,
        expected,
    )


@pytest.mark.parametrize("chunk", [1, 100])
def test_the_result_does_not_depend_on_the_size_of_a_chunk(tmp_path, whole, chunk):
    fitted = run(tmp_path, chunk=chunk)
    assert params_sha256(fitted.loops[0]) == params_sha256(whole[1].loops[0])
    if chunk == 1:  # and a row is the mean of its chunk
        losses = [row["loss"] for row in read_rows(tmp_path / "metrics.jsonl")]
        first = read_rows(whole[0] / "metrics.jsonl")[0]
        assert first["loss"] == pytest.approx(np.mean(losses[:4]), rel=1e-9)


def test_chunks_end_at_multiples_whatever_the_start():
    train = make_cfg(chunk=4, eval_every=10, checkpoint_every=8).train
    ends, step = [], 0
    while step < 22:
        step = chunk_end(step, 22, train)
        ends.append(step)
    assert ends == [4, 8, 10, 12, 16, 20, 22]
    assert chunk_end(9, 22, train) == 10


def test_rows_evaluations_and_checkpoints_come_when_asked(tmp_path):
    asked = []

    def evaluate_fn(state, step):
        asked.append((step, set(state)))
        return {"few_shot": step}

    run(tmp_path, evaluate_fn=evaluate_fn, keep_checkpoints=2)
    rows = read_rows(tmp_path / "metrics.jsonl")
    assert [row["step"] for row in rows] == [4, 8, 10, 12, 16, 20, 24]
    assert [row["phase"] for row in rows] == 3 * ["pretrain"] + 4 * ["joint"]
    assert asked == [(20, {"line"})]  # and not after update 10, before the last phase
    assert [row["step"] for row in rows if "eval/few_shot" in row] == [20]
    assert all(row["loss"] == row["error"] > 0 for row in rows)
    assert checkpoint.steps(tmp_path / "checkpoints") == [16, 24]  # 8 and 10 made room


def test_the_best_validated_parameters_go_on(tmp_path):
    method = make_method(pretrain=9, updates=0)
    kept = []

    def evaluate_fn(state, step):
        kept.append(jax.tree.map(np.copy, state["line"].params))
        return {}

    # Without validation in the last phase nothing is chosen; `eval_every=1` sees every update.
    loop = run(tmp_path, method, evaluate_fn, chunk=1, eval_every=1).loops[0]
    best = [row.get("best_validation_loss") for row in read_rows(tmp_path / "metrics.jsonl")]
    assert best[:2] == [None] * 2 and best[2] >= best[5] >= best[8]
    kept_at = best.index(best[8])  # the update after which the lowest loss was found
    jax.tree.map(np.testing.assert_array_equal, loop.state["line"].params, kept[kept_at])
    assert np.isinf(loop.best["loss"])


def test_end_phase_without_any_validation_keeps_the_parameters():
    loop = init(make_method(), jax.random.key(1))
    after = end_phase(loop)
    jax.tree.map(np.testing.assert_array_equal, loop.state, after.state)


def test_a_number_that_is_not_finite_stops_the_run_and_keeps_what_is_good(tmp_path):
    with pytest.raises(UserError, match=r"^error is not finite in update 13 \(joint\)") as caught:
        run(tmp_path, make_method(nan_at=13))
    assert "checkpoint is of update 10" in str(caught.value)
    saved = np.load(tmp_path / "bad_batch_13.npz")
    method, data = make_method(nan_at=13), jax.device_put(make_data())
    key_init, run_key = jax.random.split(jax.random.key(0))
    loop = init(method, key_init)
    batch, _ = replay(method.phases[1], 10, loop.state, data, run_key, method.hp, 13)
    np.testing.assert_array_equal(saved["task_id"], batch.task_id)
    np.testing.assert_array_equal(saved["views['real'].reward"], batch.views["real"].reward)
    good = restored(tmp_path, loop)[0]
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(good.state))


def test_a_parameter_that_is_not_finite_is_named_when_no_metric_is(tmp_path):
    method = make_method()

    def update(state, batch, key, hp, step):
        new, metrics = method.phases[1].update(state, batch, key, hp, step)
        line = new["line"]
        bias = jnp.where(step == 2, jnp.inf, line.params["b"])
        return {"line": line._replace(params={**line.params, "b": bias})}, metrics

    broken = method._replace(phases=(method.phases[0], method.phases[1]._replace(update=update)))
    with pytest.raises(UserError, match=r"^params\['line'\]\['b'\] is not finite in update 12"):
        run(tmp_path, broken)


def test_a_damaged_newest_checkpoint_is_named_and_the_end_is_the_same(tmp_path, whole, capsys):
    shutil.copytree(whole[0], tmp_path, dirs_exist_ok=True)
    newest = tmp_path / "checkpoints" / "24" / "record.json"
    newest.write_text(newest.read_text()[:100])
    assert params_sha256(run(tmp_path).loops[0]) == params_sha256(whole[1].loops[0])
    said = capsys.readouterr().out
    assert "24 is damaged" in said and "resuming after update 16" in said
    assert [r["step"] for r in read_rows(tmp_path / "metrics.jsonl")] == [4, 8, 10, 12, 16, 20, 24]


def test_sigterm_saves_at_the_end_of_the_chunk_and_says_how_to_go_on(tmp_path, whole):
    def evaluate_fn(state, step):
        if step == 12:
            os.kill(os.getpid(), signal.SIGTERM)
        return {}

    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Stopped, match="SIGTERM after update 12") as caught:
        run(tmp_path, evaluate_fn=evaluate_fn, eval_every=4)
    assert caught.value.code == 143
    assert signal.getsignal(signal.SIGTERM) is before
    assert checkpoint.steps(tmp_path / "checkpoints")[-1] == 12
    resumed = run(tmp_path, eval_every=4)
    assert params_sha256(resumed.loops[0]) == params_sha256(whole[1].loops[0])
    assert [r["step"] for r in read_rows(tmp_path / "metrics.jsonl")] == [
        *(4, 8, 10, 12, 16, 20, 24)
    ]


def test_trains_in_a_thread_that_may_not_handle_signals(tmp_path):
    results = []
    thread = threading.Thread(target=lambda: results.append(run(tmp_path)))
    thread.start()
    thread.join()
    assert int(results[0].loops[0].bad_step) == -1


def test_a_finished_run_trains_no_more_and_its_time_adds_up(tmp_path, whole):
    shutil.copytree(whole[0], tmp_path, dirs_exist_ok=True)
    again = run(tmp_path)
    meta = restored(tmp_path, whole[1].loops[0])[2]
    assert again.wall_seconds > meta["wall_seconds"] > 0
    assert params_sha256(again.loops[0]) == params_sha256(whole[1].loops[0])
    assert again.traces == {"pretrain": 0, "joint": 0}


def test_a_workdir_belongs_to_one_config(tmp_path):
    cfg = make_cfg()
    with opened(cfg, tmp_path) as path:
        assert config.diff(read_config(path), cfg) is None
    written = (tmp_path / "config.json").read_bytes()
    with opened(cfg, tmp_path):
        assert (tmp_path / "config.json").read_bytes() == written
    for name, old, new in (
        ("eval.oracle", "", "elsewhere"),
        ("agent.conservative.beta", 0.5, 0.25),
    ):
        other = make_cfg()
        other.update_from_flattened_dict({name: new})
        sentence = re.escape(f"a run with {name} = {old!r}, and this one has {new!r}")
        with pytest.raises(UserError, match=sentence):
            opened(other, tmp_path).__enter__()
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(UserError, match="not JSON"):
        opened(cfg, tmp_path).__enter__()


def test_a_mistake_before_the_data_are_known_claims_no_workdir(tmp_path):
    def fail(cfg, message):
        with pytest.raises(UserError, match=message), opened(cfg, tmp_path):
            raise UserError("the data have no such policy")

    other = make_cfg(**{"updates": 77})
    fail(make_cfg(), "no such policy")
    assert not (tmp_path / "config.json").exists()
    fail(other, "no such policy")
    (tmp_path / COMMAND).write_text("metastar train")
    fail(other, "no such policy")
    assert (tmp_path / "config.json").exists()
    fail(make_cfg(), "holds a run with train")


def test_a_workdir_is_written_by_one_run_at_a_time(tmp_path):
    with opened(make_cfg(), tmp_path), pytest.raises(UserError, match="in use by another run"):
        opened(make_cfg(), tmp_path).__enter__()
    with opened(make_cfg(), tmp_path):
        pass


def test_a_workdir_that_cannot_be_written_is_one_sentence(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="is not writable"):
        opened(make_cfg(), tmp_path / "file").__enter__()

    def read_only(*args, **kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("builtins.open", read_only)
    with pytest.raises(UserError, match=r"not writable \(Permission denied\); give another"):
        opened(make_cfg(), tmp_path / "new").__enter__()


def test_a_spec_is_kept_and_compared(tmp_path):
    spec = DataSpec("point_robot", 2, 2, 2, 3, 60, (0.1, 1 / 3), (1.0, 2.0))
    with opened(make_cfg(), tmp_path):
        write_spec(tmp_path, spec)
        write_spec(tmp_path, spec)
    assert read_spec(tmp_path) == spec
    with pytest.raises(UserError, match="other data"):
        write_spec(tmp_path, spec._replace(num_tasks=4))
    for content, words in (({"family": "x"}, "does not describe"), ({}, "does not describe")):
        files.write_json(tmp_path / "spec.json", content)
        with pytest.raises(UserError, match=words):
            read_spec(tmp_path)
    (tmp_path / "spec.json").unlink()
    with pytest.raises(UserError, match="is missing; restore it"):
        read_spec(tmp_path)


def test_a_plan_names_what_a_run_costs_and_changes_nothing():
    text = plan.describe(make_cfg(), make_method(), make_data(), "fake")
    assert "parameters   3 (line 3)" in text
    assert "pretrain" in text and "joint" in text and "expected" in text
