"""Rolls a policy out: the only use of simulators by the rooms above `envs/`."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from metastar.envs.host_rollout import make_host_rollout
from metastar.envs.streams import begin_stream, keys_of_streams, next_step, where
from metastar.types import Adaptation, Array, Env, Policy, Trajectory


def make_rollout(
    env: Env, policy: Policy, episodes: int, greedy: bool = True, params_axis: int | None = None
) -> Callable:
    """Builds `(params, adaptation, tasks, key) -> Trajectory`, as `rollout`, for any simulator.

    A simulator in JAX runs inside one jitted function. One on the host is called between jitted
    steps of the policy, once per step for all streams of all tasks; the trajectory then holds
    NumPy arrays. Raises `UserError` with task and step if the simulation breaks down.

    Args:
        env: the simulator.
        policy: as in `rollout`.
        episodes: as in `rollout`.
        greedy: as in `rollout`.
        params_axis: None for parameters that all streams share; 0 if their leaves have a leading
            axis over tasks.
    """
    if env.on_host:
        return make_host_rollout(env, policy, episodes, greedy, params_axis)

    @jax.jit
    def run(params, adaptation, tasks, key, physics):
        return rollout(
            env, policy, params, adaptation, tasks, key, episodes, greedy, params_axis, physics
        )

    def play(params, adaptation, tasks, key):
        return run(params, adaptation, tasks, key, env.prepare(tasks))

    return play


def rollout(
    env: Env,
    policy: Policy,
    params,
    adaptation: Adaptation,
    tasks,
    key: Array,
    episodes: int,
    greedy: bool = True,
    params_axis: int | None = None,
    physics=None,
) -> Trajectory:
    """Plays consecutive episodes in W independent streams of each of N tasks, all in parallel.

    The policy's carry persists over the episodes of a stream; `StepIn.first` tells it that a new
    one begins. The `prev_*` fields are zero before a stream's first action. The start of an
    episode depends on `key` and its place only, never on the policy, so that different policies
    meet the same starts. Where a true terminal ends an episode, what follows is padding
    (`valid` False) that the policy does not see.

    Args:
        env: a simulator in JAX, of one task.
        policy: the policy; its actions are clipped to [-1, 1], and what is executed is recorded.
        params: the policy's parameters.
        adaptation: leaves [N, W, ...].
        tasks: task parameters, leaves [N, ...].
        key: PRNG key, or keys [N, W] of the streams.
        episodes: consecutive episodes of a stream.
        greedy: passed on to the policy.
        params_axis: None if all streams share `params`, 0 if its leaves are [N, ...].
        physics: what `env.prepare` made of the tasks; None makes it here, which a simulator whose
            model is edited on the host cannot do inside of jit.

    Returns:
        A `Trajectory` with leaves [N, W, episodes, T, ...].
    """
    streams = jax.tree.leaves(adaptation)[0].shape[:2]

    physics = env.prepare(tasks) if physics is None else physics

    def stream(params, adaptation, task, physics, key):
        return _play(env, policy, params, adaptation, task, physics, key, episodes, greedy)

    over_streams = jax.vmap(stream, in_axes=(None, 0, None, None, 0))
    over_tasks = jax.vmap(over_streams, in_axes=(params_axis, 0, 0, 0, 0))
    return over_tasks(params, adaptation, tasks, physics, keys_of_streams(key, streams))


def no_adaptation(*streams: int) -> Adaptation:
    """What a policy knows that was told nothing: an empty code for each of `streams`."""
    return Adaptation(code=jnp.zeros((*streams, 0)))


def uniform_policy(action_dim: int, scale: float = 1.0) -> Policy:
    """Draws every action uniformly from [-scale, scale]^A; takes no parameters."""

    def init(params, adaptation):
        return ()

    def act(params, adaptation, carry, step_in, key, greedy):
        return jax.random.uniform(key, (action_dim,), minval=-scale, maxval=scale), carry

    return Policy(init, act)


def _play(env, policy, params, adaptation, task, physics, key, episodes, greedy):
    """One stream: scans over episodes, and over the steps of each."""
    num_steps = env.spec.max_episode_steps
    stream = begin_stream(env, policy, params, adaptation, key, episodes)

    def episode(carry, inputs):
        noise, step_keys, start = inputs
        env_state, obs = env.reset(noise, task, physics)

        def step(carry, inputs):
            env_state, obs, memory, previous, alive = carry
            t, key = inputs
            action, acted = next_step(
                policy, params, adaptation, memory, previous, obs, start + t, t == 0, key, greedy
            )
            next_state, out = env.step(env_state, action, task, physics)
            transition = Trajectory(obs, action, out.reward, out.obs, out.done, alive, out.success)
            carry = (next_state, out.obs, acted, (action, out.reward, out.obs))
            if env.spec.done_ends_episode:
                carry = where(alive, carry, (env_state, obs, memory, previous))
                alive &= ~out.done
            return (*carry, alive), transition

        steps = jnp.arange(num_steps), step_keys
        carry = (env_state, obs, *carry, jnp.array(True))
        (_, _, *carry, _), transitions = jax.lax.scan(step, carry, steps)
        return tuple(carry), transitions

    carry = (stream.memory, stream.previous)
    starts = num_steps * jnp.arange(episodes)
    return jax.lax.scan(episode, carry, (stream.reset_noise, stream.step_keys, starts))[1]
