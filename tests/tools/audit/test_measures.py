"""Encoders of known answer: what leaks the policy is caught with its size, what does not passes."""

import sys

import numpy as np
import pytest

from metastar.ops import trees
from metastar.tools.audit import measures as audit_measures
from metastar.tools.audit import probes as audit_probes
from metastar.tools.audit.codes import Codes

NAMES = ["random", "sac medium", "sac expert"]
TASKS, WINDOWS, DIM = 12, 16, 5


def encode(leak=0.0, noise=0.2, tasks=TASKS, sources=3, seed=0):
    """Codes (task parameters, one axis per source); returns them with the parameters [N, 2].

    The policy's mean action is its axis plus noise of its own, which no code knows.
    """
    rng = np.random.default_rng(seed)
    factor = rng.uniform(-2, 2, (tasks, 2))
    shape = (tasks, sources, WINDOWS)
    axis = np.eye(3)[:sources, None]
    code = np.zeros((*shape, DIM))
    code[..., :2] = factor[:, None, None]
    code[..., 2:] = leak * axis
    code += noise * rng.normal(size=code.shape)
    action = axis + 0.1 * rng.normal(size=(*shape, 3))
    keep, halved = np.ones(shape, bool), np.ones(shape[:2], bool)
    found = Codes(code.astype(np.float32), keep, np.zeros(shape, bool), halved, {"action": action})
    return found, factor


def measured(leak, **kwargs):
    codes, factor = encode(leak, **kwargs)
    names = NAMES[: codes.keep.shape[1]]
    return audit_measures.of_windows(codes, codes.keep, factor, names)


@pytest.fixture(scope="module")
def perfect():
    return measured(leak=0.0)


@pytest.fixture(scope="module")
def leaking():
    return measured(leak=1.0)


def test_a_perfect_encoder_passes(perfect):
    assert abs(perfect["ratio"]["ratio"]) < 0.005
    energy = perfect["energy"]
    for kind in ("pairs", "control"):
        assert abs(energy[kind]["relative"]) < 0.01
        assert energy[kind]["share_differing"] < 0.2
    for key in ("identity", "identity_within_task"):
        for model in ("linear", "mlp"):
            assert perfect[key][model]["upper95"] < 0.45
            assert perfect[key][model]["shuffled"] == pytest.approx(1 / 3, abs=0.05)
    assert perfect["statistics"]["action"]["within_task"]["r2"] < 0.02


def test_a_leak_is_caught_with_its_size(leaking):
    found = leaking["ratio"]
    assert found["between_policies"] == pytest.approx(1.0, abs=0.05)
    low, high = found["ci95"]
    assert low < found["ratio"] == found["between_policies"] / found["between_tasks"] < high
    assert leaking["energy"]["pairs"]["share_differing"] == 1
    assert leaking["energy"]["pairs"]["relative"] > 20 * leaking["energy"]["control"]["relative"]
    assert leaking["energy"]["control"]["share_differing"] < 0.2
    for key in ("identity", "identity_within_task"):
        assert leaking[key]["linear"]["accuracy"] > 0.97 and leaking[key]["mlp"]["accuracy"] > 0.9
    # The action's own noise is 0.1^2 of a variance of 2/9 + 0.1^2; the code's noise adds to it.
    assert 0.8 < leaking["statistics"]["action"]["within_task"]["r2"] < 0.99


def test_the_leak_grows_with_its_cause():
    ratios = [audit_measures.ratio(encode(leak)[0])["between_policies"] for leak in (0.25, 0.5)]
    np.testing.assert_allclose(ratios, [0.0625, 0.25], rtol=0.15)


def test_the_task_is_read_from_codes_of_every_source(perfect):
    task = perfect["task"]
    assert task["linear"]["r2"] > 0.95
    np.testing.assert_allclose(task["linear"]["rmse"], 0.2 * np.sqrt(2), rtol=0.2)
    assert np.array(task["r2"]).shape == (3, 3) and np.min(task["r2"]) > 0.9


def test_a_source_with_codes_of_its_own_shows_across_sources_only():
    codes, factor = encode()
    codes.code[:, 2, :, :2] *= -1  # reads the task as well, but the other way round
    task = audit_probes.task(codes, factor, NAMES)
    r2 = np.array(task["r2"])
    assert r2[2, 2] > 0.9 and r2[0, 1] > 0.9
    assert r2[0, 2] < -1 and r2[2, 0] < -1


