"""`metastar train` with several runs, on the method of `fake_method.py`, and what it refuses."""

import json
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import make_config
from fake_method import make_cfg, make_data, make_method
from metastar import config, train
from metastar.data import store
from metastar.errors import UserError
from metastar.evaluation import evaluate, results
from metastar.training import compilation, memory, plan, restore, status
from metastar.training.workdir import held, read_config
from metastar.types import DataSpec

SPEC = DataSpec("point_robot", 2, 1, 2, 3, 5, (0.0, 0.0), (1.0, 1.0))

BETA = "agent.conservative.beta"


@pytest.fixture
def asked(monkeypatch):
    """Replaces data and evaluation; the method's `hp` is beta. Lists what was evaluated."""
    calls = []

    def method(cfg, spec):
        del spec
        base = make_method(pretrain=0, updates=6)
        phase = base.phases[1]

        def update(state, batch, key, hp, step):
            new, metrics = phase.update(state, batch, key, hp, step)
            bad = (hp["scale"] == 2) & (step == 3)
            return new, {**metrics, "error": jnp.where(bad, jnp.inf, metrics["error"])}

        return base._replace(
            hp={"scale": cfg.agent.conservative.beta},
            phases=(base.phases[0], phase._replace(update=update)),
        )

    def make_final(cfg, method, tasks, explore=""):
        calls.append("built")

        def final(cfg, params, workdir, meta):
            calls.append((workdir.name, cfg.seed, cfg.agent.conservative.beta, meta["updates"]))
            beta = cfg.agent.conservative.beta
            results.write(workdir, {**meta, "protocols": {"few_shot": {"mean": beta}}})

        return final

    monkeypatch.setattr(train.runs, "make_method", method)
    tasks = store.Tasks(None, {}, make_data(), None)
    monkeypatch.setattr(train.collect, "data_set", lambda cfg: None)
    monkeypatch.setattr(train.store, "tasks_of", lambda *args: tasks)
    monkeypatch.setattr(train.store, "data_spec", lambda *args: SPEC)
    monkeypatch.setattr(evaluate, "make_curve", lambda *args: lambda params, key: {})
    monkeypatch.setattr(evaluate, "make_final", make_final)
    monkeypatch.setattr(train.report, "write", lambda path: (path / "report.md").write_text(""))
    monkeypatch.setattr(train.report, "summary", lambda path: f"summary of {path}")
    monkeypatch.setattr(train.compare, "compare", lambda runs, out: f"{runs} in {out}")
    return calls


def make_many(**fields):
    cfg = make_cfg()
    cfg.update_from_flattened_dict({"seed": 4, "num_seeds": 2, **fields})
    return cfg


def test_every_run_has_a_workdir_of_its_own_and_one_evaluation_serves_all(asked, tmp_path, capsys):
    cfg = make_config.swept(make_many(), {BETA: (0.5, 1)})
    train.train(cfg, tmp_path, command="metastar train it")
    runs = [("0", 4, 0.5, 6), ("1", 5, 0.5, 6), ("2", 4, 1.0, 6), ("3", 5, 1.0, 6)]
    assert asked == ["built", *runs]
    folders = [tmp_path / "seeds" / name for name, *_ in runs]
    for folder, (_, seed, beta, _) in zip(folders, runs):
        own = read_config(folder)
        assert (own.seed, own.agent.conservative.beta, own.num_seeds) == (seed, beta, 1)
        assert "sweep" not in own
        assert (folder / "command.txt").read_text() == "metastar train it\n"
        assert json.loads((folder / "spec.json").read_text())["num_tasks"] == 3
        assert (folder / "metrics.jsonl").exists() and (folder / "report.md").exists()
    assert f"{[str(folder) for folder in folders]} in {tmp_path}" in capsys.readouterr().out
    found = status.read(tmp_path)
    assert (found.state, found.step, found.updates) == ("complete", 6, 6)
    assert found.returns == {"few_shot": 0.75} and found.phase == "joint"
    assert found.updates_per_second > 0 and not (folders[0] / status.FILE).exists()
    train.train(cfg, tmp_path)
    assert asked == ["built", *runs] and "is complete" in capsys.readouterr().out
    train.train(read_config(folders[1]), folders[1])  # as if it had been alone
    assert asked == ["built", *runs] and f"summary of {folders[1]}" in capsys.readouterr().out


