"""The command, from the files of a run to its own, on synthetic encoders of known answer."""

import json
import re
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import stub_run
from metastar import files, main
from metastar.collection import collect
from metastar.data import layout, store
from metastar.data.sources import sources
from metastar.envs.families import point_robot_sparse as family
from metastar.errors import UserError
from metastar.evaluation import results
from metastar.tools.audit import audit
from metastar.tools.audit import codes as audit_codes
from metastar.tools.audit import measures as audit_measures
from metastar.training import checkpoint, runs, workdir
from metastar.training.chunk import init
from metastar.types import DataSpec

POLICIES, STAGES = ("random", "sac", "td3", "cross_task"), ("random", "expert")
KINDS = ((0, 0), (1, 1), (2, 1))  # policy and stage of the sources
NAMES = ["random", "sac expert", "td3 expert"]
TRAIN, TEST, EPISODES, WINDOWS = 6, 3, 4, 16
SPEC = DataSpec("point_robot_sparse", 2, 2, 2, TRAIN, 60, (0.0, 0.0), (1.0, 1.0))


def make_config(**fields):
    sizes = {"data.train_tasks": TRAIN, "data.test_tasks": TEST, "sampler.meta_batch": 2}
    return stub_run.tiny_config(
        **{
            "imports": ("encoders.policy_reader",),
            "method": "policy_reader",
            **sizes,
            **fields,
        }
    )


def save_data(directory, cfg, kinds=KINDS):
    """Every observation is the goal plus noise; `random` gets no reward, the others always."""
    rng = np.random.default_rng(0)
    tasks, split = collect.draw_tasks(cfg)
    policy, stage = np.repeat(np.array(kinds), EPISODES, 0).T
    num, steps = len(tasks["goal"]), family.SPEC.max_episode_steps
    shape = (num, len(policy), steps)
    goal = tasks["goal"][:, None, None]
    action = 0.2 * policy[:, None, None] + rng.normal(0, 0.1, (*shape, 2))
    fields = {
        "obs": goal + 0.1 * rng.normal(size=(*shape[:2], steps + 1, 2)),
        "action": np.clip(action, -1, 1),
        "reward": np.broadcast_to(policy[:, None] > 0, shape),
        "done": np.zeros(shape, bool),
        "length": np.full(shape[:2], steps),
        "policy": np.broadcast_to(policy, shape[:2]),
        "stage": np.broadcast_to(stage, shape[:2]),
        "collector": np.broadcast_to(np.arange(num)[:, None], shape[:2]),
    }
    manifest = store.Manifest(
        family.SPEC.name,
        family.SPEC,
        tasks,
        split,
        POLICIES,
        STAGES,
        cfg.to_dict(),
        versions={},
        files={},
    )
    store.save(directory, manifest, layout.concatenate(fields))


def save_run(folder, cfg, leaks):
    """A workdir with a checkpoint, at update 10, 20, ..., for each leak."""
    with workdir.opened(cfg, folder) as path:
        workdir.write_spec(path, SPEC)
        method = runs.make_method(cfg, SPEC)
        loop = init(method, jax.random.key(0))
        for i, leak in enumerate(leaks, 1):
            if cfg.method == "policy_reader":
                encoder = loop.state["encoder"]
                params = {**encoder.params, "leak": jnp.array(leak)}
                loop = loop._replace(state={"encoder": encoder._replace(params=params)})
            meta, digests = {"wall_seconds": 1.0}, workdir.digests(path)
            checkpoint.save(path / "checkpoints", 10 * i, loop, meta, digests)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Runs "clean" and "leaky" on one data set; a copy of the results of another."""
    root = tmp_path_factory.mktemp("audit")
    cfg = make_config(**{"data.dir": str(root / "data")})
    save_data(root / "data", cfg)
    save_run(root / "clean", cfg, (1.0, 0.0))
    save_run(root / "leaky", cfg, (1.0,))
    found = results.read(stub_run.evaluated()["seeker"])
    results.write(root / "clean", {**found, "digests": workdir.digests(root / "clean")})
    return root


@pytest.fixture(scope="module")
def audited(root):
    """What the audit of the clean run against the leaky one says, and its `audit.json`."""
    text = audit.audit(root / "clean", root / "leaky", windows=WINDOWS)
    return text, json.loads((root / "clean" / audit.FILE).read_text())


def test_files_are_whole_and_the_page_shows_the_figures(root, audited):
    text, report = audited
    page = (root / "clean" / audit.PAGE).read_text()
    shown = re.findall(r"!\[.*?\]\((.*?)\)", page)
    assert [name.split("/")[1] for name in shown] == [
        "audit_codes.png", "audit_sources.png", "audit_probes.png", "audit_cost.png"
    ]  # fmt: skip
    for name in shown:
        assert (root / "clean" / name).read_bytes().startswith(b"\x89PNG")
        assert name in text
    assert not list((root / "clean").glob("**/.*.tmp"))
    ratio = report["splits"]["train"]["all"]["ratio"]["ratio"]
    assert f"{ratio:.3f} (" in text and f"{ratio:.3f} (" in page
    assert "a probe needs 4 tasks, and there are 3" in page


def test_a_clean_encoder_passes_in_every_kind_of_windows(audited):
    _, report = audited
    train, test = report["splits"]["train"], report["splits"]["test"]
    assert (train["tasks"], test["tasks"]) == (TRAIN, TEST) and report["sources"] == NAMES
    for block in (train["all"], train["informative"], test["all"]):
        assert abs(block["ratio"]["ratio"]) < 0.01
        assert abs(block["energy"]["pairs"]["relative"]) < 0.02
    assert train["all"]["identity"]["linear"]["upper95"] < 0.5
    assert train["all"]["task"]["linear"]["r2"] > 0.9
    assert test["all"]["identity"]["not_computed"]


def test_the_second_run_differs_by_its_leak(audited):
    """The policy's index, of variance 2/3 over the sources, is what one model lacks."""
    found = audited[1]["against"]["train"]
    assert found["task_means"]["procrustes_residual"] < 1e-4
    assert 0.3 < found["windows"]["procrustes_residual"] < 0.9
    assert found["windows"]["cka"] < 0.9 < found["task_means"]["cka"]


