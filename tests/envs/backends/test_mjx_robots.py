"""MJX against MuJoCo's C engine on the ant, the hopper, the walker and the humanoid.

As for the cheetah in `test_mjx.py`: action by action from the C engine's own states for actions of
any size, which robots with contacts turn into chaos, and over 50 actions where these are gentle.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import make_config
from metastar.envs import make
from metastar.envs.backends import mjx, mujoco_c
from metastar.envs.state import State

BATCH, STEPS = 4, 50


class Case(NamedTuple):
    """Largest differences of float32 from the C engine, per action and over 50 gentle ones."""

    family: str
    profile: str
    qpos: float  # action by action
    obs: float
    reward: float
    gentle: float  # of positions, after 50 actions


# About five times what was measured: see docs/families.md.
CASES = [
    Case("ant_dir", "er_trl", 1e-3, 1e-1, 1e-1, 1e-3),
    Case("hopper_param", "csro", 1e-3, 1e-1, 1e-1, 1e-3),
    Case("hopper_mass", "default", 1e-3, 1e-1, 1e-1, 1e-3),
    Case("walker_param", "focal", 1e-3, 1e-1, 1e-1, 1e-3),
    Case("walker_friction", "spc", 1e-3, 1e-1, 1e-1, 1e-3),
    Case("humanoid_dir", "default", 1e-3, 1e-1, 1e-1, 1e-3),
]


def engines(case: Case):
    family = make.family_of(case.family, case.profile)
    cfg = make_config.base(family=case.family, **{"env.profile": case.profile})
    return [backend.make_env(family, case.profile, cfg) for backend in (mujoco_c, mjx)], family


@functools.cache
def compiled(case: Case):
    """Both simulators, four tasks with their physics on each, and MJX's compiled batch step."""
    (host, env), family = engines(case)
    tasks = family.law["own"](np.random.default_rng(0), BATCH)
    physics = host.prepare(tasks), env.prepare(tasks)
    step = jax.jit(jax.vmap(env.step))
    return host, env, tasks, physics, step


def started(case: Case):
    host, env, tasks, (models, arrays), step = compiled(case)
    noise = jax.vmap(env.draw_reset)(jax.random.split(jax.random.key(0), BATCH))
    batch, obs = host.reset(jax.device_get(noise), tasks, models)
    state, ours = jax.vmap(env.reset)(noise, tasks, arrays)
    np.testing.assert_allclose(ours, obs, atol=1e-6)

    def play(batch, state, action):
        batch, theirs = host.step(batch, action, tasks, models)
        state, ours = step(state, jnp.asarray(action), tasks, arrays)
        return batch, state, theirs, ours

    return batch, state, play


def actions(case: Case, scale):
    size = STEPS, BATCH, make.spec_of(case.family, case.profile).action_dim
    return scale * np.random.default_rng(1).uniform(-1, 1, size).astype(np.float32)


def worst(ours, theirs):
    return np.abs(np.array(ours, float) - np.array(theirs, float)).max()


def names(case):
    return f"{case.family}-{case.profile}"


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES, ids=names)
def test_float32_agrees_action_by_action(case):
    batch, state, play = started(case)
    found = []
    for action in actions(case, 1.0):
        batch, state, theirs, ours = play(batch, state, action)
        found.append(
            (
                worst(state.qpos, batch.qpos),
                worst(ours.obs, theirs.obs),
                worst(ours.reward, theirs.reward),
            )
        )
        np.testing.assert_array_equal(ours.done, theirs.done)
        state = State(*(jnp.asarray(x, jnp.float32) for x in (batch.qpos, batch.qvel)))
        batch = batch._replace(qpos=np.array(state.qpos, float), qvel=np.array(state.qvel, float))
    assert (np.max(found, 0) < [case.qpos, case.obs, case.reward]).all(), np.max(found, 0)


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES, ids=names)
def test_float32_agrees_over_50_gentle_actions(case):
    batch, state, play = started(case)
    for action in actions(case, 0.1):
        batch, state, _, _ = play(batch, state, action)
    assert worst(state.qpos, batch.qpos) < case.gentle, worst(state.qpos, batch.qpos)
