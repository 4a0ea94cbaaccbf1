"""What `metastar bench env` times: rollouts, and what they add to the simulator's own loop."""

import os
from collections import Counter
from collections.abc import Callable

import jax
import mujoco
import numpy as np
from mujoco.rollout import Rollout

from metastar.envs.backends import physics
from metastar.envs.family import Family
from metastar.envs.make import family_of, make_env, profile_of
from metastar.envs.rollout import make_rollout, no_adaptation, uniform_policy
from metastar.tools.bench.cases import Case, of_tasks, rollout_case, shortened
from metastar.tools.bench.setting import Setting
from metastar.types import Env

RAW, STEPS = "mujoco.rollout", "env.step"


def cases(name: str, setting: Setting, max_steps: int) -> list[Case]:
    """An episode under uniform actions in `eval.windows` streams of every task, all in parallel.

    On MuJoCo's C engine two loops come first, over the same number of streams and with the actions
    drawn beforehand: `mujoco.rollout` by itself, to whose time those of the others are relative,
    and `env.step`, which adds our checks, observations, rewards and ends.

    Args:
        name: of the rollout.
        setting: its config and its tasks; nothing else is used.
        max_steps: steps of an episode at most; 0 leaves them as they are.
    """
    cfg = setting.cfg
    env = shortened(of_tasks(make_env(cfg), setting.all.task), max_steps)
    family = family_of(cfg.family, profile_of(cfg))
    made = [_rollout(name, setting, env)]
    if env.on_host and family.body.model:
        threads = cfg.simulator.threads or os.cpu_count() or 1
        calls = loops(family, env, setting.all.task, cfg.eval.windows, threads)
        units = setting.all.count.shape[0] * cfg.eval.windows * env.spec.max_episode_steps
        made = [
            Case(loop, "env step", units, call, Counter(), compile_seconds=0.0)
            for loop, call in calls.items()
        ] + made
    return made


def loops(family: Family, env: Env, tasks, num_streams: int, threads: int) -> dict[str, Callable]:
    """The loop of the C engine without and with our layer; both return the last state [B, P + V].

    They make the same steps from the same starts: ours, too, simulates on after an episode's end.

    Args:
        family: its record.
        env: its simulator.
        tasks: leaves [N, ...].
        num_streams: of each task; B is N times that.
        threads: of the engine.
    """
    task, models = jax.tree.map(
        lambda x: np.repeat(np.asarray(x), num_streams, 0), (tasks, env.prepare(tasks))
    )
    batch = len(jax.tree.leaves(task)[0])
    noise = jax.vmap(env.draw_reset)(jax.random.split(jax.random.key(0), batch))
    start, _ = env.reset(jax.device_get(noise), task, models)
    shape = (env.spec.max_episode_steps, batch, env.spec.action_dim)
    actions = np.random.default_rng(0).uniform(-1, 1, shape)
    model = physics.load_model(family.body)
    pool = Rollout(nthread=threads if threads > 1 else 0)
    data = [mujoco.MjData(model) for _ in range(threads)]
    control = np.asarray(physics.control(model, np, actions), float)

    def raw():
        state = np.concatenate([start.time[:, None], start.qpos, start.qvel], 1)
        for now in control:
            held = np.repeat(now[:, None], family.body.frame_skip, 1)
            state = pool.rollout(list(models) or model, data, state, held)[0][:, -1]
        return state[:, 1:]

    def steps():
        state = start
        for action in actions:
            state, _ = env.step(state._replace(over=start.over), action, task, models)
        return np.concatenate([state.qpos, state.qvel], 1)

    return {RAW: raw, STEPS: steps}


def _rollout(name: str, setting: Setting, env: Env) -> Case:
    """Keys, jitted policy and record included."""
    cfg = setting.cfg
    run = make_rollout(env, uniform_policy(env.spec.action_dim), 1)
    streams = setting.all.count.shape[0], cfg.eval.windows
    arguments = (), no_adaptation(*streams), setting.all.task, jax.random.key(cfg.seed)
    units = streams[0] * streams[1] * env.spec.max_episode_steps
    case = rollout_case(name, env, run, arguments, units, Counter())
    if not env.on_host:
        return case
    # On a host a robot whose episode has ended is not simulated on.
    return case._replace(units=int(case.call().valid.sum()))
