"""MuJoCo's C engine behind the `Env` record: a whole batch of episodes in one call, on the host.

`mujoco.rollout` steps all streams of all tasks at once on a pool of threads; the numbers do not
depend on how many. The solver starts without a warm start at every action, so that a step is a pure
function of state and action. A robot whose episode has ended is not simulated on.
"""

import os
from typing import NamedTuple

import mujoco
import numpy as np
from ml_collections import ConfigDict
from mujoco.rollout import Rollout

from metastar.envs.backends import physics
from metastar.envs.family import Family
from metastar.envs.outcome import outcome
from metastar.envs.state import State
from metastar.errors import Diverged
from metastar.types import Env

_TIME_TOLERANCE = 1e-6  # seconds


class Batch(NamedTuple):
    """The state of B streams, float64."""

    time: np.ndarray  # [B] seconds since the reset
    qpos: np.ndarray  # [B, P]
    qvel: np.ndarray  # [B, V]
    over: np.ndarray  # [B] bool, whether the episode has ended: then the robot stays as it is


def make_env(family: Family, profile: str, cfg: ConfigDict) -> Env:
    """Builds the simulator of a family whose body has a model file.

    Args:
        family: the record; its body's `edit` changes a `mujoco.MjModel`.
        profile: of the observation.
        cfg: the config; `simulator.threads` is the size of the pool, 0 one per core
            that this process may use.

    Returns:
        A host `Env`: `reset(noise, task, models)` and `step(batch, action, task, models)` take
        NumPy arrays with a leading axis over streams; `models` holds a `mujoco.MjModel` for each
        if the body has an edit. A stream whose episode has ended keeps its state. `step` raises
        `Diverged` for the first stream whose action is not finite or not in [-1, 1], or whose
        simulation breaks down.

    Raises:
        UserError: as `physics.load_model`.
    """
    body, spec = family.body, family.specs[profile]
    model = physics.load_model(body)
    rest = physics.rest_state(model)
    threads = cfg.simulator.threads or _num_cores()
    pool = Rollout(nthread=threads if threads > 1 else 0)
    data = [mujoco.MjData(model) for _ in range(threads)]
    seconds = model.opt.timestep * body.frame_skip

    def prepare(tasks):
        if body.edit is None:
            return ()
        return np.array(physics.edited_models(model, body, tasks), object)

    def reset(noise, task, models):
        origin = rest
        if body.edit is not None:
            origin = State(np.stack([own.qpos0 for own in models]), rest.qvel)
        qpos, qvel = family.start(np, State(*map(np.asarray, noise)), origin, task)
        state = State(qpos.astype(float), qvel.astype(float))
        num = len(state.qpos)
        begun = Batch(np.zeros(num), *state, over=np.zeros(num, bool))
        return begun, family.observe(np, state, profile)

    def step(batch, action, task, models):
        _check_action(action)
        going = np.flatnonzero(~batch.over)
        control = np.asarray(physics.control(model, np, action[going]), float)
        control = np.repeat(control[:, None], body.frame_skip, 1)
        start = np.concatenate([batch.time[:, None], batch.qpos, batch.qvel], 1)
        end = start.copy()
        if going.size:
            own = list(models[going]) if body.edit else model
            path, _ = pool.rollout(own, data, start[going], control)
            end[going] = path[:, -1]
        _check_state(end, start[:, 0] + seconds, going)
        before = State(batch.qpos, batch.qvel)
        after = State(end[:, 1 : 1 + model.nq], end[:, 1 + model.nq :])
        out = outcome(np, family, profile, before, after, action, task)
        over = batch.over | out.done if spec.done_ends_episode else batch.over
        return Batch(end[:, 0], *after, over), out

    return Env(spec, body.draw_reset, reset, step, on_host=True, prepare=prepare)


def _check_action(action: np.ndarray) -> None:
    finite = np.isfinite(action).all(1)
    if not finite.all():
        raise Diverged(int(np.argmin(finite)), "the policy's action is not finite")
    inside = (np.abs(action) <= 1).all(1)
    if not inside.all():
        raise Diverged(int(np.argmin(inside)), "the policy's action leaves [-1, 1]")


def _check_state(end: np.ndarray, expected_time: np.ndarray, going: np.ndarray) -> None:
    """Raises `Diverged` for the first of the streams `going` whose simulation broke down.

    The engine then returns finite states that repeat, and its clock stands still.
    """
    sound = np.isfinite(end).all(1) & (np.abs(end[:, 0] - expected_time) < _TIME_TOLERANCE)
    if not sound[going].all():
        raise Diverged(int(going[np.argmin(sound[going])]), "the simulation broke down")


def _num_cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
