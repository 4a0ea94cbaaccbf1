"""Sequences and prompts cut out of episodes: which segment shows most of what a task is.

Meta-DT (Wang et al. 2024, NeurIPS): a prompt is a segment of k steps on which the world model errs
most. Functions of one stream [L] of transitions, which may join several episodes.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from metastar.config.fields import COUNT, NOT_NEGATIVE, Field
from metastar.models.nets.decision_transformer import Steps
from metastar.types import Array, View

BY_ERROR = ("sampled", "max")  # choices that need a world model
DEFAULTS = {
    "choice": Field(
        "sampled",
        (*BY_ERROR, "random", "none"),
        "the segment: drawn by the model's error (Meta-DT's code), of the largest error (its "
        "paper), uniform, or no prompts",
    ),
    "length": Field(5, COUNT, "k, steps; Meta-DT 5"),
    "share": Field(0.5, "[0, 1]", "of the tasks of an update that have a prompt; Meta-DT 1"),
    "after": Field(0, NOT_NEGATIVE, "updates before there are prompts; Meta-DT 20 001"),
    "error": Field(
        "segment",
        ("segment", "tail"),
        "error of a start at test time: of the k steps, as in training, or of all to the episode's "
        "end (Meta-DT's code)",
    ),
    "normalized_target": Field(
        False, "", "compare predicted with normalised observations (Meta-DT's code, an error)"
    ),
}
BEST = 3  # trajectories of the highest return, from which that of the prompt is drawn


def goes_on(view: View) -> Array:
    """[L] bool: the next step of the stream is of the same episode."""
    on = (view.episode[1:] == view.episode[:-1]) & view.valid[1:]
    return jnp.append(on, False)


def until_end(x: Array, view: View) -> Array:
    """The sum [L] of x [L] from each step to the last one that the stream has of its episode."""

    def add(after, now):
        x, on = now
        value = x + jnp.where(on, after, 0)
        return value, value

    x = jnp.where(view.valid, x, 0)
    return jax.lax.scan(add, jnp.zeros_like(x[0]), (x, goes_on(view)), reverse=True)[1]


def to_go(view: View) -> Array:
    """Undiscounted return-to-go [L], of the rewards that the stream holds."""
    return until_end(view.reward, view)


def segment_errors(error: Array, view: View, num: int, tail: bool = False) -> Array:
    """The error [L] of the segment of `num` steps, or of all (`tail`), that starts at each step."""
    if tail:
        return until_end(error, view)
    index = jnp.arange(len(error))[:, None] + jnp.arange(num)[None]
    inside, index = index < len(error), jnp.minimum(index, len(error) - 1)
    inside &= view.valid[index] & (view.episode[index] == view.episode[:, None])
    return jnp.where(inside, error[index], 0).sum(-1)


def complete(view: View, max_steps: int) -> Array:
    """[L] bool: the stream holds the end of the step's episode."""
    follows = jnp.append(view.first[1:] & view.valid[1:], False)
    last = (view.done | (view.step == max_steps - 1) | follows) & view.valid
    return until_end(last.astype(view.reward.dtype), view) > 0


def starts(view: View, num: int, history: int, max_steps: int) -> Array:
    """[L] bool: where a prompt of `num` steps may start.

    It lies within one episode, of which the stream holds the end, so that its returns-to-go are
    known, and after the first `history` steps, so that the code behind the error has seen as many.
    Where no start does all this, the last demand falls, and then the last but one.
    """
    room = until_end(jnp.ones(view.reward.shape), view) >= num
    fits = room & view.valid
    known = fits & complete(view, max_steps)
    tiers = known & (view.step >= history), known, fits
    return jnp.where(tiers[0].any(), tiers[0], jnp.where(tiers[1].any(), tiers[1], tiers[2]))


def draw_start(error: Array, allowed: Array, u: Array) -> Array:
    """A start [] drawn in proportion to its error [L], by a uniform number u [] of [0, 1).

    >>> error, allowed = jnp.array([9.0, 1.0, 3.0]), jnp.array([False, True, True])
    >>> [int(draw_start(error, allowed, u)) for u in (0.0, 0.2, 0.3)]
    [1, 1, 2]
    """
    weight = jnp.where(allowed, jnp.maximum(error, 1e-30), 0)
    total = jnp.cumsum(weight)
    first = jnp.argmax(allowed)  # where rounding makes u * total the total
    found = jnp.searchsorted(total / jnp.maximum(total[-1], 1e-38), u, side="right")
    return jnp.where(found < len(error), found, first)


def largest(error: Array, allowed: Array) -> Array:
    """The allowed start [] of the largest error [L], the first one on ties."""
    return jnp.argmax(jnp.where(allowed, error, -jnp.inf))


def whole_number(u: Array, num: Array) -> Array:
    """0, ..., `num` - 1 with equal probability, for uniform `u` of [0, 1); 0 where `num` is 0."""
    return jnp.clip((u * num).astype(int), 0, jnp.maximum(num - 1, 0))


def best_of(returns: Array, present: Array, u: Array) -> Array:
    """One [] of the `BEST` streams of the highest return [C], by a uniform number u [].

    Streams that are not `present` [C] count last; the first of equal ones counts more.
    """
    order = jnp.argsort(-jnp.where(present, returns, -jnp.inf), stable=True)
    return order[whole_number(u, jnp.minimum(present.sum(), BEST))]


def best_return(view: View, max_steps: int, otherwise: Array) -> Array:
    """The highest return [] of the whole episodes of a context [C, L]; `otherwise` if it has none.

    An episode is whole where the context has its first step and its end.
    """
    whole = (view.step == 0) & view.valid & jax.vmap(partial(complete, max_steps=max_steps))(view)
    best = jnp.where(whole, jax.vmap(to_go)(view), -jnp.inf).max()
    return jnp.where(whole.any(), best, otherwise)


def choose(
    cfg: Any,
    view: View,
    to_go: Array,
    error: Array,
    u: Array,
    limits: tuple[int, int],
    tail: bool = False,
) -> Steps:
    """The prompt [k] of one stream [L]; none of it is valid where no start is allowed.

    Args:
        cfg: settings, `DEFAULTS`.
        view: observations as networks see them.
        to_go: [L] in units of the return's scale.
        error: [L] of each step.
        u: [] uniform number.
        limits: `history` and `max_steps` of `starts`.
        tail: of `segment_errors`.
    """
    error = segment_errors(error, view, cfg.length, tail)
    allowed = starts(view, cfg.length, *limits)
    start = largest(error, allowed) if cfg.choice == "max" else draw_start(error, allowed, u)
    prompt = cut(view, to_go, None, start, cfg.length)
    return prompt._replace(valid=prompt.valid & allowed.any() & (cfg.choice != "none"))


def cut(view: View, to_go: Array, code: Any, start: Array, num: int) -> Steps:
    """The `num` steps from `start` [] on, as far as the stream has them of that episode.

    Args:
        view: [L], observations as networks see them.
        to_go: [L] in units of the return's scale.
        code: [L, Z], or None for a prompt.
        start: [] int.
        num: k.
    """
    index = start + jnp.arange(num)
    inside = index < len(view.reward)
    index = jnp.minimum(index, len(view.reward) - 1)
    valid = inside & view.valid[index] & (view.episode[index] == view.episode[start])
    # Padding may hold anything, but must not make a NaN of itself, nor leave the table of times.
    shown = (to_go, view.obs, code, view.action, view.step)
    parts = jax.tree.map(
        lambda x: jnp.where(jnp.expand_dims(valid, range(1, x.ndim)), x[index], 0), shown
    )
    return Steps(*parts, valid)
