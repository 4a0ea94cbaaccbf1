"""Several runs in one program: each is the run that it would be alone."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import make_config
from fake_method import claimed, make_cfg, make_data, make_method
from metastar import config
from metastar.config import schema
from metastar.errors import UserError
from metastar.training import checkpoint, runs
from metastar.training.checkpoint import params_sha256
from metastar.training.chunk import init, make_chunk
from metastar.training.loop import fit
from metastar.training.metrics import read_rows
from metastar.training.runs import Run
from metastar.training.workdir import identity
from synthetic import point_robot_spec

SEEDS = 3


def fit_seeds(path, method=None, evaluate_fn=None, seeds=range(SEEDS), scales=None, **settings):
    """Trains one run of each seed; `scales` are their values of the fake method's `hp`."""
    method, found = method or make_method(), []
    for k, seed in enumerate(seeds):
        cfg = make_cfg(**settings)
        cfg.seed = seed
        found.append(claimed(Run(cfg, path / str(k))))
    hps = [{"scale": scale} for scale in scales or [1.0] * len(found)]
    return fit(found, method, make_data(), hps, evaluate_fn)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Uninterrupted runs: their folder, and what `fit` returned."""
    path = tmp_path_factory.mktemp("whole")
    return path, fit_seeds(path)


def assert_close(a, b, **tolerance):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, **tolerance), a, b)


def test_each_run_is_what_it_would_be_alone(whole, tmp_path):
    path, fitted = whole
    assert fitted.traces == {"pretrain": 1, "joint": 1}
    alone = fit_seeds(tmp_path, seeds=[2])
    assert_close(fitted.loops[2], alone.loops[0], rtol=1e-5, atol=1e-6)
    rows, expected = (read_rows(p / "metrics.jsonl") for p in (path / "2", tmp_path / "0"))
    assert [row.keys() for row in rows] == [row.keys() for row in expected]
    for name in ("loss", "best_validation_loss"):
        pair = ([row[name] for row in part if name in row] for part in (rows, expected))
        np.testing.assert_allclose(*pair, rtol=1e-5)
    weights = [loop.state["line"].params["w"].tolist() for loop in fitted.loops]
    assert len({tuple(w) for w in weights}) == SEEDS


def test_runs_differ_in_their_hyper_parameters_without_another_trace(tmp_path):
    fitted = fit_seeds(tmp_path / "all", seeds=[5, 5], scales=[1.0, 0.25])
    assert fitted.traces == {"pretrain": 1, "joint": 1}
    alone = fit_seeds(tmp_path / "alone", seeds=[5], scales=[0.25])
    assert_close(fitted.loops[1], alone.loops[0], rtol=1e-5, atol=1e-6)
    one, other = (loop.state["line"].params["w"] for loop in fitted.loops)
    assert not np.allclose(one, other)


def test_data_are_not_copied_and_no_condition_depends_on_a_run():
    """A condition on a run's own number would become a select that computes both branches."""
    method, data = make_method(), jax.device_put(make_data())

    def conditions(key):
        loop, num = init(method, key), key.size
        hp = {"scale": jnp.ones(key.shape)}
        chunk = make_chunk(method.phases[0], 0, 4, 3, {"pretrain": 0}, num)
        traced = chunk.trace(loop, data, key, hp, np.int32(0), np.int32(4))
        shapes = [x.aval.shape for x in traced.jaxpr.jaxpr.invars]
        return str(traced.jaxpr).count("cond["), shapes

    key = jax.random.key(0)
    lone, _ = conditions(key)
    together, shapes = conditions(jax.random.split(key, SEEDS))
    assert together == lone > 0
    of_data = [x.shape for x in jax.tree.leaves(data)]
    assert all(shapes.count(shape) >= of_data.count(shape) for shape in of_data)


def test_killed_and_started_again_they_end_bitwise_where_whole_ones_end(tmp_path, whole):
    class Killed(Exception):
        pass

    def kill(state, step):
        if step == 20:
            raise Killed
        return {}

    with pytest.raises(Killed):
        fit_seeds(tmp_path, evaluate_fn=kill)
    folders = [tmp_path / str(k) / "checkpoints" for k in range(SEEDS)]
    assert [checkpoint.steps(folder)[-1] for folder in folders] == [16] * SEEDS
    loop, said = init(make_method(), jax.random.key(0)), []
    owners = [identity(folder.parent) for folder in folders]
    found = checkpoint.restore_common(folders, loop, owners, said.append)
    assert [step for _, step, _ in found] == [16] * SEEDS and not said
    (folders[1] / "16" / "record.json").write_text("{")  # one is damaged: all go back further
    found = checkpoint.restore_common(folders, loop, owners, said.append)
    assert [step for _, step, _ in found] == [10] * SEEDS and len(said) == 1
    again = fit_seeds(tmp_path)
    for k in range(SEEDS):
        assert params_sha256(again.loops[k]) == params_sha256(whole[1].loops[k])
        steps = [row["step"] for row in read_rows(tmp_path / str(k) / "metrics.jsonl")]
        assert steps == [4, 8, 10, 12, 16, 20, 24]


