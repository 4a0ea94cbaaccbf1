"""An agent's own history as a context: a first-in first-out window of its last steps.

A context of C windows of L steps is made of the last C * L steps (`data.contexts.folded`).
"""

import jax.numpy as jnp

from metastar.config.fields import COUNT, Field
from metastar.errors import UserError
from metastar.types import Array, EnvSpec, StepIn, View

DEFAULTS = {"zero_shot_streams": Field(8, COUNT, "independent histories per task")}

# Where true terminals end episodes: the most episodes in which a stream may use up the length of
# one full episode. JAX simulates each of them to the full length, so a larger number costs time.
EARLY_ENDS = 15


def stream_episodes(spec: EnvSpec, budget: int) -> int:
    """Number of episodes of a stream with a budget of `budget` steps, over resets, before scoring.

    Without early ends these are the episodes that the budget fills and one that is scored. Where
    true terminals end episodes, there may be `EARLY_ENDS` times as many before the scored one: a
    stream has no scored episode if its episodes are on average shorter than a full one divided by
    `EARLY_ENDS`.

    >>> spec = EnvSpec("walker", 17, 6, max_episode_steps=200)
    >>> stream_episodes(spec, 200), stream_episodes(spec, 300)
    (2, 3)
    >>> stream_episodes(spec._replace(done_ends_episode=True), 200)
    16
    """
    full = -(-budget // spec.max_episode_steps)
    return full * (EARLY_ENDS if spec.done_ends_episode else 1) + 1


def expect_full(needed: int, steps: int) -> None:
    """Raises `UserError` unless a stream of `steps` steps can fill a context of `needed` ones."""
    if needed > steps:
        raise UserError(
            f"a zero-shot stream has {steps} steps and a context {needed}, so that the agent would "
            "never use what it sees; shorten the method's context, leave the protocol out of "
            "eval.protocols, or for zero_shot raise eval.budget or set eval.partial_windows"
        )


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
    """Appends the step from `before` to `now` to a window [L]; a full one drops its oldest step.

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
    """Puts a row [...] after the valid ones of `rows` [L, ...]; if all are, drops the oldest."""
    slot = jnp.minimum(valid.sum(), valid.shape[0] - 1)
    return jnp.where(valid.all(), jnp.roll(rows, -1, axis=0), rows).at[slot].set(row)