def test_runs_that_met_a_bad_number_are_named_when_the_others_are_complete(asked, tmp_path):
    cfg = make_config.swept(make_many(num_seeds=1), {BETA: (1.0, 2.0)})
    for _ in range(2):  # and named again by the same command
        with pytest.raises(UserError, match=r"^1 of 2 runs .*/seeds/1 in update 3"):
            train.train(cfg, tmp_path)
        assert status.read(tmp_path).sentence.startswith("1 of 2 runs met a number")
    assert asked == ["built", ("0", 4, 1.0, 6), "built"]
    assert (tmp_path / "seeds/1/bad_batch_3.npz").exists()
    assert not (tmp_path / "seeds/1/results.json").exists()


def test_a_folder_of_runs_is_not_a_run(asked, tmp_path):
    train.train(make_many(), tmp_path)
    with pytest.raises(UserError, match=r"holds 2 runs; give one of them, .*seeds/0 for instance"):
        restore.restore(tmp_path)
    with pytest.raises(UserError, match=r"several runs: give one of them, .*seeds/0 for instance"):
        results.read(tmp_path)
    with pytest.raises(UserError, match="num_seeds = 2, and this one has 3"):
        train.train(make_many(num_seeds=3), tmp_path)


def test_more_runs_than_memory_are_refused_before_the_first_update(asked, tmp_path, monkeypatch):
    assert memory.available() > 2**20
    cfg = make_many(num_seeds=8)
    needed = []
    monkeypatch.setattr(memory, "available", lambda: needed.append(1) or 2**40)
    train.train(make_many(), tmp_path / "two")
    assert needed
    monkeypatch.setattr(memory, "available", lambda: 5000)
    with pytest.raises(
        UserError, match=r"^8 runs need about .* of memory and .* are left: [1-7] fit"
    ):
        train.train(cfg, tmp_path / "eight")
    assert not (tmp_path / "eight/seeds/0/metrics.jsonl").exists()
    with pytest.raises(UserError, match=r"^8 runs need"):
        plan.describe(cfg, make_method(), make_data(), "fake", 8)


def test_a_run_that_no_memory_holds_leaves_the_workdir_free(asked, tmp_path, monkeypatch):
    made = train.runs.make_method
    big = make_method(batch_size=10**9)
    monkeypatch.setattr(train.runs, "make_method", lambda cfg, spec: big)
    with pytest.raises(UserError, match=r"^the run needs about .* and .* are left; lower sizes"):
        train.train(make_cfg(), tmp_path)
    with pytest.raises(UserError, match=r"^the run needs about"):
        plan.describe(make_cfg(), big, make_data(), "fake")
    monkeypatch.setattr(train.runs, "make_method", made)
    room = iter([2**40, 2**40, 100])  # what its program takes is known once it is compiled
    monkeypatch.setattr(memory, "available", lambda: next(room))
    with pytest.raises(UserError, match=r"^the run needs about"):
        train.train(make_cfg(), tmp_path)
    assert [path.name for path in tmp_path.iterdir() if path.name != ".lock"] == [status.FILE]


def test_a_product_that_no_memory_holds_is_not_compiled():
    rows = jax.ShapeDtypeStruct((10**6, 3), jnp.float32)
    with pytest.raises(UserError, match=r"^the run needs about 3725.29 GiB of memory and"):
        compilation.compiled(jax.jit(lambda x: jnp.tanh(x @ x.T).sum()), rows)


