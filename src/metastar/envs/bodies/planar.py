"""What the hopper and the walker share: planar robots that the literature simulates in many ways.

A `Setting` names what code bases mix up. Positions of both begin with x, height and angle of the
torso. Functions take states (`envs.state.State`) in NumPy or in `jax.numpy`.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from metastar.envs.bodies import legged
from metastar.envs.family import Body, Family
from metastar.envs.state import State
from metastar.types import EnvSpec

CONTROL_COST = 1e-3  # times |a|^2, in every code base
RESET_NOISE = 5e-3  # half width of the uniform noise on positions and velocities (gym)


class Robot(NamedTuple):
    """What no code base varies."""

    num_joints: int  # positions, and as many velocities
    num_motors: int


class Setting(NamedTuple):
    """How a code base simulates a robot and what it pays."""

    model: str  # file of gymnasium's
    timestep: float  # seconds of a simulation step
    frame_skip: int  # simulation steps per action
    alive: float  # reward of every step
    # (xp, state) -> bool [...]: whether the robot has fallen, which ends the episode; None: never
    fallen: Callable | None = None
    pays_fall: bool = True  # whether the step that ends the episode is paid `alive`
    place: bool = False  # whether x is observed
    clip: float | None = None  # velocities are observed within plus and minus this


def forward(xp, speed):
    """What Hopper and Walker pay beside `alive`: the speed."""
    return speed


def family(
    name: str,
    robot: Robot,
    settings: Mapping[str, Setting],
    *,
    pay: Callable = forward,
    edit: Callable,
    variants: Mapping[str, Mapping[str, Any]] = {},
    **fields,
) -> Family:
    """A family of a planar robot.

    Args:
        name: of its file.
        robot: the body.
        settings: by profile, "default" among them.
        pay: (xp, speed [...] in m/s) -> what a step pays beside survival and the control cost.
        edit: the physics of a task, as in `Body`.
        variants: further fields that a profile changes, as in `Family`.
        **fields: `law`, `label` and other fields of the record.
    """
    own = {
        profile: _fields(robot, setting, pay, edit) | dict(variants.get(profile, {}))
        for profile, setting in settings.items()
    }
    return Family(
        name=name,
        specs={profile: _spec(name, robot, setting) for profile, setting in settings.items()},
        start=legged.starts(RESET_NOISE, RESET_NOISE),
        variants={profile: values for profile, values in own.items() if profile != "default"},
        **own["default"],
        **fields,
    )


def _spec(name: str, robot: Robot, setting: Setting) -> EnvSpec:
    num_obs = 2 * robot.num_joints - (not setting.place)
    ends = setting.fallen is not None
    return EnvSpec(name, num_obs, robot.num_motors, legged.STEPS, done_ends_episode=ends)


def _fields(robot: Robot, setting: Setting, pay: Callable, edit: Callable) -> dict[str, Any]:
    """The fields of a `Family` that a setting decides."""
    dt = setting.timestep * setting.frame_skip

    def observe(xp, state: State, profile: str):
        qpos = state.qpos if setting.place else state.qpos[..., 1:]
        qvel = state.qvel
        if setting.clip is not None:
            qvel = xp.clip(qvel, -setting.clip, setting.clip)
        return xp.concatenate([qpos, qvel], -1)

    def reward(xp, before, after, action, task):
        speed = (after.qpos[..., 0] - before.qpos[..., 0]) / dt
        alive = setting.alive
        if setting.fallen is not None and not setting.pays_fall:
            alive = xp.where(setting.fallen(xp, after), 0.0, alive)
        return pay(xp, speed) + alive - CONTROL_COST * xp.square(action).sum(-1)

    def done(xp, before, after, action, task):
        return setting.fallen(xp, after)

    def positions(obs: np.ndarray, profile: str) -> np.ndarray:
        if setting.place:
            return obs[:, : robot.num_joints]
        joints = robot.num_joints - 1
        x = legged.travelled(obs[:, joints : joints + 1], dt)
        return np.concatenate([x, obs[:, :joints]], 1)

    body = Body(
        legged.resets(robot.num_joints, robot.num_joints, legged.uniform),
        model=setting.model,
        options={"timestep": setting.timestep},
        frame_skip=setting.frame_skip,
        dt=dt,
        edit=edit,
        positions=positions,
    )
    ends = done if setting.fallen is not None else None
    return {"observe": observe, "reward": reward, "done": ends, "body": body}
