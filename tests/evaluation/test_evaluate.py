import subprocess
from collections import Counter

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import stub_run
from metastar.data import choose, store
from metastar.envs.families import point_robot_sparse as family
from metastar.errors import UserError
from metastar.evaluation import episodes as play
from metastar.evaluation import evaluate, results, summaries
from metastar.training import provenance
from metastar.types import TaskModel
from stub_run import META, PARAMS, tiny_config

KEYS = {
    "method", "family", "preset", "seed", "updates", "wall_seconds", "commit", "versions",
    "protocols", "train", "bounds", "params_sha256",
}  # fmt: skip


@pytest.fixture(scope="module")
def data_dir():
    return stub_run.evaluated()["data"]


@pytest.fixture(scope="module")
def runs():
    """Results of the seeker and of the knower, its oracle, both evaluated for real."""
    folders = stub_run.evaluated()
    return {"folders": folders} | {k: results.read(folders[k]) for k in ("oracle", "seeker")}


def test_results_have_the_documented_keys(runs):
    report = runs["seeker"]
    assert set(report) >= KEYS
    assert set(report["protocols"]["few_shot"]) >= {
        "mean", "iqm", "ci95", "per_task", "by_context_source", "informative",
    }  # fmt: skip
    informative = report["protocols"]["few_shot"]["informative"]
    assert set(informative) >= {"mean", "ci95", "share", "optimum"}
    assert set(report["bounds"]) == {"random", "behavior_best", "oracle", "optimum"}
    assert report["updates"] == 7 and report["params_sha256"] == META["params_sha256"]
    assert report["split"] == "test"
    assert report["versions"].keys() >= {"python", "jax", "jaxlib", "flax", "optax", "mujoco"}


def test_the_knower_reaches_the_analytic_optimum_exactly(runs):
    few = runs["oracle"]["protocols"]["few_shot"]
    assert few["mean"] == runs["oracle"]["bounds"]["optimum"] == few["optimum"]
    assert few["of_optimum"] == 1.0 and few["normalized"] == pytest.approx(1.0)
    assert few["success"] == 1.0
    assert runs["oracle"]["protocols"]["zero_shot"]["of_optimum"] == 1.0  # same starts in episode 2
    assert runs["oracle"]["bounds"]["oracle"] is None


def test_the_oracle_bound_is_the_oracles_few_shot_mean(runs):
    assert runs["seeker"]["bounds"]["oracle"] == runs["oracle"]["protocols"]["few_shot"]["mean"]


def test_methods_and_bounds_meet_the_same_starts(runs):
    a, b = (results.read_arrays(runs["folders"][k]) for k in ("oracle", "seeker"))
    for name in (
        "few_shot_optimum",
        "few_shot_random_return",
        "zero_shot_optimum",
        "zero_shot_random_return",
    ):
        np.testing.assert_array_equal(a[name], b[name])
    np.testing.assert_array_equal(a["few_shot_rewarded"], b["few_shot_rewarded"])
    np.testing.assert_array_equal(a["few_shot_path"][..., 0, :], b["few_shot_path"][..., 0, :])


def test_what_values_promise_is_held_against_what_came(runs):
    block = runs["seeker"]["protocols"]["few_shot"]["value"]
    arrays = results.read_arrays(runs["folders"]["seeker"])
    test = arrays["split"] == "test"
    got = arrays["few_shot_monte_carlo"]
    assert ((got > 0) == (arrays["few_shot_return"] > 0)).all() and (
        got <= arrays["few_shot_return"]
    ).all()
    assert block["value"] == 5 and block["monte_carlo"] == pytest.approx(got[test].mean())
    assert block["mean"] == pytest.approx(5 - block["monte_carlo"])
    assert block["gamma"] == pytest.approx(0.9)
    assert block["tail"] == pytest.approx(0.9**60, rel=1e-4)
    assert runs["oracle"]["protocols"]["few_shot"]["value"] is None  # this one has no critics


def test_windows_with_and_without_reward_are_told_apart(runs):
    few = runs["seeker"]["protocols"]["few_shot"]
    rewarded, blank = few["informative"], few["uninformative"]
    assert rewarded["share"] + blank["share"] == pytest.approx(1)
    assert 0.2 < rewarded["share"] < 0.8
    assert rewarded["of_optimum"] == pytest.approx(1, abs=0.02)
    arrays = results.read_arrays(runs["folders"]["seeker"])
    test = arrays["split"] == "test"
    keep = arrays["few_shot_rewarded"] & test[:, None]
    rows = [n for n in range(len(keep)) if keep[n].any()]
    by_hand = np.mean([arrays["few_shot_return"][n][keep[n]].mean() for n in rows])
    assert rewarded["mean"] == pytest.approx(by_hand)
    by_hand = np.mean([arrays["few_shot_optimum"][n][keep[n]].mean() for n in rows])
    assert rewarded["optimum"] == pytest.approx(by_hand)
    assert blank["mean"] < rewarded["mean"]


