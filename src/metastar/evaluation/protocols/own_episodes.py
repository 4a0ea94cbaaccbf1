"""Few-shot with a fixed number of own episodes: the agent explores as it acts, from the first step.

Meta-DT (Wang et al. 2024, NeurIPS) prompts with own trajectories, but of all earlier evaluations,
so that its few-shot score grows with their number; here the number is stated.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from metastar.config.fields import COUNT, Field
from metastar.data.contexts import folded, steps_of
from metastar.errors import UserError
from metastar.evaluation import history
from metastar.evaluation.inference import infer_empty
from metastar.evaluation.protocol import Protocol
from metastar.types import Array, Context, EnvSpec, Method, Policy, StepIn, View

DEFAULTS = {
    "shots": Field(
        3, COUNT, "own episodes that are the context of the protocol own_episodes", before=3
    )
}
SECTIONS = {"eval": (history,)}


def make(cfg, method: Method, spec: EnvSpec) -> Protocol:
    """The policy `from_episodes`, scored in whole episodes after `shots` of full length.

    Raises `UserError` for a method whose context is longer than that.
    """
    if steps_of(method.context) > cfg.shots * spec.max_episode_steps:
        raise UserError(
            f"eval.shots={cfg.shots} own episodes have {cfg.shots * spec.max_episode_steps} steps, "
            f"and a context {steps_of(method.context)}; raise eval.shots, or leave own_episodes "
            "out of eval.protocols"
        )
    budget = cfg.shots * spec.max_episode_steps
    episodes = history.stream_episodes(spec, budget)

    def prepare(params, train, given, streams, key):
        del train
        return infer_empty(method, spec, params, given.task, streams, key), None

    return Protocol(
        name=f"own_episodes_{cfg.shots}",
        title=f"few-shot, {cfg.shots} own episode{'s' if cfg.shots > 1 else ''}",
        prepare=prepare,
        policy=from_episodes(method, spec, cfg.shots),
        streams=cfg.eval.zero_shot_streams,
        episodes=episodes,
        budget=budget,
        inferences=1 if method.privileged else episodes,
        keys=lambda key: (jax.random.fold_in(key, 2), jax.random.fold_in(key, 1)),
    )


class OwnEpisodes(NamedTuple):
    """What the policy carries from step to step, and over episodes."""

    episodes: View  # [C * T] the last C whole episodes, the newest last
    now: View  # [T] the steps so far of this one
    last: StepIn  # what the policy saw one step ago
    num_steps: Array  # [] int: steps seen so far, without the padding after a terminal
    adaptation: Any  # the newest
    inner: Any  # the carry of the wrapped policy


def from_episodes(method: Method, spec: EnvSpec, shots: int) -> Policy:
    """At the start of each episode the adaptation is inferred from the own episodes before it.

    These are the last C = `shots` ones; those that do not exist yet have no valid step. Before the
    first episode the given adaptation serves, which a privileged method keeps. When the agent has
    made as many steps as C episodes of full length have, the adaptation stays.

    A method whose context is a whole episode is given them as C windows, any other the last steps
    of them, as many as it asks for.
    """
    length, asked = spec.max_episode_steps, method.context

    def init(params, adaptation):
        nothing = StepIn(
            obs=jnp.zeros(spec.obs_dim),
            prev_action=jnp.zeros(spec.action_dim),
            prev_reward=jnp.zeros(()),
            prev_next_obs=jnp.zeros(spec.obs_dim),
            first=jnp.zeros((), bool),
            time=jnp.zeros((), int),
        )
        return OwnEpisodes(
            episodes=history.empty_window(spec, shots * length),
            now=history.empty_window(spec, length),
            last=nothing,
            num_steps=jnp.zeros((), int),
            adaptation=adaptation,
            inner=method.policy.init(params, adaptation),
        )

    def act(params, adaptation, carry, step, key, greedy):
        key_infer, key_act = jax.random.split(key)
        started = carry.num_steps > 0
        pushed = history.push(carry.now, carry.last, step)
        now = jax.tree.map(lambda new, old: jnp.where(started, new, old), pushed, carry.now)
        # Episodes begin at the same time in all streams, so that the branch stays one under vmap.
        begins = (step.time > 0) & (step.time % length == 0)
        still = carry.num_steps - now.valid.sum() < shots * length

        def close(carry):
            episodes = join(carry.episodes, now)
            empty = history.empty_window(spec, length)
            if method.privileged:
                return episodes, empty, carry.adaptation
            found = method.infer(params, as_context(episodes), None, key_infer)
            found = jax.tree.map(lambda new, old: jnp.where(still, new, old), found, adaptation_of)
            return episodes, empty, found

        adaptation_of = carry.adaptation
        episodes, now, adaptation = jax.lax.cond(
            begins, close, lambda carry: (carry.episodes, now, carry.adaptation), carry
        )
        action, inner = method.policy.act(params, adaptation, carry.inner, step, key_act, greedy)
        count = carry.num_steps + 1
        return action, OwnEpisodes(episodes, now, step, count, adaptation, inner)

    def as_context(episodes: View) -> View:
        if asked.ordered and asked.length == length:
            return folded(episodes, Context(length, shots))
        last = jnp.arange(len(episodes.valid) - steps_of(asked), len(episodes.valid))
        order = last[jnp.argsort(~episodes.valid[last], stable=True)]  # padding comes last
        return folded(jax.tree.map(lambda x: x[order] if x.ndim else x, episodes), asked)

    def join(episodes: View, now: View) -> View:
        """The window [C * T] without its oldest episode, and with the newest."""
        number = episodes.episode.max() + 1
        now = now._replace(episode=jnp.full_like(now.episode, number))
        return jax.tree.map(
            lambda old, new: jnp.concatenate([old[length:], new]) if old.ndim else old,
            episodes,
            now,
        )

    return Policy(init, act)
