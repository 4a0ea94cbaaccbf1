"""SPC's scores against numbers recorded from its code, and by hand."""

import re

import numpy as np
import pytest

import golden_npz
from metastar.ops import code_health, spc_scores

parity = pytest.mark.parity("spc")


@pytest.fixture(scope="module")
def host(request):
    """The inputs of scores, and all scores that are compared: "scores" of the file's layout."""
    arrays = golden_npz.load(golden_npz.file_of("spc", request.config))
    head = r"host/((in|out)/)metric/"
    return {re.sub(head, r"\1", k): x for k, x in arrays.items() if re.match(head, k)}


@parity
@pytest.mark.parametrize("head", ["given", "dci"])
def test_disentanglement_and_completeness(host, head):
    importance = host["in/importance" if head == "given" else "out/dci_importance_matrix"]
    recorded = [host[f"out/{head}_{name}"] for name in ("disentanglement", "completeness")]
    np.testing.assert_allclose(spc_scores.disentanglement(importance), recorded, atol=1e-9)
    published = code_health.disentanglement(importance)
    assert np.abs(np.subtract(published, recorded)).max() > 1e-3


@parity
@pytest.mark.parametrize("head", ["mi", "mec_cont", "mec_mixed"])
def test_modularity_and_compactness(host, head):
    information = host["in/mi" if head == "mi" else f"out/{head}_mi_matrix"]
    found = spc_scores.modularity(information), spc_scores.compactness(information)
    recorded = [host[f"out/{head}_{name}"] for name in ("modularity", "compactness")]
    np.testing.assert_allclose(found, recorded, atol=1e-9)


@parity
def test_explicitness(host):
    found = spc_scores.explicitness(host["in/latents"], host["in/factors"], host["in/fold"])
    assert found == pytest.approx(float(host["out/mec_cont_explicitness"]), abs=1e-9)


def test_ranks_and_dormant_dimensions_by_hand():
    x = 10 * np.eye(4)[:, :3] * [1.0, 0.1, 0.001]  # singular values 10, 1 and 0.01
    assert spc_scores.feature_rank(x) == 2  # 0.01 / sqrt(4) is below 0.01
    assert [spc_scores.matrix_rank(x, t) for t in (0.2, 0.01, 0.0001)] == [1, 2, 3]
    assert spc_scores.dormant_ratio(x) == 1 / 3
    assert spc_scores.dormant_ratio(x, threshold=0.5) == 2 / 3
