"""Codes between those of a meta-batch and beyond them."""

import jax
import numpy as np
import pytest

import make_config
from metastar import config
from metastar.errors import UserError
from metastar.models import other_codes
from model_helpers import tiny_cfg

KEY = jax.random.key(0)
CODES = jax.random.normal(jax.random.key(1), (4, 3))
NUM = 500


@pytest.mark.parametrize("reach", [1.0, 1.5])
def test_a_code_lies_on_the_way_from_its_task_to_another_one(reach):
    cfg = tiny_cfg(code_bound="none")
    cfg.imagine.reach = reach
    drawn = np.asarray(other_codes.draw(KEY, CODES, NUM, cfg))
    assert drawn.shape == (4, NUM, 3)
    steps = []
    for task, own in enumerate(np.asarray(CODES)):
        ways = np.delete(CODES, task, 0) - own  # [3, Z]
        far = (drawn[task] - own) @ ways.T / (ways**2).sum(-1)  # [R, 3]
        missed = np.abs(drawn[task][:, None] - own - far[..., None] * ways).sum(-1)
        nearest = missed.argmin(-1)
        assert missed.min(-1).max() < 1e-5
        assert set(nearest) == {0, 1, 2}  # every other task is drawn
        steps.append(np.take_along_axis(far, nearest[:, None], -1))
    assert 0 <= np.min(steps) < 0.1 * reach
    assert 0.9 * reach < np.max(steps) <= reach + 1e-5


def test_a_code_keeps_the_bound_of_all_codes():
    cfg = tiny_cfg(code_bound="sphere")
    cfg.imagine.reach = 3.0
    drawn = other_codes.draw(KEY, CODES, NUM, cfg)
    np.testing.assert_allclose((drawn**2).mean(-1), 1, atol=1e-4)


@pytest.mark.parametrize("code_bound", ["none", "sphere"])
def test_perturbed_codes_lie_around_those_of_the_tasks(code_bound):
    cfg = tiny_cfg(code_bound=code_bound, code_noise=0.1)
    own = other_codes.bound(CODES, cfg)
    drawn = jax.vmap(lambda key: other_codes.perturb(key, own, cfg))(jax.random.split(KEY, NUM))
    off = np.asarray(drawn) - np.asarray(own)
    spread = np.std(own - own.mean(0, keepdims=True))
    if code_bound == "none":
        np.testing.assert_allclose(off.std(0), 0.1 * spread, rtol=0.15)
        np.testing.assert_allclose(off.mean(0), 0, atol=0.02 * spread)
    else:
        np.testing.assert_allclose((drawn**2).mean(-1), 1, atol=1e-4)
        assert 0.06 * spread < off.std() < 0.1 * spread  # what leaves the sphere is taken back


def test_a_code_beyond_the_tasks_needs_a_bound():
    values = {"task_losses.reconstruction": 1.0, "imagine.reach": 1.5}
    config.validate(make_config.base(**values, **{"world_model.code_bound": "sphere"}))
    with pytest.raises(UserError, match="codes without a bound have any scale there"):
        config.validate(make_config.base(**values))
