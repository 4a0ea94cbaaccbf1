"""Importances and information against numbers recorded from SPC's code."""

import sys

import numpy as np
import pytest

from golden_npz import GOLDEN
from metastar.ops import spc_scores, trees


@pytest.fixture(scope="module")
def recorded():
    pytest.importorskip("sklearn", reason=trees.ABSENT)
    with np.load(GOLDEN / "spc_step.npz") as file:
        return {k.split("/metric/")[1]: file[k] for k in file.files if "/metric/" in k}


def test_importances_and_what_follows_from_them(recorded):
    """Ties are broken at random: the page of the recorded numbers allows 0.005."""
    found, explained = trees.importance(recorded["latents"], recorded["factors"])
    np.testing.assert_allclose(found, recorded["dci_importance_matrix"], atol=5e-3)
    assert explained.mean() == pytest.approx(float(recorded["dci_informativeness"]), abs=5e-3)
    scores = [recorded[f"dci_{name}"] for name in ("disentanglement", "completeness")]
    np.testing.assert_allclose(spc_scores.disentanglement(found), scores, atol=5e-3)


def test_rows_held_out_are_explained_less(recorded):
    code, factor = recorded["latents"], recorded["factors"]
    found = trees.explained_of_held_out(code, factor, recorded["fold"])
    assert found.shape == (3,) and (found < trees.importance(code, factor)[1]).all()
    noise = np.random.default_rng(0).normal(size=factor.shape)
    assert (trees.explained_of_held_out(code, noise, recorded["fold"]) < 0.2).all()


def test_information_by_neighbors(recorded):
    found = trees.neighbor_information(recorded["latents"], recorded["factors"])
    np.testing.assert_allclose(found, recorded["mec_cont_mi_matrix"], atol=1e-9)


def test_without_scikit_learn_nothing_is_imported(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn", None)
    assert not trees.installed()
