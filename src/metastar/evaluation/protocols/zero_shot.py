"""Zero-shot: the agent starts with nothing and gathers its context itself.

Source: MetaSTAR (arXiv 2606.00780), evaluation.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from metastar.envs.rollout import uniform_policy
from metastar.evaluation.history import empty_window, push
from metastar.types import Array, EnvSpec, Method, Policy, StepIn, View


class OwnContext(NamedTuple):
    """What the own-context protocol carries from step to step, and over episodes."""

    window: View  # the last L own steps, oldest first; `valid` marks how many there are
    last: StepIn  # what the policy saw one step ago
    started: Array  # [] bool: `last` has been seen
    adaptation: Any  # the newest
    inner: Any  # the carry of the wrapped policy


def own_context(method: Method, context_len: int, spec: EnvSpec, reinfer_every: int = 1) -> Policy:
    """The zero-shot protocol: random until L own steps are there, then re-infer at every step.

    At time t the step t-1 enters a first-in first-out window of capacity L: s, a and the reward
    that s came with, r_{t-2}, which is what an encoder of (s, a, previous reward) sees; the newest
    reward r_{t-1} is the window's last `reward` only. While fewer than L steps are there the action
    is uniform; afterwards the code is inferred anew from the last L steps and the method's policy
    acts. The window persists over episodes, with `first` at their starts. The agent is never told
    of a terminal, so `done` is False throughout.

    With `reinfer_every` k > 1 the code is inferred at the times L, L + k, L + 2k, ... of the stream
    and kept in between. Time is common to all streams of a batch (`StepIn.time`), so that what is
    not due is not computed. Where a terminal ends episodes, a stream may fill its window up to
    k - 1 steps before its first code: until then the policy acts on the adaptation it was given.

    A privileged method keeps the adaptation it was given: it needs no context.

    Args:
        method: the method whose `infer` and `policy` are wrapped.
        context_len: L.
        spec: sizes of observation and action.
        reinfer_every: k.

    Returns:
        A `Policy`; its `adaptation` is the method's own, e.g. inferred from `empty_window`.
    """
    explore = uniform_policy(spec.action_dim)

    def init(params, adaptation):
        zeros = {"obs": spec.obs_dim, "prev_action": spec.action_dim, "prev_next_obs": spec.obs_dim}
        nothing = StepIn(
            **{name: jnp.zeros(size) for name, size in zeros.items()},
            prev_reward=jnp.zeros(()),
            first=jnp.zeros((), bool),
            time=jnp.zeros((), int),
        )
        window = empty_window(spec, context_len)
        started = jnp.zeros((), bool)
        inner = method.policy.init(params, adaptation)
        return OwnContext(window, nothing, started, adaptation, inner)

    def act(params, adaptation, carry, step, key, greedy):
        key_explore, key_infer, key_act = jax.random.split(key, 3)
        pushed = push(carry.window, carry.last, step)
        window = jax.tree.map(partial(jnp.where, carry.started), pushed, carry.window)
        adaptation = carry.adaptation
        if not method.privileged:
            adaptation = jax.lax.cond(
                is_due(step.time, context_len, reinfer_every),
                lambda: method.infer(params, window, None, key_infer),
                lambda: adaptation,
            )
        action, inner = method.policy.act(params, adaptation, carry.inner, step, key_act, greedy)
        uniform, _ = explore.act(params, adaptation, (), step, key_explore, greedy)
        action = jnp.where(window.valid.all(), action, uniform)
        return action, OwnContext(window, step, jnp.ones((), bool), adaptation, inner)

    return Policy(init, act)


def is_due(time: Array, context_len: int, every: int) -> Array:
    """Whether the own-context protocol infers at a time of the stream: L, L + k, L + 2k, ..."""
    return (time >= context_len) & ((time - context_len) % every == 0)


def inferences(steps: int, context_len: int, every: int) -> int:
    """How often `is_due` holds within `steps` steps.

    >>> inferences(120, 30, 1), inferences(120, 30, 4), inferences(20, 30, 1)
    (90, 23, 0)
    """
    return max(0, -(-(steps - context_len) // every))
