"""`metastar bench` at debug size: structure, units and counting, never how long something took."""

import json

import jax
import numpy as np
import pytest
from ml_collections import FrozenConfigDict

import make_config
from metastar import config
from metastar import main as cli
from metastar.errors import UserError
from metastar.evaluation import episodes as play
from metastar.evaluation import evaluate
from metastar.tools.bench import bench, roofline
from metastar.tools.bench import cases as bench_parts
from metastar.tools.bench import evaluation as bench_eval
from metastar.tools.bench import report as bench_report
from metastar.tools.bench import setting as bench_data
from metastar.tools.bench import simulators as bench_simulators
from metastar.tools.bench.roofline import Probe
from metastar.training import flops
from metastar.training.flops import Product
from methods.bench_method import UPDATE_FLOPS

STUB = "methods.bench_method"
REPEATS = 2


def make_cfg(method=STUB, **fields):
    fields = {"eval.windows": 2, "eval.zero_shot_streams": 2, **fields}
    if method == STUB:
        return FrozenConfigDict(make_config.outside(STUB, "point_robot_sparse", **fields))
    cfg = make_config.preset(method, "point_robot_sparse", "debug")
    cfg.update_from_flattened_dict(fields)
    return FrozenConfigDict(cfg)


@pytest.fixture(autouse=True)
def quick_probes(monkeypatch):
    monkeypatch.setattr(roofline, "_COPY_BYTES", 2**16)
    monkeypatch.setattr(roofline, "_PROBE_SECONDS", 1e-6)
    monkeypatch.setattr(roofline, "square_product", lambda: Product(1, 8, 8, 8, "float32"))


def run(part, tmp_path, cfg=None, **options):
    text = bench.run(
        part, cfg or make_cfg(), tmp_path, repeats=REPEATS, command="as typed", **options
    )
    (file,) = tmp_path.glob("*.json")
    report = json.loads(file.read_text())
    assert report["part"] == part and file.stem == report["name"]
    for name, case in report["cases"].items():
        assert name in text
        assert len(case["seconds"]) == REPEATS and min(case["seconds"]) > 0
        median = np.median(case["seconds"]) / case["units"]
        assert case["per_unit"]["median"] == pytest.approx(median)
        assert case["per_second"] == pytest.approx(1 / median)
        assert case["matmul_flops"] == pytest.approx(
            case["flops_per_second"] * median if case["matmul_flops"] else 0
        )
    return report


def test_an_update_is_set_beside_its_arithmetic_alone(tmp_path):
    report = run("update", tmp_path)
    whole, bare = (report["cases"][form] for form in (bench_parts.CONFIGURED, bench_parts.CONSTANT))
    assert whole["unit"] == "update" and whole["matmul_flops"] == UPDATE_FLOPS
    assert whole["relative"] == 1 and bare["matmul_flops"] == UPDATE_FLOPS
    assert whole["peak_bytes"] > 0 and whole["compile_seconds"] > 0
    assert report["overhead"]["row_seconds"] > 0 and np.isfinite(report["overhead"]["share"])
    for name in ("device", "device_count", "cpu", "cores", "commit", "versions", "command"):
        assert report[name]
    assert report["config"]["bench_method.lr"] == 0.1
    assert {"copy", "1 x (8, 8) x (8, 8) float32"} <= set(report["probes"])
    assert not list(tmp_path.glob(".*"))  # no temporary file is left


def test_metastars_update_has_a_plain_form_and_a_sampled_gradient(monkeypatch):
    made = []

    def record(name, setting, phase, constant=False):
        made.append(name)
        assert phase.update is bench_parts.last_phase(setting).update or constant
        critic = jax.eval_shape(setting.method.init, jax.random.key(0))["agent"].params["critic"]
        assert ("hidden_0_action" in critic) == (name != bench_parts.PLAIN)
        kind = "sampled" if name == bench_parts.SAMPLED else "exact"
        assert setting.cfg.agent.conservative.cql_gradient == kind

    monkeypatch.setattr(bench_parts, "updates", record)
    exact = {"agent.conservative.cql_gradient": "exact"}
    bench_parts.forms(bench_data.make(make_cfg("metastar", **exact)))
    known = bench_parts.PLAIN, bench_parts.CONFIGURED, bench_parts.CONSTANT, bench_parts.SAMPLED
    assert sorted(made) == sorted(known)
    made.clear()
    alone = {"agent.conservative.penalty": "reward_uncertainty", "imagine.penalty": 1.0}
    bench_parts.forms(bench_data.make(make_cfg("metastar", **exact, **alone)))
    assert bench_parts.SAMPLED not in made  # there is no conservative gradient to estimate


