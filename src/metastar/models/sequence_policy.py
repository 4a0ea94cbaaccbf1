"""The policy of a sequence model: it acts from the first step, with a cache of keys and values.

An episode is read as the tokens (prompt, R_0, s_0, a_0, R_1, s_1, ...), of which a step adds three.
The Transformer sees at most K steps. When it has seen as many, the oldest are dropped and the
`kept` others are read again, under what they would be without the dropped ones; in between a step
costs three tokens. With `kept` = K - 1 that is at every step, the sliding window of the authors.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from metastar.config.fields import NOT_NEGATIVE, Field
from metastar.models.nets.decision_transformer import (
    STATE,
    TOKENS,
    Cache,
    DecisionTransformer,
    Steps,
)
from metastar.types import Array, DataSpec, Policy, StepIn

DEFAULTS = {
    "kept": Field(
        10,
        NOT_NEGATIVE,
        "steps that are read again when the cache is full; context_len - 1 is a sliding window, as "
        "Meta-DT has it",
    ),
    "early_codes": Field(
        "partial",
        ("partial", "zeros"),
        "codes of the first h steps: of the steps so far, as in training, or 0 at the first and of "
        "an empty history at the others (Meta-DT's code)",
    ),
    "exploration_noise": Field(0.1, NOT_NEGATIVE, "of drawn actions, in units of their range"),
}


class Prompted(NamedTuple):
    """What Meta-DT knows of a task before it acts."""

    code: Array  # [Z] mean code of the context; the policy makes codes of its own, step by step
    prompt: Steps  # [k] without a code; not valid: no prompt
    target: Array  # [] the return that is asked for, in units of reward


class Memory(NamedTuple):
    """What the policy carries from step to step; an episode starts it anew."""

    cache: Cache  # of 3 k + 3 K rows
    tokens: Array  # [3 K, H] the tokens behind its rows after the prompt
    rows: Array  # [h, O + A + 1] the last transitions, zeros before the first
    obs: Array  # [O] of one step ago
    to_go: Array  # [] what is left of the target, in units of the return's scale
    code: Array  # [Z] the newest


def make(
    cfg: Any, net: DecisionTransformer, encode: Callable, whiten: Callable, spec: DataSpec
) -> Policy:
    """Builds the policy; its adaptation is `Prompted`.

    `StepIn.time` tells the step of the episode, so that branches on it stay branches under vmap:
    episodes begin at multiples of `spec.max_episode_steps`.

    Args:
        cfg: `context_len` and `return_scale`; `acting`, settings as `DEFAULTS`; `prompt.length`;
            `world_model.history`.
        net: the Transformer, with its parameters in `params["agent"]`.
        encode: (params, rows [h, O + A + 1]) -> code [Z].
        whiten: obs -> obs as the Transformer sees it.
        spec: sizes.
    """
    history, max_len, scale = cfg.world_model.history, cfg.context_len, cfg.return_scale
    kept, early_zeros = cfg.acting.kept, cfg.acting.early_codes == "zeros"
    drop, head = max_len - kept, TOKENS * cfg.prompt.length

    def apply(params, *given, method):
        return net.apply({"params": params["agent"]}, *given, method=method)

    def init(params, adaptation):
        rows = jnp.zeros((history, spec.obs_dim + spec.action_dim + 1))
        return Memory(
            cache=apply(params, head + TOKENS * max_len, method="empty"),
            tokens=jnp.zeros((TOKENS * max_len, net.width)),
            rows=rows,
            obs=jnp.zeros(spec.obs_dim),
            to_go=jnp.zeros(()),
            code=jnp.zeros_like(adaptation.code),
        )

    def observe(params, adaptation, memory, step: StepIn, time):
        """Takes in what the last action led to."""
        row = jnp.concatenate([memory.obs, step.prev_action, step.prev_reward[None]])
        rows = jnp.where(time == 0, 0, jnp.append(memory.rows[1:], row[None], axis=0))
        left = memory.to_go - step.prev_reward / scale
        to_go = jnp.where(time == 0, adaptation.target / scale, left)
        code = encode(params, jnp.where((time < history) & early_zeros, 0, rows))
        code = jnp.where((time == 0) & early_zeros, 0, code)
        return memory._replace(rows=rows, obs=step.obs, to_go=to_go, code=code)

    def begin(params, adaptation, memory, seen):
        """An episode begins: the cache holds the prompt alone."""
        x = apply(params, adaptation.prompt, method="prompt_tokens")
        return memory._replace(cache=apply(params, memory.cache, x, 0, seen, method="extend")[1])

    def shorten(params, adaptation, memory, seen):
        """The oldest `drop` steps leave; the others are read again."""
        tokens = jnp.roll(memory.tokens, -TOKENS * drop, axis=0)
        memory = memory._replace(tokens=tokens)
        if not kept:
            return memory
        x = tokens[: TOKENS * kept]
        return memory._replace(cache=apply(params, memory.cache, x, head, seen, method="extend")[1])

    def act(params, adaptation, memory, step, key, greedy):
        time = step.time % spec.max_episode_steps
        memory = observe(params, adaptation, memory, step, time)
        # A block of rows begins with the action before its first step, which none may see.
        own = jnp.arange(TOKENS * max_len) > 0
        seen = jnp.concatenate([jnp.repeat(adaptation.prompt.valid, TOKENS), own])
        over = time - max_len
        full = (over >= 0) & (over % drop == 0)
        memory = jax.lax.switch(
            jnp.where(time == 0, 0, jnp.where(full, 1, 2)),
            (begin, shorten, lambda params, adaptation, memory, seen: memory),
            *(params, adaptation, memory, seen),
        )
        number = jnp.where(over < 0, time, kept + over % drop)
        x = apply(params, two_steps(memory, step, time), method="tokens")
        x = x[TOKENS - 1 : 2 * TOKENS - 1]  # the last action, and this step without its own
        place = TOKENS * number
        tokens = jax.lax.dynamic_update_slice(memory.tokens, x, (place, 0))
        found, cache = apply(params, memory.cache, x, head + place, seen, method="extend")
        action = apply(params, found[1 + STATE], method="read")
        noise = jnp.where(greedy, 0, jax.random.normal(key, action.shape))
        action = jnp.clip(action + cfg.acting.exploration_noise * noise, -1, 1)
        return action, memory._replace(cache=cache, tokens=tokens)

    def two_steps(memory, step, time) -> Steps:
        """The step before, of which only the action counts, and this one, without an action."""

        def second(x):
            return jnp.stack([jnp.zeros_like(x), x])

        return Steps(
            to_go=second(memory.to_go),
            obs=second(whiten(step.obs)),
            code=second(memory.code),
            action=jnp.stack([step.prev_action, jnp.zeros_like(step.prev_action)]),
            step=jnp.maximum(jnp.stack([time - 1, time]), 0),
            valid=jnp.ones(2, bool),
        )

    return Policy(init, act)


def no_prompt(num: int, spec: DataSpec) -> Steps:
    """A prompt of `num` steps of which none is valid."""
    return Steps(
        to_go=jnp.zeros(num),
        obs=jnp.zeros((num, spec.obs_dim)),
        code=None,
        action=jnp.zeros((num, spec.action_dim)),
        step=jnp.zeros(num, int),
        valid=jnp.zeros(num, bool),
    )
