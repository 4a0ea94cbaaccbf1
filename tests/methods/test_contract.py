"""The contract of a method, run over every file of `methods/` without being told of it."""

from collections import Counter

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import FrozenConfigDict

from metastar import presets, registry
from metastar.data.sampler import sample_windows
from metastar.types import StepIn
from synthetic import point_robot_data, point_robot_spec

KEY = jax.random.key(0)


@pytest.fixture(scope="module")
def data():
    return point_robot_data()


@pytest.fixture(scope="module", params=registry.names("method"))
def method(request):
    cfg = FrozenConfigDict(presets.make(request.param, "point_robot_sparse", "debug"))
    return registry.find("method", request.param).make(cfg, point_robot_spec())


def update_fn(method, phase, counter=None):
    def update(state, data, key):
        if counter is not None:
            counter[phase.name] += 1
        batch = phase.sample(data, key, state.step)
        state, metrics = phase.update(state, batch, key, method.hp)
        return state._replace(step=state.step + 1), metrics

    return jax.jit(update)


def assert_equal(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


def test_updates_are_finite_deterministic_and_traced_once(method, data):
    traces = Counter()
    state = method.init(KEY)
    for phase in method.phases:
        update = update_fn(method, phase, traces)
        again, state_before = None, state
        for i in range(3):
            state, metrics = update(state, data, jax.random.key(i))
        again = state_before
        for i in range(3):
            again, _ = update(again, data, jax.random.key(i))
        assert_equal(state, again)
        assert traces[phase.name] == 1
        assert metrics and all(m.shape == () for m in metrics.values())
        assert all(np.isfinite(x).all() for x in jax.tree.leaves((state, metrics)))


def test_jit_changes_nothing_but_rounding(method, data):
    state, phase = method.init(KEY), method.phases[-1]
    update = update_fn(method, phase)
    jitted, _ = update(state, data, KEY)
    with jax.disable_jit():
        plain, _ = update(state, data, KEY)
    # Adam's first step is lr * sign(gradient): rounding noise may flip it where that is tiny.
    close = jax.tree.map(lambda a, b: np.isclose(a, b, atol=1e-5).mean(), jitted, plain)
    assert min(jax.tree.leaves(close)) > 0.9


def test_a_phase_moves_what_it_trains_and_nothing_else(method, data):
    state = method.init(KEY)
    for phase in method.phases:
        new, _ = update_fn(method, phase)(state, data, KEY)
        moved = {
            name: any(
                jax.tree.leaves(
                    jax.tree.map(lambda a, b: bool((a != b).any()), state.params[name], part)
                )
            )
            for name, part in new.params.items()
        }
        if phase.name == "pretrain":
            assert moved == {name: name == "world_model" for name in moved}
        else:
            assert all(moved.values())


def test_infer_and_act(method, data):
    params = method.export(method.init(KEY))
    task = jax.tree.map(lambda x: x[0], data.task) if method.privileged else None
    window = sample_windows(data, jnp.array(0), KEY, 12)
    adaptation = method.infer(params, window, task, KEY)
    again = method.infer(params, window, task, KEY)
    assert_equal(adaptation, again)
    assert adaptation.code.ndim == 1 and np.isfinite(adaptation.code).all()
    step = StepIn(jnp.ones(2), jnp.zeros(2), jnp.zeros(()), jnp.ones(2), jnp.array(True))
    carry = method.policy.init(params, adaptation)
    greedy = [
        method.policy.act(params, adaptation, carry, step, jax.random.key(i), True)[0]
        for i in range(2)
    ]
    drawn = [
        method.policy.act(params, adaptation, carry, step, jax.random.key(i), False)[0]
        for i in range(2)
    ]
    np.testing.assert_array_equal(*greedy)
    assert (drawn[0] != drawn[1]).any() and np.abs(drawn).max() <= 1


def test_a_shorter_context_is_padding_only(method, data):
    """Any length up to the position table works, and what lies beyond `valid` does not count."""
    params = method.export(method.init(KEY))
    task = jax.tree.map(lambda x: x[0], data.task) if method.privileged else None
    window = sample_windows(data, jnp.array(0), KEY, 12)
    short = window._replace(valid=jnp.arange(12) < 5)
    garbage = short._replace(
        obs=jnp.where(short.valid[:, None], window.obs, 7.0),
        action=jnp.where(short.valid[:, None], window.action, -1.0),
    )
    codes = [method.infer(params, view, task, KEY).code for view in (short, garbage)]
    np.testing.assert_allclose(*codes, atol=1e-6)


def test_the_whole_update_lowers_for_every_accelerator(method, data):
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), data)
    state = jax.eval_shape(method.init, KEY)
    key = jax.eval_shape(lambda: KEY)
    for phase in method.phases:
        exported = jax.export.export(update_fn(method, phase), platforms=("cpu", "cuda", "tpu"))(
            state, shapes, key
        )
        assert exported.platforms == ("cpu", "cuda", "tpu")
