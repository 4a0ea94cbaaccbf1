"""What a method infers is its own affair: several windows, bags, and adaptations without a code."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import stub_run
from metastar import config, loading
from metastar import main as cli
from metastar.data import store
from metastar.data.sources import sources
from metastar.errors import UserError
from metastar.evaluation import evaluate, results
from metastar.tools.audit import codes as audit_codes
from metastar.tools.report import compare, report
from metastar.types import Context, DataSpec, Policy
from stub_run import PARAMS, tiny_config


def secretive(context):
    """The seeker, who keeps what it knows in a dict of its own."""
    seeker = stub_run.seeker()

    def infer(params, view, task, key):
        code = seeker.infer(params, view, task, key).code
        return {"place": code[:2], "windows": jnp.full((3,), view.valid.sum()), "found": code[2]}

    def act(params, known, carry, step, key, greedy):
        towards = jnp.clip((known["place"] - step.obs) / 0.1, -1, 1)
        return params * known["found"] * towards, carry

    policy = Policy(lambda params, adaptation: (), act)
    return seeker._replace(infer=infer, policy=policy, context=context)


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(Context(6, 3), marks=pytest.mark.slow),
        Context(20, 2, ordered=False),
    ],
)
def evaluated(request, tmp_path_factory):
    """A run of it, and of the seeker under the same request."""
    folder = tmp_path_factory.mktemp("opaque")
    found = {}
    for name, method in (
        ("secretive", secretive(request.param)),
        ("seeker", stub_run.seeker()._replace(context=request.param)),
    ):
        (folder / name).mkdir()
        data = stub_run.evaluated()["data"]
        found[name] = stub_run.evaluate_run(tiny_config(), method, folder / name, data)
    return folder, found


def test_it_scores_as_the_same_method_with_a_code_does(evaluated):
    folder, found = evaluated
    for name in ("few_shot", "zero_shot"):
        own, other = (found[run]["protocols"][name] for run in ("secretive", "seeker"))
        assert own["per_task"] == other["per_task"] and own["success"] == other["success"]
    few = found["secretive"]["protocols"]["few_shot"]
    assert few["value"] is None  # critics are asked under a code
    assert few["informative"]["of_optimum"] == pytest.approx(1, abs=0.02)
    assert list(few["by_context_source"]) == [f"stub {stage}" for stage in stub_run.STAGES]
    assert "few_shot_code" not in results.read_arrays(folder / "secretive")


def test_it_is_reported_and_compared(evaluated):
    folder, _ = evaluated
    text = report.write(folder / "secretive").read_text()
    assert "trajectories" in text and "task_codes" not in text
    compared = compare.compare([str(folder / "secretive")], folder / "out")
    assert "few-shot" in compared


def test_what_needs_codes_refuses_it(tmp_path):
    method, data = secretive(Context(12)), stub_run.evaluated()["data"]
    with pytest.raises(UserError, match="exploring acts on task codes alone") as error:
        stub_run.evaluate_run(tiny_config(), method, tmp_path, data, strategies=["idaq"])
    assert "\n" not in str(error.value) and not list(tmp_path.iterdir())
    loaded = store.load(store.verify(data), "all", tiny_config())
    found = sources(("stub",), stub_run.STAGES, loaded.policy, loaded.stage)
    draws = [audit_codes.halves(loaded, source) for source in found]
    read = audit_codes.make_reader(method, draws, 4, jax.random.key(0))
    with pytest.raises(UserError, match="an audit needs task codes, and what this run's method"):
        read(PARAMS)


def test_a_loaded_agent_takes_as_many_steps_as_all_its_windows_have():
    spec = DataSpec("point_robot_sparse", 2, 2, 2, 3, 60, (0.0, 0.0), (1.0, 1.0))
    agent = loading.make_agent(secretive(Context(4, num=3)), spec, PARAMS)

    def context(num):
        return {"obs": np.zeros((num, 2)), "action": np.zeros((num, 2)), "reward": np.ones(num)}

    known = agent.adapt(context(9)).adaptation
    assert known["windows"].tolist() == [9, 9, 9]
    assert agent.adapt(context(12)).act(np.ones(2)).shape == (2,)
    with pytest.raises(UserError, match="13 steps, but this agent takes 1 to 12"):
        agent.adapt(context(13))


def test_a_protocol_of_ones_own_is_in_every_table(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(stub_run.Path(__file__).parents[1]))
    names = "few_shot,zero_shot,wrong_task"
    cfg = tiny_config(**{"imports": ("examples.wrong_task",), "eval.protocols": names})
    data, method = stub_run.evaluated()["data"], stub_run.seeker()
    found = stub_run.evaluate_run(cfg, method, tmp_path, data)
    assert found == results.read(tmp_path)
    block = found["protocols"]["wrong_task"]
    assert len(block["per_task"]) == stub_run.NUM_TEST and "by_context_source" not in block
    assert block["mean"] < found["protocols"]["few_shot"]["mean"]  # it walks to another goal
    assert results.read_arrays(tmp_path)["wrong_task_return"].shape == (5, 4)
    rows = [row[0] for row in report.table(found)]
    assert {"context of another task", "training tasks, context of another task"} <= set(rows)
    assert "context of another task" in report.write(tmp_path).read_text()
    compared = compare.compare([str(tmp_path)], tmp_path / "out")
    assert "gap closed" not in compared and "context of another task: success" in compared
    tasks = store.tasks_of(store.verify(data), cfg)
    assert "wrong_task" in evaluate.make_curve(cfg, method, tasks)(PARAMS, jax.random.key(0))


@pytest.mark.parametrize(
    "fields, words",
    [
        (
            {"oracle.context_len": 500},
            "asks for windows of 500 steps but a task of the data set has",
        ),
        (
            {"eval.protocols": "explored"},
            "explores to learn the task, and this run's method is told",
        ),
    ],
)
def test_a_method_that_cannot_be_evaluated_is_refused_before_it_trains(
    fields, words, tmp_path, capsys
):
    refused({"method": "oracle", **fields}, words, tmp_path, capsys)


def test_a_protocol_that_needs_a_task_model_is_refused_before_the_training(tmp_path, capsys):
    fields = {"method": "bc", "eval.protocols": "few_shot,explored", "eval.strategy": "posterior"}
    refused(
        fields, "weighs tasks by a model of their rewards, and this run has none", tmp_path, capsys
    )


def refused(fields, words, tmp_path, capsys):
    """One sentence and status 2 from the command line, and no update."""
    cfg = tiny_config(**fields, **{"data.dir": str(tmp_path / "data")})
    stub_run.save_data(tmp_path / "data", cfg)
    file = tmp_path / "config.py"
    body = f"return config.build({config.flatten(cfg)!r})"
    file.write_text(f"from metastar import config\ndef get_config(argument):\n    {body}\n")
    assert cli.main(["train", f"--config={file}", f"--workdir={tmp_path / 'run'}"]) == 2
    error = capsys.readouterr().err
    assert words in error and error.count("\n") == 1
    assert not (tmp_path / "run" / "metrics.jsonl").exists()