def test_a_kill_between_two_saves_leaves_a_common_checkpoint(tmp_path, monkeypatch):
    """Older checkpoints may go only when every run has the new one."""
    save = checkpoint.save

    def killed(directory, step, *rest):
        if step == 16 and directory.parent.name == "1":
            raise KeyboardInterrupt
        save(directory, step, *rest)

    monkeypatch.setattr(checkpoint, "save", killed)
    with pytest.raises(KeyboardInterrupt):
        fit_seeds(tmp_path, keep_checkpoints=1)
    folders = [tmp_path / str(k) / "checkpoints" for k in range(SEEDS)]
    loop = init(make_method(), jax.random.key(0))
    owners = [identity(folder.parent) for folder in folders]
    assert checkpoint.restore_common(folders, loop, owners)[0][1] == 10


def failing(method, is_bad):
    """Makes a metric NaN where `is_bad(step, hp)`, a step of the joint phase."""

    def update(state, batch, key, hp, step):
        new, metrics = method.phases[1].update(state, batch, key, hp, step)
        return new, {**metrics, "error": jnp.where(is_bad(step, hp), jnp.nan, metrics["error"])}

    return method._replace(phases=(method.phases[0], method.phases[1]._replace(update=update)))


def test_a_run_that_meets_a_bad_number_freezes_alone(tmp_path, whole, capsys):
    method = failing(make_method(), lambda step, hp: (hp["scale"] > 1) & (step == 3))
    asked = []

    def evaluate_fn(state, step):
        asked.append(step)
        return {}

    scales = [1.0, 1.0 + 1e-7, 1.0]
    fitted = fit_seeds(tmp_path, method, evaluate_fn, scales=scales)
    for k in (0, 2):
        assert params_sha256(fitted.loops[k]) == params_sha256(whole[1].loops[k])
    frozen = fitted.loops[1]
    assert int(frozen.bad_step) == 13
    assert (tmp_path / "1" / "bad_batch_13.npz").exists()
    assert [path.parent.name for path in tmp_path.glob("*/bad_batch_*.npz")] == ["1"]
    rows = read_rows(tmp_path / "1" / "metrics.jsonl")
    assert [row.get("bad_step") for row in rows] == [None] * 4 + [13] * 3
    assert "loss" in rows[3] and "loss" not in rows[4]
    assert asked == [20] * 2  # nothing is evaluated before the last phase
    assert "error is not finite in update 13 (joint)" in capsys.readouterr().out
    again = fit_seeds(tmp_path, method, scales=scales)  # and it stays so over a restart
    assert params_sha256(again.loops[1]) == params_sha256(frozen)


def test_when_every_run_has_met_a_bad_number_they_stop(tmp_path):
    method = failing(make_method(), lambda step, hp: step == 2 + (hp["scale"] > 1))
    with pytest.raises(UserError, match="2 of 2 runs") as caught:
        fit_seeds(tmp_path, method, seeds=[0, 1], scales=[1.0, 2.0])
    assert f"{tmp_path / '0'} in update 12, {tmp_path / '1'} in update 13" in str(caught.value)


def test_a_config_is_expanded_into_the_configs_of_its_runs(tmp_path):
    cfg = make_config.base()
    assert [run.workdir for run in runs.expand(cfg, tmp_path)] == [tmp_path]
    cfg.seed, cfg.num_seeds = 5, 2
    cfg = make_config.swept(
        cfg, {"agent.conservative.beta": (0, 2.5), "task_losses.distance": (3.0,)}
    )
    config.validate(cfg)
    found = runs.expand(cfg, tmp_path)
    assert [run.workdir for run in found] == [tmp_path / "seeds" / str(k) for k in range(4)]
    expected = make_config.base()
    expected.seed, expected.agent.conservative.beta, expected.task_losses.distance = 6, 0.0, 3.0
    assert config.diff(found[1].cfg, expected) is None
    assert [(run.cfg.seed, run.cfg.agent.conservative.beta) for run in found] == [
        *((5, 0.0), (6, 0.0), (5, 2.5), (6, 2.5))
    ]
    assert config.diff(config.from_dict(config.to_dict(cfg)), cfg) is None


def test_stack_and_unstack():
    trees = [{"a": jnp.full(2, k)} for k in range(3)]
    stacked = runs.stack(trees)
    assert stacked["a"].shape == (3, 2)
    assert_close(runs.unstack(stacked, 3), trees)
    assert runs.stack(trees[:1]) is trees[0] and runs.unstack(trees[0], 1) == [trees[0]]


def test_what_can_be_swept_is_what_updates_get():
    cfg = make_config.preset("metastar", "point_robot", "debug")
    fields = schema.of(config.flatten(cfg)).fields
    swept = {path for path, field in fields.items() if field.swept}
    spec = point_robot_spec()._replace(num_behaviors=2)
    assert set(config.flatten(runs.make_method(cfg, spec).hp)) == swept
    rates = {path for path, decays in config.flatten(config.decaying(cfg)).items() if decays}
    assert rates == {path for path in swept if path.endswith("lr")}
