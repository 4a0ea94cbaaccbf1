"""An agent's own history as a context: a first-in first-out window of its last L steps."""

import jax.numpy as jnp

from metastar.types import Array, EnvSpec, StepIn, View


def empty_window(spec: EnvSpec, length: int) -> View:
    """A `View` [L] without a single valid step."""
    obs, action = jnp.zeros((length, spec.obs_dim)), jnp.zeros((length, spec.action_dim))
    scalar = jnp.zeros(length)
    false, zero = jnp.zeros(length, bool), jnp.zeros(length, int)
    return View(
        obs=obs,
        action=action,
        reward=scalar,
        prev_reward=scalar,
        next_obs=obs,
        done=false,
        valid=false,
        first=false,
        episode=zero,
        step=zero,
        policy=jnp.zeros((), int),
        stage=jnp.zeros((), int),
    )


def push(window: View, before: StepIn, now: StepIn) -> View:
    """Appends the step from `before` to `now`; the oldest leaves where the window is full.

    Episodes are counted from 0 along the stream, and steps within them.
    """
    num = window.valid.sum()
    last, is_next = jnp.maximum(num - 1, 0), num > 0
    step = {
        "obs": before.obs,
        "action": now.prev_action,
        "reward": now.prev_reward,
        "prev_reward": jnp.where(before.first, 0, before.prev_reward),
        "next_obs": now.prev_next_obs,
        "done": jnp.zeros((), bool),
        "valid": jnp.ones((), bool),
        "first": before.first,
        "episode": window.episode[last] + (is_next & before.first),
        "step": jnp.where(is_next & ~before.first, window.step[last] + 1, 0),
    }
    appended = {k: append(getattr(window, k), x, window.valid) for k, x in step.items()}
    return window._replace(**appended)


def append(rows: Array, row: Array, valid: Array) -> Array:
    """Puts a row [...] behind the valid ones of `rows` [L, ...]; where all are, the oldest goes."""
    slot = jnp.minimum(valid.sum(), valid.shape[0] - 1)
    return jnp.where(valid.all(), jnp.roll(rows, -1, axis=0), rows).at[slot].set(row)