def test_older_checkpoints_show_the_drift(audited):
    (row,) = audited[1]["drift"]
    assert row["step"] == 10 and audited[1]["step"] == 20
    # The leak of 0, 1 and 2 was given up; codes of goals on the unit circle have length 1.
    assert row["relative_change"] == pytest.approx(np.sqrt(5 / 3), rel=0.05)


def test_health_and_cost_are_there(audited):
    report = audited[1]
    assert report["health"]["train"]["rms_norm"] == pytest.approx(1, abs=0.05)
    assert report["health"]["train"]["dormant"] == pytest.approx(1 / 3)
    assert report["cost"]["drop"]["best"] == "stub expert"
    assert report["cost"]["drop"]["normalized"] > 0.5


def test_the_leaky_run_is_caught_with_its_size(root):
    data, cfg = store.load(store.verify(root / "data"), "all", make_config()), make_config()
    found = sources(POLICIES, STAGES, data.policy, data.stage)
    draws = [audit_codes.halves(data, source) for source in found]
    method = runs.make_method(cfg, SPEC)
    read = audit_codes.make_reader(method, draws, WINDOWS, jax.random.key(0))
    part = audit_measures.ratio(read({"leak": jnp.array(0.5), "scale": jnp.ones(())}))
    # sum_k (k - 1)^2 / 2 = 1 for the policies 0, 1 and 2.
    assert part["between_policies"] == pytest.approx(0.25, rel=0.01)


def test_halves_share_no_episode_and_windows_follow_the_key(root):
    data = store.load(store.verify(root / "data"), "all", make_config())
    source = sources(POLICIES, STAGES, data.policy, data.stage)[1]
    draws = audit_codes.halves(data, source)
    met = [set(np.asarray(p.episode[0, p.index[0, : p.count[0]]]).tolist()) for p in draws[:2]]
    assert met == [{4, 6}, {5, 7}] and draws.halved.all()
    policy = np.where(np.arange(12) == 5, source.policy, source.policy + 1)
    single = data._replace(policy=np.broadcast_to(policy, data.policy.shape), stage=0 * data.stage)
    single = single._replace(stage=single.stage + source.stage)
    again = audit_codes.halves(single, source)
    assert not again.halved.any() and (again.first.count == again.second.count).all()
    policy, stage = audit_codes.drawn_from(data)
    assert set(zip(policy.tolist(), stage.tolist())) == set(KINDS)


def refused(argv, capsys):
    """The sentence that a command line is refused with."""
    assert main.main(argv) == 2
    error = capsys.readouterr().err
    assert error.startswith("metastar: ") and error.count("\n") == 1
    return error


def test_a_workdir_without_a_checkpoint_is_refused(root, tmp_path, capsys):
    assert "not a workdir" in refused(["audit", f"--workdir={tmp_path}"], capsys)
    cfg = make_config(**{"data.dir": str(root / "data")})
    save_run(tmp_path / "empty", cfg, ())
    error = refused(["audit", f"--workdir={tmp_path / 'empty'}"], capsys)
    assert "holds no good checkpoint yet" in error


