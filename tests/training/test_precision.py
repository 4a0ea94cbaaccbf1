import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import FrozenConfigDict

import make_config
from jaxprs import equations
from metastar import config
from metastar.errors import UserError
from metastar.models.nets.product import dot_general
from metastar.training import runs
from metastar.training.precision import bind
from synthetic import point_robot_data, point_robot_spec

KEY = jax.random.key(0)
HIGHEST = (jax.lax.Precision.HIGHEST,) * 2
LAYER = nn.Dense(3, dot_general=dot_general)


@pytest.fixture(scope="module")
def method():
    cfg = FrozenConfigDict(make_config.preset("metastar", "point_robot_sparse", "debug"))
    spec = point_robot_spec()
    return config.make(cfg, "method", cfg.method, spec)._replace(
        hp=runs.make_method(cfg, spec).hp  # without the precision of the config
    )


def traced(method):
    """Jaxpr and output shapes of a whole joint update."""
    phase, state, data = method.phases[1], jax.eval_shape(method.init, KEY), point_robot_data()
    batch = jax.eval_shape(phase.sample, data, KEY, 0)
    return jax.make_jaxpr(phase.update, return_shape=True)(state, batch, KEY, method.hp, 0)


def products(jaxpr):
    return [e for e in equations(jaxpr.jaxpr) if e.primitive.name == "dot_general"]


def test_every_product_of_an_update_is_asked_for_in_full(method):
    assert {e.params["precision"] for e in products(traced(bind(method, "float32"))[0])} == {
        HIGHEST
    }
    assert {e.params["precision"] for e in products(traced(method)[0])} == {None}


def test_products_are_in_bfloat16_and_nothing_that_lasts_is(method):
    jaxpr, (state, metrics) = traced(bind(method, "bfloat16"))
    kinds = [tuple(str(v.aval.dtype) for v in e.invars) for e in products(jaxpr)]
    rounded = [kind == ("bfloat16", "bfloat16") for kind in kinds]
    assert set(kinds) <= {("bfloat16",) * 2, ("float32",) * 2}  # none is half and half
    assert sum(rounded) > 100 and np.mean(rounded) > 0.8  # the rest is attention's
    assert not any(x.dtype == jnp.bfloat16 for x in jax.tree.leaves((state, metrics)))
    others = {"dot_general", "convert_element_type", "transpose", "reshape", "custom_vjp_call"}
    others |= {"jit", "pjit", "scan", "cond", "while", "broadcast_in_dim", "squeeze"}
    for e in equations(jaxpr.jaxpr):
        if any(getattr(v.aval, "dtype", None) == jnp.bfloat16 for v in e.invars):
            assert e.primitive.name in others, e.primitive.name  # no arithmetic but products


def layer(precision):
    """Value and gradients of a dense layer whose numbers bfloat16 cannot hold."""
    x, params = jnp.array([[1.001, 2.003]]), LAYER.init(KEY, jnp.ones((1, 2)))

    def loss(params, x):
        return (jnp.array([[1.0, 0.501, 2.0]]) * LAYER.apply(params, x)).sum()

    with jax.default_matmul_precision(precision):
        return jax.jit(jax.value_and_grad(loss, argnums=(0, 1)))(params, x), params, x


def test_a_layer_rounds_operands_and_adds_up_in_float32():
    (value, (grads, at_x)), params, x = layer("bfloat16")
    rounded = lambda x: np.asarray(jnp.asarray(x).astype(jnp.bfloat16), np.float32)  # noqa: E731
    weight = np.array([[1.0, 0.501, 2.0]], np.float32)
    kernel = params["params"]["kernel"]
    np.testing.assert_allclose(value, (weight * (rounded(x) @ rounded(kernel))).sum(), rtol=1e-6)
    by_hand = rounded(rounded(x).T @ rounded(weight)), rounded(weight) @ rounded(kernel).T
    np.testing.assert_allclose(grads["params"]["kernel"], by_hand[0], rtol=1e-6)
    np.testing.assert_allclose(at_x, by_hand[1], rtol=2**-7)  # XLA may leave out a rounding
    assert grads["params"]["kernel"].dtype == at_x.dtype == jnp.float32
    np.testing.assert_allclose(grads["params"]["bias"], weight[0], rtol=1e-6)  # is no product


def test_in_float32_a_layer_does_not_round():
    full, half = layer("float32")[0], layer("bfloat16")[0]
    assert full[0] != half[0]
    np.testing.assert_allclose(full[0], half[0], rtol=0.02)


def test_what_is_not_a_function_is_left_alone(method):
    bound = bind(method, "float32")
    assert bound.hp == method.hp and not bound.privileged and bound.task_model is None
    assert [phase.name for phase in bound.phases] == [phase.name for phase in method.phases]


def test_an_unknown_precision_is_refused():
    cfg = make_config.base()
    cfg.train.precision = "bfloat"
    with pytest.raises(UserError, match=r"train\.precision is 'bfloat'.*did you mean 'bfloat16'"):
        config.validate(cfg)