def test_a_scan_takes_each_size_in_one_run(tmp_path):
    report = run("env", tmp_path, sizes="windows=1,3")
    steps = {size: 6 * int(size) * 60 for size in ("1", "3")}  # tasks, streams, steps
    assert {name: case["units"] for name, case in report["cases"].items()} == {
        f"windows={size}, env": num for size, num in steps.items()
    }
    assert report["axis"] == "windows"


def test_seeds_share_the_data_and_count_each_of_their_updates(tmp_path):
    report = run("seeds", tmp_path, sizes="num_seeds=1,3")
    one, three = report["cases"].values()
    assert three["units"] == 3 * one["units"]
    assert three["matmul_flops"] == one["matmul_flops"] == UPDATE_FLOPS


def test_seeds_do_what_one_run_does():
    cases = []
    for fields in ({"num_seeds": 2}, {"seed": 1}):
        setting = bench_data.make(make_cfg(**fields))
        cases.append(bench_parts.updates("update", setting, bench_parts.last_phase(setting)))
    (two, metrics), (one, alone) = (case.call() for case in cases)
    num = cases[1].units
    assert cases[0].units == 2 * num and two.bad_step.tolist() == [-1, -1]
    assert metrics["loss"].shape == (num, 2) and (metrics["loss"][:, 0] != alone["loss"]).all()
    np.testing.assert_allclose(metrics["loss"][:, 1], alone["loss"], rtol=1e-5)
    weights = [loop.state["line"].params["w"] for loop in (two, one)]
    np.testing.assert_allclose(weights[0][1], weights[1], rtol=1e-5)


def test_a_constant_batch_is_the_first_one_and_stays():
    setting = bench_data.make(make_cfg())
    phase = bench_parts.last_phase(setting)
    seen = phase._replace(update=lambda state, batch, *rest: (state, batch.views))
    _, constant = bench_parts.updates("constant", setting, seen, constant=True).call()
    _, drawn = bench_parts.updates("drawn", setting, seen).call()
    np.testing.assert_allclose(constant["x"][0], drawn["x"][0], rtol=1e-6)
    assert (constant["x"] == constant["x"][0]).all() and (drawn["x"][1] != drawn["x"][0]).any()


def test_both_protocols_are_set_beside_single_environments(tmp_path):
    cfg = make_cfg(**{"bench_method.context_len": 5})
    report = run("eval", tmp_path, cfg, max_steps=5)
    units = {name: case["units"] for name, case in report["cases"].items()}
    assert units == {
        "few-shot, all in one batch": 6 * 2 * 5,
        "few-shot, one stream at a time": 2 * 5,
        "few-shot, one env at a time": 2 * 5,
        "zero-shot, all in one batch": 6 * 2 * 2 * 5,
        "zero-shot, one stream at a time": 2 * 2 * 5,
        "zero-shot, one env at a time": 2 * 2 * 5,
    }
    # The stub's code is [1, 5] x [5, 1]: once per window; at times 5 to 9 of ten steps.
    flops = {name: case["matmul_flops"] for name, case in report["cases"].items()}
    few, zero = 2 * 5 / 5, 2 * 5 * (1 + 5) / 10
    assert flops == pytest.approx({name: few if "few" in name else zero for name in flops})


def test_the_single_environment_plays_what_the_batch_plays():
    setting = bench_data.make(make_cfg())
    env = bench_eval.make_env(setting.cfg)
    key = jax.random.key(0)
    played = []
    protocol = evaluate.protocols_of(setting.cfg, setting.method, env.spec)[1]
    for simulator in (env, bench_eval.stepwise(env)):
        run = play.evaluation(protocol, simulator, 1)
        *given, _, _ = bench_eval._arguments(setting, protocol, slice(1))
        played.append(run(*given, key, key).played.episode_return)
    np.testing.assert_allclose(*played, rtol=1e-5)


def test_a_host_simulator_is_timed_too(tmp_path):
    cfg = make_config.outside(STUB, "cheetah_vel")
    cfg.update_from_flattened_dict({"eval.windows": 1, "eval.zero_shot_streams": 1})
    report = run("eval", tmp_path, FrozenConfigDict(cfg), max_steps=6)
    assert len(report["cases"]) == 4
    assert all(case["peak_bytes"] is None for case in report["cases"].values())


