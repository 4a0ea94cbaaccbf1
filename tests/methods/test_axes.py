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
# Each file of an axis with each file of the others, at least once: all pairs of the two longer
# axes, and the shortest goes round along both.
COVER = [
    (AXES[0][(i + j) % len(AXES[0])], task_loss, agent)
    for i, task_loss in enumerate(AXES[1])
    for j, agent in enumerate(AXES[2])
]


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


def test_the_cover_has_every_pair():
    for a, b in ((0, 1), (0, 2), (1, 2)):
        assert {(row[a], row[b]) for row in COVER} == set(product(AXES[a], AXES[b]))


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
