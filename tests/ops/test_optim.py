import jax
import jax.numpy as jnp
import numpy as np
import optax

from metastar.ops.optim import clip_norm, global_norm, gradient_step, make_optimizer


def loss(params, target):
    value = ((params["x"] - target) ** 2).sum()
    return value, {"loss": value}


PARAMS = {"x": jnp.array([1.0, -2.0])}


def test_one_step_of_adam_moves_by_the_learning_rate_against_the_gradient():
    optimizer = make_optimizer()
    step = gradient_step(loss, optimizer)
    params, _, metrics = step(PARAMS, optimizer.init(PARAMS), 0.1, jnp.zeros(2))
    np.testing.assert_allclose(params["x"], [0.9, -1.9], rtol=1e-6)
    np.testing.assert_allclose(metrics["loss"], 5)


def test_equals_plain_adam_over_several_steps():
    optimizer, adam = make_optimizer(), optax.adam(0.05)
    step = jax.jit(gradient_step(loss, optimizer))
    params, state = PARAMS, optimizer.init(PARAMS)
    expected, adam_state = PARAMS, adam.init(PARAMS)
    for t in range(4):
        target = jnp.full(2, float(t))
        params, state, _ = step(params, state, 0.05, target)
        grads = jax.grad(loss, has_aux=True)(expected, target)[0]
        updates, adam_state = adam.update(grads, adam_state)
        expected = optax.apply_updates(expected, updates)
    np.testing.assert_allclose(params["x"], expected["x"], rtol=1e-6)


def test_learning_rate_is_traced_and_fits_a_scan():
    optimizer = make_optimizer()
    traces = []

    @jax.jit
    def run(params, state, rates):
        traces.append(1)

        def body(carry, lr):
            params, state, _ = gradient_step(loss, optimizer)(*carry, lr, jnp.zeros(2))
            return (params, state), None

        return jax.lax.scan(body, (params, state), rates)[0]

    state = optimizer.init(PARAMS)
    frozen, _ = run(PARAMS, state, jnp.zeros(3))
    moved, new_state = run(PARAMS, state, jnp.array([0.1, 0.1, 0.1]))
    np.testing.assert_array_equal(frozen["x"], PARAMS["x"])
    np.testing.assert_allclose(moved["x"], [0.7, -1.7], atol=1e-2)
    assert len(traces) == 1
    assert jax.tree.map(jax.typeof, new_state) == jax.tree.map(jax.typeof, state)


def test_clipping_by_hand():
    grads = {"a": jnp.array([3.0]), "b": jnp.array([[4.0]])}
    np.testing.assert_allclose(global_norm(grads), 5)
    clipped = clip_norm(grads, 1.0)
    np.testing.assert_allclose([clipped["a"][0], clipped["b"][0, 0]], [0.6, 0.8], rtol=1e-5)
    same = clip_norm(grads, 6.0)
    np.testing.assert_array_equal(same["a"], grads["a"])


def test_optimizer_clips_before_adam():
    # Adam forgets the size of a gradient but not the ratio of two: (large, then small).
    def move(optimizer):
        step = gradient_step(loss, optimizer)
        params, state, _ = step(PARAMS, optimizer.init(PARAMS), 0.1, jnp.full(2, 1e3))
        return step(params, state, 0.1, jnp.full(2, 0.5))[0]["x"]

    assert np.abs(move(make_optimizer()) - move(make_optimizer(1.0))).max() > 1e-2
