"""Environments of gymnasium behind the `Env` record: one for each stream, stepped on the host.

`family(SPEC, make, label)` makes a task family of a function that builds the environment of one
task. An environment says by itself where it starts, what it shows and pays, and when it terminates;
here actions are scaled from [-1, 1] to its own range, and whatever does not fit the family's sizes
is refused. A new environment is built for every episode and closed at its end, so that no two
streams share one.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import gymnasium
import jax
import numpy as np
from ml_collections import ConfigDict

from metastar.envs.family import Body, Family
from metastar.errors import Diverged, UserError
from metastar.types import Array, Env, EnvSpec, StepOut


class Batch(NamedTuple):
    """B streams in the middle of an episode. Stepping moves the environments themselves."""

    envs: Sequence[gymnasium.Env]
    obs: np.ndarray  # [B, O] what each saw last
    over: np.ndarray  # [B] bool: terminated before
    steps: int = 0  # since the reset


def family(spec: EnvSpec, make: Callable, label: Callable, law: Callable | None = None) -> Family:
    """A task family of environments of gymnasium, for a file that defines `FAMILY`.

    Args:
        spec: its name, which is that of the file, and the sizes of every environment of it;
            `done_ends_episode` if its environments terminate.
        make: (task) -> `gymnasium.Env` of that task, {name: number or array}. Observations and
            actions are vectors (`Box` of one axis); actions have bounds.
        label: (tasks, leaves [N, ...]) -> (name with its unit, [N]): the number that plots show.
        law: (rng, num) -> tasks, leaves [num, ...]; None for a family whose tasks come with its
            data only.
    """
    return Family(
        name=spec.name,
        specs={"default": spec},
        law={} if law is None else {"own": law},
        label=label,
        start=None,
        observe=None,
        reward=None,
        body=Body(_draw_seed, make=make),
        backend="gym",
    )


def make_env(family: Family, profile: str, cfg: ConfigDict) -> Env:
    """Builds the simulator of a family that `family` made.

    Args:
        family: the record; its body's `make` builds the environment of a task.
        profile: of the observation.
        cfg: the config; unused.

    Returns:
        A host `Env`. `prepare(tasks)` builds the environment of every task once and closes it, and
        `reset` those of the streams; both raise `UserError` if one cannot be built or does not fit
        `family.specs`. `step` raises `Diverged` for the first stream whose environment fails, gives
        what is no finite number, or ends an episode where the family's sizes say it cannot.
    """
    spec, make = family.specs[profile], family.body.make

    def prepare(tasks):
        for n in range(len(jax.tree.leaves(tasks)[0])):
            _built(spec, make, _row(tasks, n), n).close()
        return ()

    def reset(noise, task, physics):
        envs, obs = [], []
        for b, seed in enumerate(np.asarray(noise)):
            envs.append(_built(spec, make, _row(task, b), b))
            try:
                seen, _ = envs[-1].reset(seed=int(seed))
                obs.append(_vector(seen, spec.obs_dim))
            except Exception as error:
                raise UserError(
                    f"an environment of family {spec.name!r} fails in reset ({_said(error)}); mend "
                    "its class"
                ) from error
        obs = np.stack(obs)
        return Batch(envs, obs, np.zeros(len(envs), bool)), obs

    def step(batch, action, task, physics):
        steps = batch.steps + 1
        obs, reward = batch.obs.copy(), np.zeros(len(batch.envs))
        done = np.zeros(len(batch.envs), bool)
        for b in np.flatnonzero(~batch.over):
            obs[b], reward[b], done[b] = _stepped(spec, batch.envs[b], action[b], steps, int(b))
            if done[b] or steps == spec.max_episode_steps:
                batch.envs[b].close()
        return Batch(batch.envs, obs, batch.over | done, steps), StepOut(obs, reward, done)

    return Env(spec, family.body.draw_reset, reset, step, on_host=True, prepare=prepare)


def _draw_seed(key: Array) -> Array:
    """What an environment is reset with: [] uint32."""
    return jax.random.bits(key)


def _row(tasks, n: int):
    return jax.tree.map(lambda x: np.asarray(x)[n], tasks)


def _built(spec: EnvSpec, make: Callable, task, n: int) -> gymnasium.Env:
    """The environment of a task; raises `UserError` if there is none that fits the sizes."""
    try:
        env = make(task)
    except Exception as error:
        raise UserError(
            f"family {spec.name!r} cannot make the environment of task {n} of the batch "
            f"({_said(error)}); mend the function `make` of its file"
        ) from error
    if not isinstance(env, gymnasium.Env):
        raise UserError(
            f"family {spec.name!r} makes a {type(env).__name__} of task {n} of the batch; its "
            "function `make` must return a gymnasium.Env"
        )
    sizes = ("observation_space", "obs_dim"), ("action_space", "action_dim")
    for name, size in sizes:
        space, num = getattr(env, name), getattr(spec, size)
        if not isinstance(space, gymnasium.spaces.Box) or space.shape != (num,):
            raise UserError(
                f"the {name} of an environment of family {spec.name!r} is {space}, but must be a "
                f"Box of shape ({num},); wrap the environment, or mend {size} in the family's sizes"
            )
    if not env.action_space.is_bounded():
        raise UserError(
            f"the action_space of an environment of family {spec.name!r} is {env.action_space}, "
            "without bounds to scale actions to; give it some"
        )
    return env


def _stepped(spec: EnvSpec, env: gymnasium.Env, action: np.ndarray, steps: int, b: int):
    """One step of one stream: observation [O], reward, terminated."""
    if not np.isfinite(action).all():
        raise Diverged(b, "the policy's action is not finite")
    low, high = env.action_space.low, env.action_space.high
    control = np.clip((low + high) / 2 + (high - low) / 2 * action, low, high)
    try:
        seen, paid, terminated, truncated, _ = env.step(control.astype(env.action_space.dtype))
        obs, reward = _vector(seen, spec.obs_dim), float(_vector(paid))
    except Exception as error:
        raise Diverged(b, f"the environment fails in step ({_said(error)})") from error
    if terminated and not spec.done_ends_episode:
        raise Diverged(
            b, "the environment terminated, but its EnvSpec lacks done_ends_episode=True,"
        )
    if truncated and steps < spec.max_episode_steps:
        raise Diverged(
            b,
            f"the environment cut its episode after {steps} steps, but its EnvSpec says "
            f"max_episode_steps={spec.max_episode_steps},",
        )
    return obs, reward, bool(terminated)


def _vector(value: Any, *shape: int) -> np.ndarray:
    """Finite numbers of a shape; raises `ValueError` for anything else."""
    array = np.asarray(value, float)
    if array.shape != shape or not np.isfinite(array).all():
        due = f"{shape} finite numbers are" if shape else "one finite number is"
        raise ValueError(f"it gives {value!r} where {due} due")
    return array


def _said(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())
