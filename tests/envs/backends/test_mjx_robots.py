"""MJX against MuJoCo's C engine on the ant, the hopper, the walker and the humanoid.

As of the cheetah in `test_mjx.py`: float32 action by action from the C engine's own states, since
robots in contact with the ground are chaotic, and float64 over 50 actions of any size.
"""

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
    """Largest differences from the C engine in positions, observations and rewards."""

    family: str
    profile: str
    single: tuple[float, float, float]  # float32, action by action
    double: tuple[float, float, float]  # float64, over 50 actions


# About five times what was measured, which docs/families.md has; at least 1e-9 in float64.
CASES = [
    Case("ant_dir", "er_trl", (1e-5, 1e-3, 1e-4), (2e-9, 1e-8, 5e-9)),
    Case("hopper_param", "csro", (1e-4, 5e-2, 1e-3), (2e-4, 2e-3, 5e-4)),
    Case("hopper_mass", "default", (2e-6, 2e-5, 2e-5), (1e-9, 1e-9, 1e-9)),
    Case("walker_param", "focal", (2e-5, 2e-3, 2e-4), (1e-9, 1e-9, 1e-9)),
    Case("walker_friction", "spc", (3e-6, 6e-4, 2e-5), (1e-9, 1e-9, 1e-9)),
    Case("humanoid_dir", "default", (5e-6, 6e-4, 5e-5), (1e-4, 2e-3, 5e-5)),
]


def engines(case: Case):
    family = make.family_of(case.family, case.profile)
    cfg = make_config.base(family=case.family, **{"env.profile": case.profile})
    return [backend.make_env(family, case.profile, cfg) for backend in (mujoco_c, mjx)], family


def started(case: Case):
    """Four tasks with their physics on both engines, and a function that steps both."""
    (host, env), family = engines(case)
    tasks = family.law["own"](np.random.default_rng(0), BATCH)
    models, arrays = host.prepare(tasks), env.prepare(tasks)
    step = jax.jit(jax.vmap(env.step))
    noise = jax.vmap(env.draw_reset)(jax.random.split(jax.random.key(0), BATCH))
    batch, obs = host.reset(jax.device_get(noise), tasks, models)
    state, ours = jax.vmap(env.reset)(noise, tasks, arrays)
    np.testing.assert_allclose(ours, obs, atol=1e-6)

    def play(batch, state, action):
        batch, theirs = host.step(batch, action, tasks, models)
        state, ours = step(state, jnp.asarray(action), tasks, arrays)
        return batch, state, theirs, ours

    return batch, state, play


def actions(case: Case):
    size = STEPS, BATCH, make.spec_of(case.family, case.profile).action_dim
    real = jnp.zeros(()).dtype
    return np.random.default_rng(1).uniform(-1, 1, size).astype(real)


def worst(ours, theirs):
    return np.abs(np.array(ours, float) - np.array(theirs, float)).max()


def differences(batch, state, theirs, ours):
    np.testing.assert_array_equal(ours.done, theirs.done)
    pairs = (state.qpos, batch.qpos), (ours.obs, theirs.obs), (ours.reward, theirs.reward)
    return [worst(*pair) for pair in pairs]


by_name = pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.family}-{case.profile}")


@pytest.mark.slow
@by_name
def test_float32_agrees_action_by_action(case):
    batch, state, play = started(case)
    found = []
    for action in actions(case):
        batch, state, theirs, ours = play(batch, state, action)
        found.append(differences(batch, state, theirs, ours))
        state = State(*(jnp.asarray(x, jnp.float32) for x in (batch.qpos, batch.qvel)))
        batch = batch._replace(qpos=np.array(state.qpos, float), qvel=np.array(state.qvel, float))
    found = np.max(found, 0)
    assert (found < case.single).all(), found


@pytest.mark.slow
@by_name
def test_float64_agrees_over_50_actions_of_any_size(case, x64):
    batch, state, play = started(case)
    found = []
    for action in actions(case):
        batch, state, theirs, ours = play(batch, state, action)
        found.append(differences(batch, state, theirs, ours))
    assert ours.obs.dtype == jnp.float64
    found = np.max(found, 0)
    assert (found < case.double).all(), found