def test_a_second_process_is_refused_and_disturbs_nothing(asked, tmp_path):
    train.train(make_cfg(), tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    again = [partial(train.train, make_cfg()), train.evaluate_workdir]
    with held(tmp_path):  # another file description stands for another process
        for call in again:
            with pytest.raises(UserError, match=r"is in use by another run; wait for it or give"):
                call(workdir=tmp_path)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    with pytest.raises(UserError, match="is not a workdir"):
        train.evaluate_workdir(tmp_path / "nothing")
    assert not (tmp_path / "nothing").exists()


def test_a_workdir_in_the_folder_of_the_data_is_refused(tmp_path):
    cfg = make_cfg()
    cfg.data.dir = str(tmp_path / "data")
    for workdir in (tmp_path / "data", tmp_path / "data" / "run", tmp_path / "x" / ".." / "data"):
        with pytest.raises(UserError, match=r"^workdir .* lies in the folder of the data set"):
            train.train(cfg, workdir)
    assert not list(tmp_path.iterdir())


def test_a_plan_counts_all_runs():
    lone, four = (plan.describe(make_cfg(), make_method(), make_data(), "", n) for n in (1, 4))
    assert "parameters   3 (line 3)" in lone and "parameters   3 (line 3)" in four
    assert "of 4 runs together" in four and "together" not in lone
    assert "4 runs make " in four and " times the updates/s of one on one device (joint)" in four


def test_memory_grows_with_the_runs_and_not_with_their_data():
    from metastar.training.chunk import init, make_chunk

    method, data = make_method(), jax.device_put(make_data())

    def peak(num):
        keys = jax.random.split(jax.random.key(0), num)
        chunk = make_chunk(method.phases[0], 0, 4, 3, {"pretrain": 0}, num)
        hp = {"scale": jnp.ones(num)}
        arguments = init(method, keys), data, keys, hp, np.int32(0), np.int32(4)
        return compilation.compiled(chunk, *arguments).peak_bytes

    two, four = peak(2), peak(4)
    assert two < four < 2 * two - memory.size(data) / 2


@pytest.mark.parametrize(
    "name, values, words",
    [
        ("agent.conservative.hidden", (32.0,), "names nothing that can be swept, which are rates"),
        ("agent.conservative.bet", (1.0,), f"did you mean '{BETA}'?"),
        ("beta", (1.0,), f"must have the whole path, sweep.{BETA}"),
        ("actor", (1.0,), "names nothing that can be swept"),
        (BETA, (), "beta is () but must be numbers, for instance 0.5,1,5"),
        (BETA, ("a",), "beta is ('a',) but must be numbers"),
        (BETA, (True,), "beta is (True,) but must be numbers"),
        (BETA, (1.0, -1.0), "beta is (1.0, -1.0) but must lie in [0, inf)"),
        ("agent.conservative.gamma", (0.9, 1.0), "must lie in [0, 1)"),
        (BETA, (1, 1.0), "holds a value twice"),
        ("task_losses.infonce", (0.0, 1.0), "0 leaves task_losses.infonce out of the program"),
        ("agent.conservative.cloning", (0.0, 1.0), "0 leaves agent.conservative.cloning out of"),
        ("task_losses.infonce", (1.0,), "set sampler.windows=2"),
    ],
)
def test_a_wrong_sweep_is_one_sentence(name, values, words):
    cfg = make_config.swept(make_config.base(), {name: values})
    with pytest.raises(UserError) as caught:
        config.validate(cfg)
    assert words in str(caught.value)


def test_more_runs_than_files_can_be_open_are_refused():
    cfg = make_config.swept(make_config.base(), {BETA: (0.5, 1.0)})
    cfg.num_seeds = 129
    with pytest.raises(UserError, match="ask for 258 runs in one program, but 256 are the most"):
        config.validate(cfg)
    cfg.num_seeds = 128
    config.validate(cfg)


def test_seeds_end_where_a_seed_does():
    cfg = make_config.base()
    cfg.seed, cfg.num_seeds = 2**32 - 2, 3
    with pytest.raises(UserError, match="seed of the last run is 4294967296"):
        config.validate(cfg)


def test_another_oracle_is_of_one_evaluation_and_leaves_the_config(asked, tmp_path, monkeypatch):
    train.train(make_cfg(), tmp_path)
    written, shown = (tmp_path / "config.json").read_bytes(), []

    def make_final(cfg, *rest):
        shown.append(cfg.eval.oracle)
        return lambda cfg, *rest: shown.append(cfg.eval.oracle)

    monkeypatch.setattr(evaluate, "make_final", make_final)
    for oracle, expected in (("runs/oracle", "runs/oracle"), (None, "")):
        train.evaluate_workdir(tmp_path, oracle=oracle)
        assert shown == [expected, expected]
        shown.clear()
    assert (tmp_path / "config.json").read_bytes() == written


def test_a_wrong_source_of_a_pretraining_leaves_the_workdir_to_a_right_config(asked, tmp_path):
    cfg = make_many(**{"train.pretrained": str(tmp_path / "nothing")})
    with pytest.raises(UserError, match="but this run has no pretraining"):
        train.train(cfg, tmp_path / "run")
    train.train(make_many(), tmp_path / "run")
    assert asked[-1][-1] == 6
