"""MuJoCo's C engine behind the `Env` record: a whole batch of episodes in one call, on the host.

`mujoco.rollout` steps all streams of all tasks at once on a pool of threads; the numbers do not
depend on how many. The solver starts cold at every action, so that a step is a pure function of
state and action, whatever came before.
"""

import os
from typing import NamedTuple

import mujoco
import numpy as np
from ml_collections import ConfigDict
from mujoco.rollout import Rollout

from metastar.envs.backends import physics
from metastar.envs.state import State
from metastar.errors import Diverged
from metastar.types import Env, EnvSpec, StepOut

_TIME_TOLERANCE = 1e-6  # seconds


class Batch(NamedTuple):
    """The state of B streams, float64."""

    time: np.ndarray  # [B] seconds since the reset
    qpos: np.ndarray  # [B, P]
    qvel: np.ndarray  # [B, V]


def make_env(family, spec: EnvSpec, cfg: ConfigDict) -> Env:
    """Builds the simulator of a family that has a `BODY`.

    Args:
        family: the module.
        spec: sizes, of the profile `cfg.env.profile`.
        cfg: the config; `simulator.threads` is the size of the pool, 0 one per CPU core.

    Returns:
        A host `Env`: `reset(noise, task)` and `step(batch, action, task)` take NumPy arrays with
        a leading axis over streams. `step` raises `Diverged` for the first stream whose action is
        not finite or not in [-1, 1], or whose simulation breaks down.

    Raises:
        UserError: as `physics.load_model`.
    """
    body, profile = family.BODY, cfg.env.profile
    model = physics.load_model(body)
    rest = physics.rest_state(model)
    threads = cfg.simulator.threads or os.cpu_count() or 1
    pool = Rollout(nthread=threads if threads > 1 else 0)
    data = [mujoco.MjData(model) for _ in range(threads)]
    seconds = model.opt.timestep * body.FRAME_SKIP

    def reset(noise, task):
        qpos, qvel = body.start(np, State(*map(np.asarray, noise)), rest, task)
        state = State(qpos.astype(float), qvel.astype(float))
        time = np.zeros(len(state.qpos))
        return Batch(time, *state), body.observe(np, state, profile)

    def step(batch, action, task):
        _check_action(action)
        control = np.asarray(physics.control(model, np, action), float)
        control = np.repeat(control[:, None], body.FRAME_SKIP, 1)
        start = np.concatenate([batch.time[:, None], batch.qpos, batch.qvel], 1)
        path, _ = pool.rollout(model, data, start, control)
        end = path[:, -1]
        after = State(end[:, 1 : 1 + model.nq], end[:, 1 + model.nq :])
        _check_state(end, batch.time + seconds)
        before = State(batch.qpos, batch.qvel)
        out = StepOut(
            obs=body.observe(np, after, profile),
            reward=family.reward(np, before, after, action, task),
            done=family.done(np, before, after, action, task),
        )
        return Batch(end[:, 0], *after), out

    return Env(spec, body.draw_reset, reset, step, on_host=True)


def _check_action(action: np.ndarray) -> None:
    finite = np.isfinite(action).all(1)
    if not finite.all():
        raise Diverged(int(np.argmin(finite)), "the policy's action is not finite")
    inside = (np.abs(action) <= 1).all(1)
    if not inside.all():
        raise Diverged(int(np.argmin(inside)), "the policy's action leaves [-1, 1]")


def _check_state(end: np.ndarray, expected_time: np.ndarray) -> None:
    """The engine answers a breakdown with finite states that repeat and a clock that stands."""
    sound = np.isfinite(end).all(1) & (np.abs(end[:, 0] - expected_time) < _TIME_TOLERANCE)
    if not sound.all():
        raise Diverged(int(np.argmin(sound)), "the simulation broke down")
