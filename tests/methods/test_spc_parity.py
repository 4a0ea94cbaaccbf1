"""SPC against numbers recorded from its authors' code: parts, gradients, updates, sequences."""

import jax
import pytest

from metastar.models.latent_dynamics import KINDS
from spc_record import Spc

slow = pytest.param(32, marks=pytest.mark.slow, id="float32")


@pytest.fixture(scope="module", params=[slow, pytest.param(64, id="float64")])
def spc(request):
    with jax.enable_x64(request.param == 64):
        yield Spc(request.param)


def test_every_recorded_number_of_spc(spc):
    assert not spc.only(()).misses(spc.results(), grad_error=2e-4)


@pytest.mark.parametrize(
    "kind", [KINDS[1], *(pytest.param(k, marks=pytest.mark.slow) for k in KINDS[2:])]
)
def test_every_recorded_number_of_the_other_world_models(spc, kind):
    assert not spc.only((kind,)).misses(spc.of_kind(kind), grad_error=2e-4)