@pytest.mark.slow
def test_inference_by_likelihood_is_set_beside_the_encoder(tmp_path):
    cfg = FrozenConfigDict(config.change(make_cfg("metastar"), {"task_losses.reconstruction": 1.0}))
    cases, model = run("infer", tmp_path, cfg)["cases"], cfg.world_model
    assert list(cases) == ["encoder", "bank"]
    num = cfg.data.train_tasks + cfg.data.test_tasks
    assert all((c["unit"], c["units"]) == ("inference", 2 * num) for c in cases.values())
    # What is more are the rewards of each step under its own code and those of all training tasks.
    width, given = model.width, 2 + 2 + model.code_dim + 2
    head = 2 * (given * width + width * width + width * 2)
    more = cases["bank"]["matmul_flops"] - cases["encoder"]["matmul_flops"]
    assert more == (cfg.data.train_tasks + 1) * model.context_len * head


def test_a_method_without_a_task_model_infers_by_its_encoder_alone():
    setting = bench_data.make(make_cfg())
    assert [case.name for case in bench_eval.inferences(setting)] == ["encoder"]


@pytest.mark.parametrize("part", ["world_model", "imagine", "critic"])
def test_every_part_of_metastar_can_be_built(part):
    """Traced, not compiled: the contract of `bench/parts`."""
    setting = bench_data.make(make_cfg("metastar"))
    phase = bench_parts.part_phase(setting, part)
    state = jax.eval_shape(setting.method.init, jax.random.key(0))
    hp = setting.method.hp

    def one(state, data, key):
        return phase.update(state, phase.sample(data, key, 0), key, hp, 0)

    traced = jax.make_jaxpr(one, return_shape=True)(state, setting.train, jax.random.key(0))
    after, made = traced[1]
    assert jax.tree.structure(after) == jax.tree.structure(state)
    assert {"world_model": "recon", "imagine": "reward", "critic": "td_loss"}[part] in made
    assert flops.matmul_flops(traced[0].jaxpr) > 0


def test_the_critic_part_is_the_agents_update_on_a_whole_batch():
    setting = bench_data.make(make_cfg("metastar", **{"world_model.code_dim": 4}))
    oracle = bench_data.make(make_cfg("oracle"))
    found = []
    for each in (setting, oracle):
        state = jax.eval_shape(each.method.init, jax.random.key(0))
        batch = jax.eval_shape(
            bench_parts.last_phase(each).sample, each.train, jax.random.key(0), 0
        )
        part = bench_parts.part_phase(each, "critic").update
        traced = jax.make_jaxpr(part)(state, batch, jax.random.key(0), each.method.hp, 0)
        found.append(flops.matmul_flops(traced.jaxpr))
    # The code has 4 entries and the task parameters 2: first layers of actor and critics only.
    assert 1 < found[0] / found[1] < 1.2


def test_fractions_and_ratios_by_hand():
    product = Product(1, 1, 50, 1, "float32")  # 100 FLOP

    def case(name, units, times):
        return bench_parts.Case(name, "update", units, None, {product: times}, 1.0)

    cases = {"a": case("a", 2, 4), "b": case("b", 1, 2)}
    probes = {product: Probe(None, 1000.0), "copy": Probe(None, 64.0)}
    seconds = {"a": [2.0, 4.0, 8.0], "b": [1.0, 1.0, 8.0], product: [2.0] * 3, "copy": [4.0] * 3}
    report = bench_report.measured(cases, probes, seconds)
    a, b = report["cases"].values()
    assert a["per_unit"] == {"median": 2.0, "quartile_1": 1.5, "quartile_3": 3.0}
    assert a["matmul_flops"] == b["matmul_flops"] == 200
    assert a["matrix_rate"] == 500 and a["of_matrix_rate"] == (200 / 2.0) / 500
    assert b["relative"] == 1.0  # of 1/1, 1/2, 8/4
    assert report["probes"]["copy"]["per_second"] == 16