def test_sources_restrict_the_context(runs):
    sources = runs["seeker"]["protocols"]["few_shot"]["by_context_source"]
    assert list(sources) == [f"stub {stage}" for stage in stub_run.STAGES]
    assert sources["stub expert"]["of_optimum"] == pytest.approx(1, abs=0.02)
    assert sources["stub random"]["mean"] < 20  # only starts inside the goal pay
    train = runs["seeker"]["train"]["protocols"]["few_shot"]["by_context_source"]["stub medium"]
    assert train["per_task"][0] is None  # task 0 has no episode of this stage
    assert train["share"] == pytest.approx(2 / 3)


def test_behavior_best_is_the_best_stage_of_each_task(runs, data_dir):
    assert runs["seeker"]["bounds"]["behavior_best"] == 60.0
    data = store.load(store.verify(data_dir), "train", tiny_config())
    zero_expert = data._replace(reward=jnp.where(data.episode == 2, 0, data.reward))
    # stage "medium" pays in its second half, 30 steps; task 0 does not have it
    np.testing.assert_allclose(summaries.behavior_best(zero_expert), [0, 30, 30])
    # Of two policies at one stage the better counts: here the last episodes are another's.
    two = data._replace(policy=data.policy.at[:, 2].set(1), stage=data.stage.at[:, 2].set(1))
    np.testing.assert_allclose(summaries.behavior_best(two), [60, 60, 60])


def test_the_gap_to_the_oracle_is_0_for_random_and_1_for_the_oracle(runs):
    bounds = runs["seeker"]["bounds"]
    assert summaries.gap_closed(None, bounds) is None
    for mean, gap in ((bounds["random"], 0), (bounds["oracle"], 1)):
        assert summaries.gap_closed({"mean": mean}, bounds)["gap_closed"] == pytest.approx(gap)
    few = runs["seeker"]["protocols"]["few_shot"]
    by_hand = (few["mean"] - bounds["random"]) / (bounds["oracle"] - bounds["random"])
    assert few["gap_closed"] == pytest.approx(by_hand)
    assert runs["oracle"]["protocols"]["few_shot"]["gap_closed"] is None


@pytest.mark.parametrize("name, at", [("return", (3, 1)), ("episode_return", (0, 3, 1))])
def test_a_simulation_that_broke_down_is_named_and_nothing_is_written(
    data_dir, tmp_path, monkeypatch, name, at
):
    make = evaluate.make_measure

    def broken(*args):
        def measure(params, gamma):
            measured = make(*args)(params, gamma)
            measured["zero_shot"][name] = np.array(measured["zero_shot"][name])
            measured["zero_shot"][name][at] = np.nan
            return measured

        return measure

    monkeypatch.setattr(evaluate, "make_measure", broken)
    with pytest.raises(UserError, match=f"broke down in task 3 while 'zero_shot_{name}'"):
        stub_run.evaluate_run(tiny_config(), stub_run.knower(), tmp_path, data_dir)
    assert not list(tmp_path.iterdir())


def test_tasks_out_of_distribution_get_columns_of_their_own(tmp_path):
    cfg = tiny_config(**{"data.ood_tasks": 2})
    data = stub_run.save_data(tmp_path / "data", cfg)
    for name, fields in (("oracle", {}), ("seeker", {"eval.oracle": str(tmp_path / "oracle")})):
        (tmp_path / name).mkdir()
        method = getattr(stub_run, {"oracle": "knower"}.get(name, name))()
        run = tiny_config(**{"data.ood_tasks": 2, **fields})
        report = stub_run.evaluate_run(run, method, tmp_path / name, data)
    arrays = results.read_arrays(tmp_path / "seeker")
    names = ["train"] * 3 + ["test"] * 2 + ["ood_moderate"] * 2 + ["ood_extreme"] * 2
    np.testing.assert_array_equal(arrays["split"], names)
    for name in store.OOD:
        column, rows = report[name], arrays["split"] == name
        assert column["tasks"]["ids"] == list(arrays["task_id"][rows])
        assert column["protocols"]["few_shot"]["mean"] == pytest.approx(
            arrays["few_shot_return"][rows].mean()
        )
        oracle = results.read(tmp_path / "oracle")[name]["protocols"]["few_shot"]["mean"]
        assert column["bounds"]["oracle"] == oracle
        assert (
            column["protocols"]["few_shot"]["per_task"]
            != report["protocols"]["few_shot"]["per_task"]
        )
    without = tiny_config(**{"data.validation_tasks": 1, "data.ood_tasks": 2})
    split = choose.split_ids(store.read_manifest(data), without)
    assert split == {"train": [0, 1], "test": [2]}


