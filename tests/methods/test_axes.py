"""Encoders, task losses and agents combine: every file of one kind with those of the others."""

from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import FrozenConfigDict

import make_config
from metastar import config, registry
from metastar.training import runs
from synthetic import point_robot_data, point_robot_spec

KEY = jax.random.key(0)
DATA = point_robot_data()
SPEC = point_robot_spec()._replace(num_policies=2, num_behaviors=2)
AXES = [registry.names(kind) for kind in ("encoder", "task loss", "agent")]
# Each file of each axis at least once: the axes go round side by side.
COVER = [tuple(axis[i % len(axis)] for axis in AXES) for i in range(max(map(len, AXES)))]


def made(encoder, task_loss, agent):
    """The method, and its first state, batch and update."""
    changes = {
        "encoder.name": encoder,
        f"encoder.{encoder}.context": "window",
        f"encoder.{encoder}.context_len": 6,
        "agent.name": agent,
        f"agent.{agent}.hidden": (8,),
        "task_losses.distance": 0.0,
        f"task_losses.{task_loss}": 1.0,
    }
    cfg = make_config.preset("contextual", "point_robot_sparse", "debug")
    method = runs.make_method(FrozenConfigDict(config.change(cfg, changes)), SPEC)
    (phase,) = method.phases

    def step(state):
        batch = phase.sample(DATA, KEY, 0)
        return phase.update(state, batch, KEY, method.hp, jnp.int32(0))

    return method, step


@pytest.mark.parametrize("axes", COVER, ids="-".join)
def test_a_cover_of_the_axes_can_be_trained(axes):
    method, step = made(*axes)
    state = jax.eval_shape(method.init, KEY)
    new, metrics = jax.eval_shape(step, state)
    assert jax.tree.map(jnp.shape, new) == jax.tree.map(jnp.shape, state)
    assert axes[1] in metrics and all(x.shape == () for x in metrics.values())


@pytest.mark.slow
@pytest.mark.parametrize("axes", list(product(*AXES)), ids="-".join)
def test_every_combination_trains_one_step(axes):
    method, step = made(*axes)
    state = method.init(KEY)
    new, metrics = jax.jit(step)(state)
    assert all(np.isfinite(x).all() for x in jax.tree.leaves((new, metrics)))
    for part, learner in state.items():
        moved = jax.tree.map(lambda a, b: (a != b).any(), learner.params, new[part].params)
        assert any(jax.tree.leaves(moved)), part