def test_overhead_by_hand(monkeypatch):
    monkeypatch.setattr(
        bench_report, "interleaved", lambda calls, repeats: {"row": [8.0] * repeats}
    )
    metrics = {"loss": np.ones(2)}
    case = bench_parts.Case("", "update", 2, lambda: (None, metrics), {}, 1.0)
    cases = {bench_parts.CONFIGURED: case, bench_parts.CONSTANT: case._replace(units=1)}
    seconds = {bench_parts.CONFIGURED: [20.0, 20.0], bench_parts.CONSTANT: [9.0, 9.0]}
    found = bench_report.overhead(cases, seconds, chunk=4, repeats=2)
    # (10 - 9) / 10 and a row of 8 s per 4 updates of 10 s.
    assert found == {"row_seconds": 8.0, "share": pytest.approx(0.1 + 0.2)}


@pytest.mark.parametrize(
    ("sizes", "sentence"),
    [
        ("horizn=1,2", "did you mean 'horizon'?"),
        ("horizon", "must be of the form"),
        ("horizon=1,x", "must be of type int"),
        ("agent.conservative.hidden=1", "cannot scan agent.conservative.hidden"),
        ("horizon=1,90", "imagine.context_len + imagine.horizon is"),
    ],
)
def test_wrong_sizes(tmp_path, sizes, sentence):
    with pytest.raises(UserError, match=sentence.replace("+", r"\+")):
        bench.run("imagine", make_cfg("metastar"), tmp_path, sizes)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("part", "method", "sentence"),
    [
        ("imagine", "oracle", "method 'oracle' has no part 'imagine'"),
        ("critic", "bc", "method 'bc' has no part 'critic'"),
        ("updat", "oracle", "did you mean 'update'?"),
    ],
)
def test_a_part_that_is_not_there(tmp_path, capsys, part, method, sentence):
    config = f"--config=configs/{method}.py:point_robot_sparse,debug"
    assert cli.main(["bench", part, config, f"--out={tmp_path}"]) == 2
    assert sentence in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("option", ["--repeats=0", "--max-steps=-1", "--repeats=x"])
def test_wrong_options(tmp_path, option):
    config = "--config=configs/oracle.py:point_robot_sparse,debug"
    assert cli.main(["bench", "update", config, f"--out={tmp_path}", option]) == 2


def test_a_file_is_no_folder_of_results(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    config = "--config=configs/oracle.py:point_robot_sparse,debug"
    assert cli.main(["bench", "update", config, f"--out={tmp_path / 'file'}"]) == 2
    assert "(File exists); name another with --out" in capsys.readouterr().err


def test_a_config_is_needed(capsys):
    assert cli.main(["bench", "update"]) == 2
    assert "--config" in capsys.readouterr().err


def test_a_profile_is_a_trace_that_tools_read(tmp_path):
    run("update", tmp_path, profile=True)
    assert list(tmp_path.glob("*_trace/plugins/profile/*/*.xplane.pb"))


def test_systems_are_timed_side_by_side(tmp_path):
    one, other = make_cfg(), make_cfg(**{"bench_method.context_len": 8})
    report = run("update", tmp_path, systems={"a.py:f,x": one, "b.py:f,x": other})
    assert list(report["cases"]) == ["a.py:f,x", "b.py:f,x"] and report["name"][:8] == "systems_"
    assert report["cases"]["a.py:f,x"]["relative"] == 1
    assert all(case["parameters"] == 5 for case in report["cases"].values())


@pytest.mark.parametrize("wrong", [("critic", ""), ("update", "meta_batch=2,4")])
def test_systems_are_compared_by_whole_updates_only(wrong, tmp_path):
    part, sizes = wrong
    systems = {"one": make_cfg(), "other": make_cfg()}
    with pytest.raises(UserError, match="by their whole update"):
        bench.run(part, make_cfg(), tmp_path, sizes=sizes, systems=systems)


def test_the_loops_of_the_engine_make_the_same_steps_through_ends_of_episodes():
    cfg = make_config.base(family="hopper_mass", **{"simulator.threads": 1})
    env, family = bench_simulators.make_env(cfg), bench_simulators.family_of("hopper_mass")
    env = env._replace(spec=env.spec._replace(max_episode_steps=40))
    tasks = family.law["own"](np.random.default_rng(0), 2)
    found = bench_simulators.loops(family, env, tasks, num_streams=3, threads=1)
    raw, ours = (found[name]() for name in (bench_simulators.RAW, bench_simulators.STEPS))
    assert raw.shape == (6, 12) and len(np.unique(raw[:, 0])) == 6
    assert (np.abs(raw[:, 2]) > 0.2).any()  # radians: a hopper that leans so has fallen
    np.testing.assert_array_equal(raw, ours)