def test_probes_of_training_tasks_read_the_task_of_others_if_its_codes_mean_the_same():
    (fit, fit_factor), (codes, factor) = encode(), encode(tasks=3, seed=1)
    whole = fit, fit.keep, fit_factor, codes, codes.keep
    found = audit_measures.task_of_others(*whole, factor)
    assert (found["tasks"], found["fitted_on"]) == (3, TASKS)
    expected = 1 - 2 * 0.2**2 / factor.var(0).sum()  # all but the noise of both dimensions
    assert found["linear"]["r2"] == pytest.approx(expected, abs=0.02) and found["mlp"]["r2"] > 0.8
    np.testing.assert_allclose(found["linear"]["rmse"], 0.2 * np.sqrt(2), rtol=0.2)
    assert audit_measures.task_of_others(*whole, -factor)["linear"]["r2"] < -1
    few = fit.keep & (np.arange(WINDOWS) < 4)  # too few windows of any cell
    assert "not_computed" in audit_measures.task_of_others(fit, few, *whole[2:], factor)
    none = audit_measures.task_of_others(codes, codes.keep, factor, *whole[3:], factor)
    assert none == {"not_computed": "a probe needs 4 tasks, and there are 3"}


def test_an_mlp_sees_fewer_windows_of_a_cell_where_there_are_many_cells():
    for tasks, windows in ((3, 16), (40, 10), (500, 4)):
        keep = np.ones((tasks, 5, 32), bool)
        assert audit_probes._thinned(keep).shape == (tasks, 5, windows)


def test_each_dimension_of_this_code_stands_for_one_parameter(perfect):
    found = perfect["factors"]
    assert found["disentanglement"] > 0.8 and found["completeness"] > 0.7
    assert min(found["informativeness"]) > 0.9
    # The parameters are told by a dimension each, and by no other.
    assert found["infomec_modularity"] > 0.8 and found["infomec_compactness"] > 0.8
    assert found["infomec_explicitness"] == pytest.approx(np.mean(found["informativeness"]))
    # In its completeness a dimension that tells nothing weighs as much as one that tells all.
    assert found["spc_disentanglement"] > 0.7 and found["spc_completeness"] < 0.5
    assert found["spc_modularity"] > 0.7 and found["spc_explicitness"] > 0.8


def test_trees_and_neighbors_agree_where_scikit_learn_is_installed(perfect):
    pytest.importorskip("sklearn", reason=trees.ABSENT)
    found = perfect["factors"]["trees"]
    assert found["disentanglement"] > 0.8 and found["completeness"] > 0.8
    assert min(found["informativeness"]) > 0.8
    assert found["spc_informativeness"] > np.mean(found["informativeness"])
    assert found["spc_disentanglement"] > 0.7
    # Twelve tasks share values by chance, which neighbours take for information: hardly above the
    # least that two factors can have, 0.5. The estimate itself is held in tests/ops/test_trees.py.
    assert found["spc_modularity"] == pytest.approx(0.53, abs=0.03)