def test_zero_shot_scores_the_second_episode_only(runs):
    arrays = results.read_arrays(runs["folders"]["seeker"])
    test = arrays["split"] == "test"
    block = runs["seeker"]["protocols"]["zero_shot"]
    assert block["mean"] == pytest.approx(arrays["zero_shot_return"][test].mean())
    first = arrays["zero_shot_first_return"]
    assert block["first_episode"] == pytest.approx(first[test].mean())
    expected = [first[test].mean(), block["mean"]]
    assert block["by_episode"] == pytest.approx(expected)
    assert not np.array_equal(first, arrays["zero_shot_return"])
    success = arrays["zero_shot_reached"][test].any(-1).mean()
    assert block["success"] == pytest.approx(success)


def test_exploring_finds_the_goals_of_training_tasks_and_has_its_own_column(data_dir, tmp_path):
    """With a true model of the reward, the tasks of the bank are found and then played at best."""

    def inside(params, obs, action, next_obs, code):
        apart = jnp.linalg.norm(next_obs - code[:, :2], axis=-1)
        return jnp.where(apart <= family.GOAL_RADIUS, 1.0, 0.0)

    model = TaskModel(lambda params, obs, action, code: obs[None] + 0.1 * action, inside, 0.15)
    method = stub_run.seeker()._replace(task_model=model)
    cfg, names = tiny_config(), ("posterior", "bank_swept")
    report = stub_run.evaluate_run(cfg, method, tmp_path, data_dir, strategies=names)
    assert tuple(report["protocols"])[2:] == tuple(f"explored_{name}" for name in names)
    arrays = results.read_arrays(tmp_path)
    train, test = (arrays["split"] == name for name in ("train", "test"))
    for name in names:
        block = report["protocols"][f"explored_{name}"]
        assert set(block) == set(report["protocols"]["zero_shot"])
        share = arrays[f"explored_{name}_return"] / arrays[f"explored_{name}_optimum"]
        assert share[train].mean() > 0.9 > report["protocols"]["zero_shot"]["of_optimum"]
        assert share[test].mean() == pytest.approx(block["of_optimum"], rel=0.1)


def test_a_run_that_cannot_explore_says_so(data_dir, tmp_path):
    with pytest.raises(UserError, match=r"task_losses\.reconstruction above 0"):
        stub_run.evaluate_run(
            tiny_config(), stub_run.seeker(), tmp_path, data_dir, strategies=["posterior"]
        )
    assert not (tmp_path / "results.json").exists()


def test_validation_tasks_stand_in_for_the_test_tasks(data_dir, tmp_path, monkeypatch):
    make = evaluate.make_measure

    def looked_at(cfg, method, tasks, *rest):
        all_goals = tasks.manifest.tasks["goal"].astype(np.float32)
        np.testing.assert_array_equal(tasks.train.task["goal"], all_goals[:2])
        np.testing.assert_array_equal(tasks.heldout.task["goal"], all_goals[2:3])
        return make(cfg, method, tasks, *rest)

    monkeypatch.setattr(evaluate, "make_measure", looked_at)
    cfg = tiny_config(**{"data.validation_tasks": 1})
    report = stub_run.evaluate_run(cfg, stub_run.knower(), tmp_path, data_dir)
    assert report == results.read(tmp_path)
    assert report["split"] == "validation" and report["tasks"]["ids"] == [2]
    assert len(report["protocols"]["few_shot"]["per_task"]) == 1
    assert len(report["train"]["protocols"]["few_shot"]["per_task"]) == 2


def test_an_oracle_of_other_tasks_or_of_nothing_is_refused(runs, tmp_path):
    tasks = runs["oracle"]["tasks"]
    folder = str(runs["folders"]["oracle"])
    assert results.oracle("", "point_robot_sparse", tasks, "few_shot") is None
    with pytest.raises(UserError, match="not on point_robot;"):
        results.oracle(folder, "point_robot", tasks, "few_shot")
    with pytest.raises(UserError, match="other held-out tasks"):
        results.oracle(folder, "point_robot_sparse", {**tasks, "ids": [0]}, "few_shot")
    with pytest.raises(UserError, match="metastar evaluate"):
        results.oracle(str(tmp_path), "point_robot_sparse", tasks, "few_shot")


def test_curve_is_traced_once_and_reports_every_protocol(data_dir):
    counter = Counter()
    tasks = store.tasks_of(store.verify(data_dir), tiny_config())
    curve = evaluate.make_curve(tiny_config(), stub_run.seeker(counter), tasks)
    first = curve(PARAMS, jax.random.key(0))
    traces = counter["act"]
    second = curve(PARAMS * 0.5, jax.random.key(1))
    assert counter["act"] == traces > 0
    assert set(first) >= {"few_shot", "zero_shot", "train_few_shot"}
    assert all(isinstance(v, float) and np.isfinite(v) for v in (*first.values(), *second.values()))
    assert curve(PARAMS, jax.random.key(0)) == first


