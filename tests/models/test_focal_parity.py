"""FOCAL's encoder and distance objective against numbers recorded from its authors' code."""

import jax
import numpy as np
import pytest

from focal_record import Focal
from golden_npz import PRECISIONS, file_of, traced

pytestmark = pytest.mark.parity("baselines")


@pytest.fixture(scope="module", params=PRECISIONS)
def focal(request):
    with jax.enable_x64(request.param == 64):
        yield Focal(request.param, file_of("baselines", request.config))


def test_every_recorded_number(focal):
    assert not focal.misses(focal.results())


def test_no_bound_another_weight_and_shuffled_rewards_are_found(focal):
    def run(params, view):
        encode = lambda view, bound: focal.encoder("reward", bound).encode(params, view, None)  # noqa: E731
        free, code = encode(view, "none"), encode(view, "tanh").task
        shuffled = encode(view._replace(reward=view.reward[:, ::-1]), "tanh").task
        grad, _ = focal.of_code("reward", code, focal.source["in/tasks"])
        return free.each, shuffled, 1.001 * grad

    each, shuffled, grad = traced(run, focal.start("reward"), focal.view())
    assert np.abs(each - focal.expected["out/reward/z_step"]).max() > 1e-2
    assert np.abs(shuffled - focal.expected["out/reward/z"]).max() > 1e-4
    recorded = focal.expected["grad/reward/z"]
    assert np.abs(grad - recorded).max() > 1e-4 * np.abs(recorded).max()
