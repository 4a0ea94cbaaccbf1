"""Plays a policy under a protocol: all tasks, contexts and episodes in one batch."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from metastar.envs.rollout import make_rollout, no_adaptation, uniform_policy
from metastar.evaluation.protocol import Contexts, Protocol
from metastar.ops.td import discounted_return
from metastar.types import Array, Env, Method, Policy, TaskData, Trajectory

NUM_PATHS = 4  # streams per task whose paths are kept for the figure


class Played(NamedTuple):
    """Episodes of N tasks in W streams each."""

    episode_return: Array  # [N, W, E] undiscounted
    start: Array  # [N, W, E, O]
    action: Array  # [N, W, E, A] the first one
    reward: Array  # [N, W, E, T] 0 after a true terminal, even one that does not end the episode
    reached: Array  # [N, W, E] bool: some step was a success; False in families without one
    path: Array  # [N, P, E, T+1, O] observations of the first P streams
    scored: Array  # [N, W, E] bool: the episode began when the stream's budget was used up


class Evaluation(NamedTuple):
    """The outcome of one evaluation by a protocol."""

    played: Played
    adaptation: Any  # leaves [N, W, ...], as `prepare` made it
    contexts: Contexts | None  # None unless the protocol draws them from the tasks' own data


def scored_mean(x: np.ndarray, scored: np.ndarray) -> np.ndarray:
    """Means over the scored episodes of streams, [N, W] of [N, W, E]; NaN where there is none."""
    total = np.sum(x, axis=-1, where=scored)
    with np.errstate(invalid="ignore"):
        return total / scored.sum(-1).astype(total.dtype)


def player(env: Env, policy: Policy, episodes: int, budget: int = 0) -> Callable:
    """Builds `(params, adaptation, tasks, key) -> Played`, which plays greedily.

    Args:
        env: any simulator.
        policy: the policy.
        episodes: consecutive episodes of a stream.
        budget: steps of a stream, over its episodes, before one is scored.
    """
    run = make_rollout(env, policy, episodes)
    digest = jax.jit(partial(_digest, budget))
    return lambda params, adaptation, tasks, key: digest(run(params, adaptation, tasks, key))


def tasks_of(parts: Sequence[TaskData]) -> dict[str, Array]:
    """Parameters of all tasks of several sets, leaves [N, ...]."""
    return jax.tree.map(lambda *x: jnp.concatenate(x), *(part.task for part in parts))


def evaluation(protocol: Protocol, env: Env, streams: int) -> Callable:
    """Builds an evaluation by a protocol, which compiles once for each set of tasks.

    Args:
        protocol: one of `protocols/`, made for a method.
        env: any simulator.
        streams: W of each task.

    Returns:
        `(params, train, given, key_prepare, key_play) -> Evaluation`: `train` is the training
        tasks' data, `given` what the protocol is given of the tasks that are played.
    """
    prepare = jax.jit(
        lambda params, train, given, key: protocol.prepare(params, train, given, streams, key)
    )
    play = player(env, protocol.policy, protocol.episodes, protocol.budget)

    def evaluate(params, train, given, key_prepare, key_play):
        adaptation, contexts = prepare(params, train, given, key_prepare)
        played = play(params, adaptation, given.task, key_play)
        return Evaluation(played, adaptation, contexts)

    return evaluate


def values(method: Method) -> Callable:
    """Builds the comparison of the critics' values with the returns that the same policy gets.

    Returns:
        `(params, gamma, Played, code [N, W, Z]) -> dict` with `value`, `min_i Q_i(s_0, a_0, z)` at
        the first state and action of episodes under a fixed code, and `monte_carlo`, their
        discounted returns; both [N, W], means over the episodes of a stream; and `gamma`.
    """
    over_episodes = jax.vmap(method.value, in_axes=(None, 0, 0, None))
    over_streams = jax.vmap(over_episodes, in_axes=(None, 0, 0, 0))
    over_tasks = jax.vmap(over_streams, in_axes=(None, 0, 0, 0))

    @jax.jit
    def compare(params, gamma, played, code):
        value = over_tasks(params, played.start, played.action, code)
        got = discounted_return(played.reward, gamma)
        return {"value": value.mean(-1), "monte_carlo": got.mean(-1), "gamma": gamma}

    return compare


def uniform(env: Env, num_streams: int, episodes: int) -> Callable:
    """Builds the lower bound: uniform actions.

    Returns:
        `(tasks, key_play) -> Played`; the same `key_play`, streams and episodes give the same
        starts as a protocol's.
    """
    play = player(env, uniform_policy(env.spec.action_dim), episodes)

    def evaluate(tasks, key_play):
        adaptation = no_adaptation(len(jax.tree.leaves(tasks)[0]), num_streams)
        return play((), adaptation, tasks, key_play)

    return evaluate


def _digest(budget: int, steps: Trajectory) -> Played:
    """Reduces the steps of episodes, leaves [N, W, E, T, ...], to what is reported."""
    length = steps.valid.sum(-1)
    met = jnp.zeros_like(steps.valid) if steps.success is None else steps.success
    return Played(
        episode_return=jnp.where(steps.valid, steps.reward, 0).sum(-1),
        start=steps.obs[..., 0, :],
        action=steps.action[..., 0, :],
        reward=jnp.where(steps.valid & ~_ended(steps.done), steps.reward, 0),
        reached=(met & steps.valid).any(-1),
        path=jnp.concatenate([steps.obs[..., :1, :], steps.next_obs], -2)[:, :NUM_PATHS],
        scored=length.cumsum(-1) - length >= budget,
    )


def _ended(done):
    """Whether a true terminal came before each step [..., T]."""
    return jnp.cumsum(done, axis=-1) > done
