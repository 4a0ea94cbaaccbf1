"""Which states the CQL penalty is about, and what an update is without one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import make_config
from metastar.agents import conservative as agents
from metastar.data.rows import Transitions
from metastar.types import RowSpec
from model_helpers import ACTION, AGENT_HP, OBS

TASKS, REAL, IMAGINED = 2, 4, 4
SIZE = REAL + IMAGINED
ROWS = RowSpec(ACTION, SIZE, IMAGINED)


def make_cfg(penalty, most=0):
    cfg = make_config.base().agent.conservative
    cfg.update(hidden=(8,), penalty=penalty, cql_states=most, num_actions=2)
    return cfg


def make_rows():
    """The reward numbers the rows, task by task."""
    keys = jax.random.split(jax.random.key(0), 3)
    num = TASKS * SIZE
    obs, next_obs = jax.random.normal(keys[0], (2, num, OBS + 3))
    return Transitions(
        obs_code=obs,
        action=jax.random.uniform(keys[1], (num, ACTION), minval=-1, maxval=1),
        reward=jnp.arange(num, dtype=jnp.float32),
        next_obs_code=next_obs,
        done=jnp.zeros(num, bool),
        real=jnp.tile(jnp.arange(SIZE) < REAL, TASKS),
    )


def check_combo(choose):
    """Rows 4 to 7 of each eight are imagined."""
    for most, expected in ((0, [4, 5, 6, 7, 12, 13, 14, 15]), (2, [4, 6, 12, 14]), (1, [4, 12])):
        states = choose(make_rows(), make_cfg("combo", most), ROWS)
        assert states.reward.tolist() == expected and not states.real.any()


def test_combo_pushes_down_values_at_imagined_states_alone():
    check_combo(agents.cql_rows)


def test_states_of_the_data_are_found():
    with pytest.raises(AssertionError):
        check_combo(lambda *args: agents.cql_rows(*args[:2], ROWS._replace(imagined=0)))


def test_cql_takes_both_kinds_and_so_does_an_agent_that_imagines_nothing():
    rows = make_rows()
    for cfg, imagined in ((make_cfg("cql", 4), IMAGINED), (make_cfg("combo", 4), 0)):
        states = agents.cql_rows(rows, cfg, ROWS._replace(imagined=imagined))
        assert states.reward.tolist() == [0, 2, 4, 6, 8, 10, 12, 14]


def updated(penalty, **hp):
    agent = agents.make(make_cfg(penalty), ROWS)
    learner = agent.init(jax.random.key(1), OBS + 3)
    arguments = make_rows(), jax.random.key(2), AGENT_HP | hp, 0
    learner, metrics = jax.jit(agent.update)(learner, *arguments)
    return learner.params, metrics


def test_without_a_term_on_values_the_update_is_that_of_weight_zero():
    params, metrics = updated("reward_uncertainty")
    assert metrics["conservative"] == 0
    unweighted, _ = updated("cql", beta=0.0)
    for a, b in zip(jax.tree.leaves(params), jax.tree.leaves(unweighted)):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)
    weighted, metrics = updated("combo")
    assert metrics["conservative"] != 0
    moved = jax.tree.map(lambda a, b: np.abs(a - b).max(), params["critic"], weighted["critic"])
    assert max(jax.tree.leaves(moved)) > 1e-6
