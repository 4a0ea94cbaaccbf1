"""The robots are gymnasium's own: same start and actions, same observations, rewards and ends.

Needs what gymnasium's MuJoCo classes import: `pip install imageio`.
"""

from collections.abc import Mapping
from importlib import import_module
from typing import NamedTuple

import jax
import numpy as np
import pytest

import make_config
from metastar.envs import make

NO_CONTACTS = {"include_cfrc_ext_in_observation": False, "contact_cost_weight": 0.0}
PLAIN = {"scale": 1.0}
EAST = {"angle": 0.0}


class Case(NamedTuple):
    """A profile of a family, the task that is gymnasium's own robot, and its class."""

    family: str
    profile: str
    task: dict
    path: str  # of gymnasium.envs.mujoco
    obs: float  # largest difference in an observation
    reward: float  # in a reward: ants and humanoids are read before the last simulation step there
    settings: Mapping = {}
    frame_skip: int | None = None  # in place of the class's own


CASES = [
    Case("hopper_mass", "spc", PLAIN, "hopper_v5.HopperEnv", 1e-13, 1e-13),
    Case("hopper_friction", "default", PLAIN, "hopper_v4.HopperEnv", 1e-13, 1e-13),
    Case("walker_mass", "spc", PLAIN, "walker2d_v5.Walker2dEnv", 1e-11, 1e-11),
    Case("walker_mass", "default", PLAIN, "walker2d_v4.Walker2dEnv", 1e-11, 1e-11, frame_skip=5),
    Case("ant_dir", "spc", EAST, "ant_v5.AntEnv", 1e-6, 0.1, NO_CONTACTS),
    Case("humanoid_dir", "gym_solver", EAST, "humanoid_v4.HumanoidEnv", 1e-5, 0.2),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.family}-{case.profile}")
def test_gymnasium_gives_the_same_episode(case):
    pytest.importorskip("imageio", reason="gymnasium's MuJoCo classes import it")
    found = compare(case)
    assert len(found) > 10
    assert (found.max(0) <= [case.obs, case.reward]).all(), found.max(0)


def compare(case: Case, num_steps: int = 100) -> np.ndarray:
    """Differences in observation and reward of every step [T, 2] until the first end."""
    module, name = case.path.split(".")
    theirs = getattr(import_module(f"gymnasium.envs.mujoco.{module}"), name)(**case.settings)
    theirs.frame_skip = case.frame_skip or theirs.frame_skip
    fields = {"env.profile": case.profile, "simulator.threads": 1}
    env = make.make_env(make_config.base(family=case.family, **fields))
    spec = env.spec
    task = {key: np.array([value]) for key, value in case.task.items()}
    noise = jax.vmap(env.draw_reset)(jax.random.split(jax.random.key(0), 1))
    physics = env.prepare(task)
    state, obs = env.reset(jax.device_get(noise), task, physics)
    theirs.reset(seed=0)
    theirs.set_state(state.qpos[0], state.qvel[0])
    np.testing.assert_array_equal(theirs._get_obs()[: spec.obs_dim], obs[0])
    rng, differences = np.random.default_rng(0), []
    for _ in range(num_steps):
        action = rng.uniform(-1, 1, (1, spec.action_dim))
        state, ours = env.step(state, action, task, physics)
        scale = theirs.action_space.high
        expected, reward, terminated, _, _ = theirs.step(action[0] * scale)
        seen = np.abs(ours.obs[0] - expected[: spec.obs_dim]).max()
        differences.append([seen, abs(ours.reward[0] - reward)])
        assert terminated == ours.done[0]
        if terminated:
            break
    return np.array(differences)
