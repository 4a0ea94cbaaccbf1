"""The rollout on a host simulator: a jitted step of the policy, then one call of the simulator."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from metastar.envs.streams import begin_stream, keys_of_streams, next_step, where
from metastar.errors import Diverged, UserError
from metastar.types import Env, Policy, Trajectory


def make_host_rollout(
    env: Env, policy: Policy, episodes: int, greedy: bool, params_axis: int | None
) -> Callable:
    """`envs.rollout.make_rollout` for a simulator on the host; call it through that function.

    Of N tasks with W streams each, the policy's carry, observations [N, W, O] and actions [N, W, A]
    have the leading axes [N, W]; the simulator takes and returns NumPy arrays [N * W, ...].
    """
    spec = env.spec

    def over_streams(f, num_shared, num_own):
        """Vmaps f(params, shared ..., own ...) over tasks and the streams of each."""
        shared, own = [None] * num_shared, [0] * num_own
        inner = jax.vmap(f, in_axes=(None, *shared, *own))
        return jax.vmap(inner, in_axes=(params_axis, *shared, *own))

    def begin_one(params, adaptation, key):
        return begin_stream(env, policy, params, adaptation, key, episodes)

    def act_one(params, episode, step, adaptation, step_keys, memory, previous, obs, alive):
        """One step of one stream: action [A] and the policy's new carry."""
        key, time = step_keys[episode, step], episode * spec.max_episode_steps + step
        action, acted = next_step(
            policy, params, adaptation, memory, previous, obs, time, step == 0, key, greedy
        )
        if spec.done_ends_episode:
            acted = where(alive, acted, memory)
        return action, acted

    begin = jax.jit(over_streams(begin_one, 0, 2))
    act = jax.jit(over_streams(act_one, 2, 6))

    def run(params, adaptation, tasks, key):
        """(params, leaves [N, W, ...], leaves [N, ...], key) -> Trajectory [N, W, episodes, T]."""
        streams = jax.tree.leaves(adaptation)[0].shape[:2]
        begun = begin(params, adaptation, keys_of_streams(key, streams))
        memory, previous = begun.memory, jax.device_get(begun.previous)
        noise = jax.device_get(begun.reset_noise)
        tasks, physics = jax.tree.map(
            lambda x: np.repeat(np.asarray(x), streams[1], 0), (tasks, env.prepare(tasks))
        )
        record = None
        for e in range(episodes):
            start = jax.tree.map(lambda x, e=e: _flat(x[:, :, e]), noise)
            state, obs = env.reset(start, tasks, physics)
            obs, alive = obs.reshape(*streams, -1), np.ones(streams, bool)
            for t in range(spec.max_episode_steps):
                place = np.int32(e), np.int32(t)
                seen = adaptation, begun.step_keys, memory, previous, obs, alive
                action, memory = act(params, *place, *seen)
                action = np.asarray(action)
                try:
                    state, out = env.step(state, _flat(action), tasks, physics)
                except Diverged as error:
                    raise UserError(
                        f"{error.reason} in task {error.stream // streams[1]} of the batch, "
                        f"episode {e}, step {t} of {spec.name}; nothing of this rollout is kept"
                    ) from None
                out = jax.tree.map(lambda x: x.reshape(*streams, *x.shape[1:]), out)
                values = Trajectory(obs, action, out.reward, out.obs, out.done, alive, out.success)
                if record is None:
                    record = _empty_record(values, episodes, spec.max_episode_steps)
                for field, value in zip(*map(jax.tree.leaves, (record, values))):
                    field[:, :, e, t] = value
                previous = _where(alive, (action, out.reward, out.obs), previous)
                obs = out.obs
                if spec.done_ends_episode:
                    alive = alive & ~out.done
                    if not alive.any():
                        break  # all further steps are padding
        return record

    return run


def _empty_record(first: Trajectory, episodes: int, num_steps: int) -> Trajectory:
    """Zeros [N, W, episodes, T, ...] for steps like the first one, whose leaves are [N, W, ...]."""

    def zeros(x):
        dtype = bool if x.dtype == bool else jnp.zeros(()).dtype
        return np.zeros((*x.shape[:2], episodes, num_steps, *x.shape[2:]), dtype)

    return jax.tree.map(zeros, first)


def _flat(x: np.ndarray) -> np.ndarray:
    """Joins the axes of tasks [N] and streams [W]."""
    return x.reshape(-1, *x.shape[2:])


def _where(alive: np.ndarray, new: tuple, old: tuple) -> tuple:
    """`new` for the streams [N, W] that go on, else `old`, leaf by leaf."""
    if alive.all():
        return new
    return tuple(
        np.where(alive.reshape(alive.shape + (1,) * (np.ndim(n) - 2)), n, o)
        for n, o in zip(new, old)
    )