def test_a_privileged_method_is_refused(root, tmp_path, capsys):
    save_run(tmp_path, make_config(**{"method": "oracle", "data.dir": str(root / "data")}), (0,))
    assert "is told the task and has no code" in refused(["audit", f"--workdir={tmp_path}"], capsys)


@pytest.mark.parametrize(
    "fields, words",
    [
        ({"family": "point_robot"}, "is a run on point_robot, not on point_robot_sparse"),
        ({"policy_reader.context_len": 9}, "reads windows of 9 steps, not of 12"),
        ({"data.validation_tasks": 2}, "has other training or test tasks"),
    ],
)
def test_a_second_run_that_does_not_fit_is_refused(root, tmp_path, capsys, fields, words):
    save_run(tmp_path / "other", make_config(**{"data.dir": str(root / "data"), **fields}), (0.0,))
    argv = ["audit", f"--workdir={root / 'clean'}", f"--against={tmp_path / 'other'}"]
    assert words in refused(argv, capsys)


def test_data_of_another_family_are_refused(root, tmp_path, capsys):
    cfg = make_config(**{"data.dir": str(root / "data"), "family": "point_robot"})
    save_run(tmp_path / "run", cfg, (0.0,))
    words = "is of family 'point_robot_sparse', but the config asks for 'point_robot'"
    for command in ("audit", "evaluate"):
        assert words in refused([command, f"--workdir={tmp_path / 'run'}"], capsys)
    assert not (tmp_path / "run" / audit.FILE).exists()


def small_audit(folder, kinds, leak=0.0, **fields):
    """Audits a run on three training tasks, too few for a probe, and their test tasks."""
    cfg = make_config(**{"data.dir": str(folder / "data"), "data.train_tasks": 3, **fields})
    save_data(folder / "data", cfg, kinds)
    save_run(folder / "run", cfg, (leak,))
    text = audit.audit(folder / "run", windows=WINDOWS)
    return text, json.loads((folder / "run" / audit.FILE).read_text())


def test_windows_are_those_of_the_sources_asked_for(tmp_path):
    text, report = small_audit(tmp_path, (*KINDS, (3, 1)))
    counted = {
        kind: [part["windows"] for part in found["windows"].values()]
        for kind, found in report["splits"]["train"].items()
        if kind != "tasks"
    }
    full = 3 * WINDOWS
    assert counted["all"] == [full] * 4 and report["sources"][3] == "cross_task expert"
    assert counted["trained"] == [full, full, full, 0]  # no run draws cross-task episodes
    assert counted["informative"] == [0, full, full, full]
    assert text.count("variance ratio") == 3


def test_codes_by_likelihood_are_those_of_whichever_source_explains_the_task(tmp_path):
    guards = {"inference.next_obs": 1.0, "inference.nats": 0.0, "inference.fit": 1e6}
    _, leaky = small_audit(tmp_path / "encoder", KINDS, leak=1.0)
    fields = {"inference.choice": "bank", **guards}
    _, known = small_audit(tmp_path / "bank", KINDS, leak=1.0, **fields)
    assert (leaky["inference"], known["inference"]) == ("encoder", "bank")
    ratios = [found["splits"]["train"]["all"]["ratio"]["ratio"] for found in (leaky, known)]
    assert ratios[0] > 0.5 and abs(ratios[1]) < 0.02


def test_one_source_and_no_results_leave_the_rest(tmp_path):
    text, report = small_audit(tmp_path, KINDS[1:2])
    assert "trained" not in report["splits"]["train"]
    assert "metastar evaluate" in report["cost"]["not_computed"] and "Not computed" in text
    block = report["splits"]["train"]["all"]
    assert "not_computed" in block["ratio"] and block["energy"]["control"]["count"] == 3
    page = (tmp_path / "run" / audit.PAGE).read_text()
    assert "audit_codes" not in page and "fewer than two tasks have windows of two sources" in page


def test_a_damaged_older_checkpoint_is_skipped(root, tmp_path, capsys):
    shutil.copytree(root / "clean", tmp_path / "run")
    (tmp_path / "run/checkpoints/10/record.json").write_text("{")
    state = checkpoint.restore(
        tmp_path / "run/checkpoints", 10, {}, workdir.identity(tmp_path / "run")
    )
    assert state is None and "is damaged" in capsys.readouterr().out


def test_a_read_only_workdir_is_one_sentence(root, tmp_path, monkeypatch):
    def refuse(path, content):
        raise OSError(30, "Read-only file system", str(path))

    monkeypatch.setattr(files, "write_atomic", refuse)
    with pytest.raises(UserError, match="make its folder writable"):
        files.save(tmp_path / audit.FILE, "{}")