def test_without_scikit_learn_the_rest_is_measured(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn", None)
    codes, factor = encode()
    found = audit_probes.factors(codes, factor)
    assert found["trees"] == {"not_computed": trees.ABSENT} and found["disentanglement"] > 0


def test_informative_windows_are_counted_apart():
    codes, factor = encode(tasks=3)
    keep = codes.keep.copy()
    keep[:, 0] = False  # no reward under uniform actions
    keep[0, 1, 4:] = False  # too few windows of this cell
    found = audit_measures.of_windows(codes, keep, factor, NAMES)
    assert found["windows"]["random"] == {"windows": 0, "tasks": 0}
    assert found["windows"]["sac medium"] == {"windows": 2 * WINDOWS, "tasks": 2}
    assert found["energy"]["sources"] == NAMES[1:] and found["ratio"]["tasks"] == 2
    none = audit_measures.of_windows(codes, np.zeros_like(keep), factor, NAMES)
    assert none["windows"]["random"]["windows"] == 0 and "not_computed" in none


def test_one_source_leaves_what_needs_no_second():
    codes, factor = encode(sources=1)
    energy = audit_measures.energy(codes, NAMES[:1])
    identity = audit_probes.identity(codes, NAMES[:1])
    for part in (audit_measures.ratio(codes), energy["pairs"], *identity.values()):
        assert "not_computed" in part
    assert energy["control"]["count"] == TASKS
    assert audit_probes.task(codes, factor, NAMES[:1])["linear"]["r2"] > 0.9


def test_few_tasks_leave_what_needs_no_probe():
    found = measured(0.5, tasks=3)
    for name in ("identity", "identity_within_task", "statistics", "task", "factors"):
        assert found[name] == {"not_computed": "a probe needs 4 tasks, and there are 3"}
    assert found["ratio"]["tasks"] == 3 and found["energy"]["pairs"]["share_differing"] == 1


def test_codes_that_say_nothing_are_no_division_by_zero():
    codes, factor = encode()
    codes.code[:] = 1.0
    assert "not_computed" in audit_measures.ratio(codes)
    assert "not_computed" in audit_measures.energy(codes, NAMES)
    assert "not_computed" in audit_probes.factors(codes, factor)
    assert audit_probes.statistics(codes)["action"]["plain"]["r2"] == pytest.approx(0, abs=0.01)


def test_a_parameter_that_never_changes_is_left_out():
    codes, factor = encode()
    constant = np.concatenate([factor, np.ones((TASKS, 1))], 1)
    assert audit_probes.task(codes, constant, NAMES)["linear"]["r2"] > 0.9
    assert "same parameters" in audit_probes.task(codes, constant[:, 2:], NAMES)["not_computed"]


def test_shuffled_labels_are_exchanged_within_a_task():
    cells = np.array([[True, False, True], [True, True, True]])
    label = audit_probes._labels(cells, 500)
    assert label[0].tolist() == [[0, 1, 2]] * 2
    assert {tuple(row[[0, 2]]) for row in label[1:, 0]} == {(0, 2), (2, 0)}
    assert len({tuple(row) for row in label[1:, 1]}) == 6


def test_cost_by_hand():
    def block(mean, gap):
        return {"mean": mean, "gap_closed": gap}

    sources = {"a": block(5.0, 0.4), "b": block(9.0, 0.8), "c": None}
    results = {
        "protocols": {"zero_shot": {}, "few_shot": {"by_context_source": sources}},
        "bounds": {"random": 1.0, "oracle": 11.0},
    }
    drop = audit_measures.cost(results)["drop"]
    assert drop == {"best": "b", "worst": "a", "return": 4.0, "normalized": pytest.approx(0.4)}
    for source in ("a", "b"):
        sources[source]["gap_closed"] = None
    drop = audit_measures.cost(results)["drop"]
    assert drop["return"] == 4.0 and "oracle" in drop["normalized"]["not_computed"]


def test_alike_and_drift():
    codes, _ = encode(leak=1.0)
    turned = 2 * codes.code[..., ::-1]
    found = audit_measures.alike(codes.code, turned, codes.keep)
    assert found["windows"]["procrustes_residual"] == pytest.approx(0, abs=1e-5)
    assert found["task_means"]["rows"] == TASKS
    moved = audit_measures.drift(codes.code, 2 * codes.code, codes.keep)
    assert moved["rms_norm"] == pytest.approx(np.sqrt((codes.code**2).sum(-1).mean()), rel=1e-4)
    assert moved["relative_change"] == pytest.approx(0.5)
    assert moved["procrustes_residual"] == pytest.approx(0, abs=1e-5)


def test_what_a_code_tells_of_the_source_beyond_the_task(perfect, leaking):
    assert abs(perfect["information"]["nats"]) < 0.02
    assert leaking["information"]["nats"] == pytest.approx(np.log(3), abs=0.02)
    assert leaking["information"]["entropy"] == pytest.approx(np.log(3))


def test_cells_of_one_episode_tell_nothing_of_their_source():
    codes, _ = encode(leak=1.0)
    codes.halved[:, 1:] = False
    assert audit_measures.information(codes) == {
        "not_computed": "fewer than four tasks have two sources of two episodes each"
    }


def test_the_use_of_a_code_by_hand():
    few = {
        "mean": 10.0,
        "by_context_source": {
            "a": {"per_task": [10.0, 4.0, None]},
            "b": {"per_task": [12.0, None, None]},
            "c": {"per_task": [9.0, 5.0, 3.0]},
            "d": None,
        },
    }
    found = audit_measures.use({"protocols": {"few_shot": few, "swapped": {"mean": 2.0}}})
    # Task 0: (2 + 1 + 3) / 3; task 1: 1; task 2 has one source.
    assert found == {"own": 10.0, "other_source": 1.5, "other_task": 8.0, "swapped": 2.0}
    absent = audit_measures.use({"protocols": {"few_shot": few}})
    assert "--protocols=swapped" in absent["not_computed"]
