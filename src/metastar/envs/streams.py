"""One stream of consecutive episodes, on any simulator."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from metastar.types import Adaptation, Array, Env, Policy, StepIn


class Stream(NamedTuple):
    """One stream before its first step."""

    memory: Any  # the policy's carry
    previous: tuple  # action [A], reward [], next_obs [O] of the step before; zeros at first
    reset_noise: Any  # of the start of each episode, leaves [E, ...]
    step_keys: Array  # [E, T] keys of the policy


def begin_stream(
    env: Env, policy: Policy, params, adaptation: Adaptation, key: Array, episodes: int
) -> Stream:
    """Draws all that a stream needs; starts depend on `key` only, never on the policy."""
    spec = env.spec
    key_reset, key_act = jax.random.split(key)
    return Stream(
        memory=policy.init(params, adaptation),
        previous=(jnp.zeros(spec.action_dim), jnp.zeros(()), jnp.zeros(spec.obs_dim)),
        reset_noise=jax.vmap(env.draw_reset)(jax.random.split(key_reset, episodes)),
        step_keys=jax.random.split(key_act, (episodes, spec.max_episode_steps)),
    )


def keys_of_streams(key: Array, streams: tuple[int, int]) -> Array:
    """A key for each of `streams` [N, W]: split off one key, or the keys [N, W] that are given."""
    return key if key.ndim else jax.random.split(key, streams)


def next_step(policy: Policy, params, adaptation, memory, previous, obs, time, first, key, greedy):
    """Lets the policy act on one observation [O] of one stream.

    Returns the action [A] that is executed, clipped to [-1, 1], and the policy's new carry.
    """
    step_in = StepIn(obs, *previous, first, time)
    action, memory = policy.act(params, adaptation, memory, step_in, key, greedy)
    return jnp.clip(action, -1, 1), memory


def where(condition, new, old):
    """`new` where a scalar condition holds, else `old`, leaf by leaf."""
    return jax.tree.map(lambda n, o: jnp.where(condition, n, o), new, old)
