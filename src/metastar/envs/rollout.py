"""Rolls a policy out: the only seam between a simulator and everything above `envs/`."""

import jax
import jax.numpy as jnp

from metastar.types import Adaptation, Array, Env, Policy, StepIn, Trajectory


def rollout(
    env: Env,
    policy: Policy,
    params,
    adaptation: Adaptation,
    tasks,
    key: Array,
    episodes: int,
    greedy: bool = True,
) -> Trajectory:
    """Plays consecutive episodes in W independent streams of each of N tasks, all in parallel.

    The policy's carry persists over the episodes of a stream; `StepIn.first` tells it that a new
    one begins. The `prev_*` fields are zero before a stream's first action. The start of an
    episode depends on `key` and its place only, never on the policy, so that different policies
    meet the same starts. Where a true terminal ends an episode, what follows is padding
    (`valid` False) that the policy does not see.

    Args:
        env: the simulator of one task.
        policy: the policy; its actions are clipped to [-1, 1], and what is executed is recorded.
        params: the policy's parameters, shared by all streams.
        adaptation: leaves [N, W, ...].
        tasks: task parameters, leaves [N, ...].
        key: PRNG key.
        episodes: consecutive episodes of a stream.
        greedy: passed on to the policy.

    Returns:
        A `Trajectory` with leaves [N, W, episodes, T, ...].
    """
    streams = jax.tree.leaves(adaptation)[0].shape[:2]

    def stream(adaptation, task, key):
        return _play(env, policy, params, adaptation, task, key, episodes, greedy)

    over_streams = jax.vmap(stream, in_axes=(0, None, 0))
    return jax.vmap(over_streams)(adaptation, tasks, jax.random.split(key, streams))


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


def _play(env, policy, params, adaptation, task, key, episodes, greedy):
    """One stream: scans over episodes, and over the steps of each."""
    num_steps = env.spec.max_episode_steps
    key_reset, key_act = jax.random.split(key)

    def episode(carry, inputs):
        memory, previous = carry
        noise, step_keys = inputs
        env_state, obs = env.reset(noise, task)

        def step(carry, inputs):
            env_state, obs, memory, previous, alive = carry
            first, key = inputs
            step_in = StepIn(obs, *previous, first)
            action, next_memory = policy.act(params, adaptation, memory, step_in, key, greedy)
            action = jnp.clip(action, -1, 1)
            next_state, out = env.step(env_state, action, task)
            transition = Trajectory(obs, action, out.reward, out.obs, out.done, alive)
            carry = (next_state, out.obs, next_memory, (action, out.reward, out.obs))
            if env.spec.done_ends_episode:
                carry = _where(alive, carry, (env_state, obs, memory, previous))
                alive &= ~out.done
            return (*carry, alive), transition

        first = jnp.arange(num_steps) == 0
        carry = (env_state, obs, memory, previous, jnp.array(True))
        (_, _, memory, previous, _), transitions = jax.lax.scan(step, carry, (first, step_keys))
        return (memory, previous), transitions

    noise = jax.vmap(env.draw_reset)(jax.random.split(key_reset, episodes))
    step_keys = jax.random.split(key_act, (episodes, num_steps))
    nothing = (jnp.zeros(env.spec.action_dim), jnp.zeros(()), jnp.zeros(env.spec.obs_dim))
    carry = (policy.init(params, adaptation), nothing)
    return jax.lax.scan(episode, carry, (noise, step_keys))[1]


def _where(condition, new, old):
    """`new` where a scalar condition holds, else `old`, leaf by leaf."""
    return jax.tree.map(lambda n, o: jnp.where(condition, n, o), new, old)