def test_few_shot_windows_belong_to_the_task(runs):
    """The seeker's code is the goal of the task whose window it got."""
    arrays = results.read_arrays(runs["folders"]["seeker"])
    rewarded, code = arrays["few_shot_rewarded"], arrays["few_shot_code"]
    goal = np.broadcast_to(arrays["goal"][:, None], code[..., :2].shape)
    np.testing.assert_array_equal(rewarded, code[..., 2] == 1)
    np.testing.assert_allclose(code[..., :2][rewarded], goal[rewarded], atol=1e-6)
    assert arrays["few_shot_path"].shape == (5, play.NUM_PATHS, 2, 61, 2)


def test_reached_agrees_with_the_return(runs):
    arrays = results.read_arrays(runs["folders"]["seeker"])
    reached = arrays["few_shot_reached"].any(-1)
    np.testing.assert_array_equal(reached, arrays["few_shot_return"] > 0)
    second = arrays["zero_shot_reached"][..., -1]
    np.testing.assert_array_equal(second, arrays["zero_shot_return"] > 0)


def test_summary_by_hand():
    score = np.array([[1.0, 3.0], [5.0, 100.0]])
    keep = np.array([[True, True], [True, False]])
    optimum, random = np.full((2, 2), 7.0), np.full((2, 2), 2.0)
    block = summaries.summary(score, optimum, random, keep)
    assert block["mean"] == 3.5 and block["per_task"] == [2.0, 5.0]
    assert block["iqm"] == 3.0 and block["share"] == 0.75
    assert block["optimum"] == 7.0 and block["of_optimum"] == 0.5
    assert block["normalized"] == pytest.approx(0.3)
    assert 3.0 <= block["ci95"][0] <= block["ci95"][1] <= 4.0


def test_summary_without_bounds_or_scores():
    block = summaries.summary(np.array([[-1.0, -3.0]]), np.full((1, 2), np.nan))
    assert block["mean"] == -2 and block["optimum"] is None
    assert block["of_optimum"] is None and block["normalized"] is None
    assert summaries.summary(np.ones((2, 2)), keep=np.zeros((2, 2), bool)) is None


def test_commit_is_a_hash_or_unknown():
    assert provenance.commit() == "unknown" or len(provenance.commit().split("-")[0]) == 40


def test_a_commit_is_dirty_by_code_and_not_by_results(tmp_path, monkeypatch):
    def git(*args):
        who = ("-c", "user.name=n", "-c", "user.email=e")
        return subprocess.run(["git", "-C", tmp_path, *who, *args], check=True, capture_output=True)

    package = tmp_path / "src"
    package.mkdir()
    code, report = package / "results.py", tmp_path / "report.json"
    for file in (code, report):
        file.write_text("1\n")
    git("init")
    git("add", ".")
    git("commit", "-m", "first")
    monkeypatch.setattr(provenance, "__file__", str(code))
    clean = provenance.commit()
    assert len(clean) == 40
    report.write_text("2\n")
    assert provenance.commit() == clean
    code.write_text("2\n")
    assert provenance.commit() == f"{clean}-dirty"


def test_results_that_are_missing_damaged_or_not_writable(tmp_path):
    with pytest.raises(UserError, match="metastar evaluate"):
        results.read(tmp_path)
    (tmp_path / results.FILE).write_text("{")
    with pytest.raises(UserError, match="damaged"):
        results.read(tmp_path)
    (tmp_path / results.ARRAYS_FILE).write_bytes(b"PK nonsense")
    with pytest.raises(UserError, match="damaged"):
        results.read_arrays(tmp_path)
    with pytest.raises(UserError, match="cannot write"):
        results.write(tmp_path / "nowhere", {})


def test_stability_is_of_the_last_five_evaluations():
    rows = [{"step": i, "eval/few_shot": float(x)} for i, x in enumerate([99, 1, 4, 2, 5, 3])]
    rows += [
        {"step": 9, "td_loss": 1.0, "eval/few_shot": None},
        {"step": 10, "eval/zero_shot": 1.0},
    ]
    found = summaries.stability(rows)
    assert found["few_shot"] == {"mean": 3.0, "drop": 2.0, "evaluations": 5}
    assert found["zero_shot"] == {"mean": 1.0, "drop": 0.0, "evaluations": 1}
    assert summaries.stability([]) == {}


def test_success_is_none_in_families_without_a_goal():
    reached = np.array([True, False])
    assert summaries.success(reached, np.array(True)) == 0.5
    assert summaries.success(reached, np.array(False)) is None
