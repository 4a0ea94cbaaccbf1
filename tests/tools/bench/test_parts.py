"""The plain form of the update gives the gradients of the library's."""

import jax
import numpy as np
import pytest
from ml_collections import FrozenConfigDict

import make_config
from metastar.tools.bench.parts import metastar as parts
from metastar.training.runs import make_method
from synthetic import point_robot_data, point_robot_spec

KEY = jax.random.key(0)
NAMES = ("tiled", "sampled", "plain")


@pytest.fixture(scope="module")
def updated():
    """The state after one joint update in each form, and its metrics."""
    data, spec = point_robot_data(), point_robot_spec()
    start = jax.jit(make_method(config("tiled"), spec).init)(KEY)
    out = {}
    for name in NAMES:
        is_plain = name == "plain"
        make = parts.plain if is_plain else make_method
        method = make(config("tiled" if is_plain else name), spec)
        phase = method.phases[1]
        batch = jax.jit(phase.sample)(data, KEY, 0)
        state = parts.to_plain(start) if is_plain else start
        state, metrics = jax.jit(phase.update)(state, batch, KEY, method.hp, 0)
        out[name] = parts.to_plain(state), metrics
    return out


def config(name):
    cfg = make_config.preset("metastar", "point_robot_sparse", "debug")
    cfg.sampler.meta_batch, cfg.imagine.num_rollouts = 2, 1  # the plain form is unrolled: compiles
    if name == "tiled":
        cfg.agent.conservative.tile_states = 7  # of 16 states: with a remainder
    if name == "sampled":
        cfg.agent.conservative.cql_gradient = "sampled"
    return FrozenConfigDict(cfg)


def gradients(state):
    """The first moments of Adam, which after one update are a tenth of the gradient."""
    opt_state = {part: learner.opt_state for part, learner in state.items()}
    leaves = jax.tree_util.tree_leaves_with_path(opt_state)
    named = {jax.tree_util.keystr(path): x for path, x in leaves}
    return {name: x for name, x in named.items() if ".mu" in name}


def check_same(updated, name):
    ours, plain = (gradients(jax.device_get(updated[form][0])) for form in (name, "plain"))
    assert ours.keys() == plain.keys() and len(ours) > 20
    for key, x in plain.items():
        size = float(np.abs(x).max())
        np.testing.assert_allclose(ours[key], x, rtol=1e-4, atol=1e-4 * size + 1e-9, err_msg=key)


def test_the_exact_forms_have_the_same_gradients(updated):
    check_same(updated, "tiled")
    for metric, value in updated["plain"][1].items():
        np.testing.assert_allclose(updated["tiled"][1][metric], value, rtol=1e-4, atol=1e-5)


def test_the_sampled_gradient_is_another_one_of_the_same_loss(updated):
    with pytest.raises(AssertionError):
        check_same(updated, "sampled")
    for metric in ("td_loss", "conservative", "critic_loss"):
        np.testing.assert_allclose(
            updated["sampled"][1][metric], updated["plain"][1][metric], rtol=1e-4, atol=1e-5
        )
