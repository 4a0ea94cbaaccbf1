"""FOCAL's encoder and distance objective against numbers recorded from its authors' code."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from focal_record import Focal

FLOATS = [
    pytest.param(32, id="float32", marks=pytest.mark.slow),
    pytest.param(64, id="float64"),
]


@pytest.fixture(scope="module", params=FLOATS)
def focal(request):
    with jax.enable_x64(request.param == 64):
        yield Focal(request.param)


def test_every_recorded_number(focal):
    assert not focal.misses(focal.results())


def test_no_bound_another_weight_and_shuffled_rewards_are_found(focal):
    task_id, each = focal.source["in/tasks"], focal.expected["out/reward/z_step"]
    found = focal.encoder("reward", "none").encode(focal.start("reward"), focal.view(), None)
    assert np.abs(found.each - each).max() > 1e-2
    code = jnp.asarray(focal.expected["out/reward/z"])
    weight, focal.weight = focal.weight, 1.001 * focal.weight
    grad, _ = focal.of_code("reward", code, task_id)
    focal.weight = weight
    recorded = focal.expected["grad/reward/z"]
    assert np.abs(grad - recorded).max() > 1e-4 * np.abs(recorded).max()
    view = focal.view()
    view = view._replace(reward=view.reward[:, ::-1])
    found = focal.encoder("reward").encode(focal.start("reward"), view, None)
    assert np.abs(found.task - code).max() > 1e-4
