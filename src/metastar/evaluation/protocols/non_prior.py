"""Non-prior: the agent's first own context is uniform actions, then its own on what that showed.

CSRO (Zhang et al. 2023, NeurIPS): a context that starts with random steps does not carry the habits
of a policy that already believes in a task. ER-TRL evaluates so too.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from metastar.data.contexts import folded, steps_of
from metastar.envs.rollout import uniform_policy
from metastar.evaluation import history
from metastar.evaluation.inference import infer_empty
from metastar.evaluation.protocol import Protocol
from metastar.types import Array, EnvSpec, Method, Policy, StepIn, View

DEFAULTS = {}
SECTIONS = {"eval": (history,)}


def make(cfg, method: Method, spec: EnvSpec) -> Protocol:
    """The policy `non_prior`; the whole episodes that begin after the context is full are scored.

    The budget is a full episode's steps, or those of the context where these are more.
    """
    length = steps_of(method.context)
    budget = max(spec.max_episode_steps, length)
    episodes = history.stream_episodes(spec, budget)

    def prepare(params, train, given, streams, key):
        del train
        return infer_empty(method, spec, params, given.task, streams, key), None

    steps = episodes * spec.max_episode_steps if spec.done_ends_episode else length - length // 2
    return Protocol(
        name="non_prior",
        title="non-prior",
        prepare=prepare,
        policy=non_prior(method, spec),
        streams=cfg.eval.zero_shot_streams,
        episodes=episodes,
        budget=budget,
        inferences=1 if method.privileged else 2 + steps,
        keys=lambda key: (jax.random.fold_in(key, 2), jax.random.fold_in(key, 1)),
    )


class NonPrior(NamedTuple):
    """What the policy carries from step to step, and over episodes."""

    window: View  # the first C * L own steps; `valid` marks how many there are
    last: StepIn  # what the policy saw one step ago
    num_steps: Array  # [] int: own steps so far
    adaptation: Any  # inferred from the window
    inner: Any  # the carry of the wrapped policy


def non_prior(method: Method, spec: EnvSpec) -> Policy:
    """Collects a context of L steps and then keeps its adaptation.

    Its first L // 2 actions are uniform. The others of the context are drawn from the method's
    policy, on what the steps before them show: inference then sees a window that is not full.
    Afterwards the method's policy acts on the full context, greedily where that is asked for. For a
    context of C windows, L here is C * L. A privileged method keeps the adaptation it was given.

    Args:
        method: the method whose `infer` and `policy` are wrapped.
        spec: sizes of observation and action, and whether a true terminal ends an episode.

    Returns:
        A `Policy`; its `adaptation` is the method's own, e.g. inferred from an empty window.
    """
    explore = uniform_policy(spec.action_dim)
    length = steps_of(method.context)

    def init(params, adaptation):
        nothing = StepIn(
            obs=jnp.zeros(spec.obs_dim),
            prev_action=jnp.zeros(spec.action_dim),
            prev_reward=jnp.zeros(()),
            prev_next_obs=jnp.zeros(spec.obs_dim),
            first=jnp.zeros((), bool),
            time=jnp.zeros((), int),
        )
        window = history.empty_window(spec, length)
        inner = method.policy.init(params, adaptation)
        return NonPrior(window, nothing, jnp.zeros((), int), adaptation, inner)

    def act(params, adaptation, carry, step, key, greedy):
        del adaptation
        key_explore, key_infer, key_act = jax.random.split(key, 3)
        # The time of the stream is that of all streams, so that the branch stays one under vmap;
        # where episodes end early, each stream has its own.
        time = carry.num_steps if spec.done_ends_episode else step.time
        grows = (time > 0) & (time <= length)
        pushed = history.push(carry.window, carry.last, step)
        window = jax.tree.map(partial(jnp.where, grows), pushed, carry.window)
        adaptation = carry.adaptation
        if not method.privileged:
            adaptation = jax.lax.cond(
                grows & (time >= length // 2),
                lambda: method.infer(params, folded(window, method.context), None, key_infer),
                lambda: carry.adaptation,
            )
        greedy = greedy & (time >= length)
        action, inner = method.policy.act(params, adaptation, carry.inner, step, key_act, greedy)
        uniform, _ = explore.act(params, adaptation, (), step, key_explore, greedy)
        action = jnp.where(time < length // 2, uniform, action)
        return action, NonPrior(window, step, carry.num_steps + 1, adaptation, inner)

    return Policy(init, act)
