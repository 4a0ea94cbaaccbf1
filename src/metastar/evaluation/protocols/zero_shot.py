"""Zero-shot: the agent starts without a context and collects its own.

Source: MetaSTAR (arXiv 2606.00780), evaluation.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from metastar.config.fields import COUNT, NOT_NEGATIVE, Field
from metastar.data.contexts import folded, steps_of
from metastar.envs.rollout import uniform_policy
from metastar.evaluation import history
from metastar.evaluation.history import empty_window, push
from metastar.evaluation.inference import infer_empty
from metastar.evaluation.protocol import Protocol
from metastar.types import Array, Context, EnvSpec, Method, Policy, StepIn, View

DEFAULTS = {
    "reinfer_every": Field(
        1, COUNT, "steps between two inferences of the zero-shot protocol", before=1
    ),
    "budget": Field(
        0,
        NOT_NEGATIVE,
        "steps of a zero-shot stream, over its resets, before whole episodes are scored; 0 is as "
        "many as a full episode has",
        before=0,
    ),
    "partial_windows": Field(
        False,
        "",
        "act on windows that are not full yet; for methods trained on such windows",
        before=False,
    ),
}
SECTIONS = {"eval": (history,)}


def make(cfg, method: Method, spec: EnvSpec) -> Protocol:
    """The policy `own_context`, scored in whole episodes that begin after the budget is used up.

    Raises `UserError` if a stream cannot fill the method's context.
    """
    budget = cfg.budget or spec.max_episode_steps
    episodes = history.stream_episodes(spec, budget)
    steps, again = episodes * spec.max_episode_steps, 0
    if not method.privileged:
        least = shortest(method.context, cfg.partial_windows)
        history.expect_full(least, steps)
        again = inferences(steps, least, cfg.reinfer_every)

    def prepare(params, train, given, streams, key):
        del train
        return infer_empty(method, spec, params, given.task, streams, key), None

    return Protocol(
        name="zero_shot",
        title="zero-shot",
        prepare=prepare,
        policy=own_context(method, spec, cfg.reinfer_every, cfg.partial_windows),
        streams=cfg.eval.zero_shot_streams,
        episodes=episodes,
        budget=budget,
        inferences=1 + again,
        keys=lambda key: (jax.random.fold_in(key, 2), jax.random.fold_in(key, 1)),
    )


class OwnContext(NamedTuple):
    """What the zero-shot policy carries from step to step, and over episodes."""

    window: View  # the last C * L own steps, oldest first; `valid` marks how many there are
    last: StepIn  # what the policy saw one step ago
    begun: Array  # [] bool: whether `last` is a step
    informed: Array  # [] bool: whether the agent acts on the adaptation
    adaptation: Any  # the newest
    inner: Any  # the carry of the wrapped policy


def own_context(
    method: Method,
    spec: EnvSpec,
    reinfer_every: int = 1,
    partial_windows: bool = False,
) -> Policy:
    """The zero-shot policy: random for the first L own steps, then infers at every step.

    A method that learned from shorter contexts too (`Context.shortest`) does so from as many on.

    At time t the step t-1 enters a first-in first-out window of capacity L: s, a and the reward
    that s came with, r_{t-2}, which is what an encoder of (s, a, previous reward) sees; the newest
    reward r_{t-1} is only in the window's last `reward`. With fewer than L steps the action is
    uniform; afterwards the adaptation is inferred anew from the last L steps and the method's
    policy acts. The window persists over episodes, with `first` at their starts. The agent does not
    see terminals, so `done` is False throughout. For a context of C windows, L here is C * L.

    With `reinfer_every` k > 1 the adaptation is inferred at the times L, L + k, L + 2k, ... and
    stays the same in between. Time is `StepIn.time`, that of all streams of a batch, which jumps to
    the start of the next episode where one ends early: an adaptation is then less than 2k own steps
    old, and a stream that fills its L-th step between two such times acts uniformly until the next.

    A privileged method keeps the adaptation it was given: it needs no context.

    Args:
        method: the method whose `infer` and `policy` are wrapped.
        spec: sizes of observation and action.
        reinfer_every: k.
        partial_windows: infer and act from the first own step on, in place of the L-th; only for
            methods that were trained on windows of fewer than L steps.

    Returns:
        A `Policy`; its `adaptation` is the method's own, e.g. inferred from `empty_window`.
    """
    explore = uniform_policy(spec.action_dim)
    capacity = steps_of(method.context)
    least = shortest(method.context, partial_windows)

    def init(params, adaptation):
        zeros = {"obs": spec.obs_dim, "prev_action": spec.action_dim, "prev_next_obs": spec.obs_dim}
        nothing = StepIn(
            **{name: jnp.zeros(size) for name, size in zeros.items()},
            prev_reward=jnp.zeros(()),
            first=jnp.zeros((), bool),
            time=jnp.zeros((), int),
        )
        window = empty_window(spec, capacity)
        inner = method.policy.init(params, adaptation)
        false = jnp.zeros((), bool)
        return OwnContext(window, nothing, false, false, adaptation, inner)

    def act(params, adaptation, carry, step, key, greedy):
        key_explore, key_infer, key_act = jax.random.split(key, 3)
        pushed = push(carry.window, carry.last, step)
        window = jax.tree.map(partial(jnp.where, carry.begun), pushed, carry.window)
        adaptation, enough = carry.adaptation, window.valid.sum() >= least
        informed = enough
        if not method.privileged:

            def infer():
                new = method.infer(params, folded(window, method.context), None, key_infer)
                return jax.tree.map(partial(jnp.where, enough), new, adaptation)

            # `StepIn.time` is common to all streams of a batch, so that the branch stays a branch
            # under vmap and no inference runs when none is due.
            due = is_due(step.time, least, reinfer_every)
            adaptation = jax.lax.cond(due, infer, lambda: carry.adaptation)
            informed = carry.informed | (due & enough)
        action, inner = method.policy.act(params, adaptation, carry.inner, step, key_act, greedy)
        uniform, _ = explore.act(params, adaptation, (), step, key_explore, greedy)
        action = jnp.where(informed, action, uniform)
        return action, OwnContext(window, step, jnp.ones((), bool), informed, adaptation, inner)

    return Policy(init, act)


def shortest(context: Context, partial_windows: bool) -> int:
    """The own steps that an inference needs: a whole context, if it learned from no shorter ones.

    >>> shortest(Context(30), False), shortest(Context(30, shortest=8), False)
    (30, 8)
    """
    return 1 if partial_windows else context.shortest or steps_of(context)


def is_due(time: Array, least: int, every: int) -> Array:
    """Whether the zero-shot policy infers at a time of the stream: n, n + k, n + 2k, ...

    n = `least` is the number of own steps that the first inference needs, k = `every`.
    """
    return (time >= least) & ((time - least) % every == 0)


def inferences(steps: int, least: int, every: int) -> int:
    """How often `is_due` holds within `steps` steps, if no episode is cut short.

    >>> inferences(120, 30, 1), inferences(120, 30, 4), inferences(20, 30, 1)
    (90, 23, 0)
    """
    return max(0, -(-(steps - least) // every))
