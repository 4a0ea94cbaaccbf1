"""A chunk of updates is one program that keeps to the device."""

from collections import Counter

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import FrozenConfigDict

import make_config
from fake_method import make_data, make_method
from jaxprs import equations
from metastar import registry
from metastar.training import runs
from metastar.training.chunk import init, make_chunk
from synthetic import point_robot_data, point_robot_spec

KEY = jax.random.key(0)
HOST = ("callback", "infeed", "outfeed", "debug", "io_effect")


def reaches_of_the_host(method, phase, data):
    """Names of the primitives of a phase's chunk that wait for the host or call it.

    That it can be traced as a whole says that nothing inside reads a number from the device.
    """
    loop = init(method, KEY)
    chunk = make_chunk(phase, 0, 3, 2, Counter())
    hp = jax.tree.map(jnp.asarray, method.hp)
    jaxpr = jax.make_jaxpr(chunk)(loop, data, KEY, hp, jnp.int32(0), jnp.int32(3))
    names = [eqn.primitive.name for eqn in equations(jaxpr.jaxpr)]
    assert "scan" in names
    return [name for name in names if any(word in name for word in HOST)]


@pytest.mark.parametrize("name", registry.names("method"))
def test_a_chunk_never_calls_the_host(name):
    cfg = FrozenConfigDict(make_config.preset(name, "point_robot_sparse", "debug"))
    method = runs.make_method(cfg, point_robot_spec())
    for phase in method.phases:
        assert not reaches_of_the_host(method, phase, point_robot_data())


def test_a_print_and_a_callback_in_an_update_are_found():
    method = make_method()
    phase = method.phases[1]
    assert not reaches_of_the_host(method, phase, make_data())

    def printing(state, batch, key, hp, step):
        jax.debug.print("{}", step)
        return phase.update(state, batch, key, hp, step)

    def calling(state, batch, key, hp, step):
        shape = jax.ShapeDtypeStruct((), jnp.float32)
        state, metrics = phase.update(state, batch, key, hp, step)
        return state, metrics | {"host": jax.pure_callback(lambda x: x, shape, metrics["loss"])}

    for update in (printing, calling):
        assert reaches_of_the_host(method, phase._replace(update=update), make_data())


def test_a_read_of_a_number_inside_an_update_is_found():
    method = make_method()
    phase = method.phases[1]

    def reading(state, batch, key, hp, step):
        state, metrics = phase.update(state, batch, key, hp, step)
        return state, {"loss": metrics["loss"] if float(metrics["loss"]) > 0 else 0.0}

    with pytest.raises(jax.errors.ConcretizationTypeError):
        reaches_of_the_host(method, phase._replace(update=reading), make_data())


def test_the_state_gives_its_buffers_to_the_next_one_and_the_data_do_not():
    method, data = make_method(), jax.device_put(make_data())
    loop = init(method, KEY)
    chunk = make_chunk(method.phases[1], 0, 3, 2, Counter())
    new, _ = chunk(loop, data, KEY, method.hp, np.int32(0), np.int32(3))
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(loop))
    assert not any(leaf.is_deleted() for leaf in jax.tree.leaves((data, new)))
