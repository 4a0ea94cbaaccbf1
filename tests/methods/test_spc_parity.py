"""SPC against numbers recorded from its authors' code: parts, gradients, updates, sequences."""

import jax
import pytest

from spc_record import Spc


@pytest.fixture(scope="module", params=[32, 64], ids=["float32", "float64"])
def spc(request):
    with jax.enable_x64(request.param == 64):
        yield Spc(request.param)


def test_every_recorded_number(spc):
    assert not spc.misses(spc.results(), grad_error=2e-4)
