"""Plays a policy under the two protocols: all tasks, contexts and episodes in one batch."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from metastar.data.sampler import sample_windows_of_each
from metastar.envs.rollout import make_rollout, no_adaptation, uniform_policy
from metastar.evaluation import belief, explore, history
from metastar.evaluation.protocols.few_shot import given_context
from metastar.evaluation.protocols.zero_shot import own_context
from metastar.ops.td import discounted_return
from metastar.types import Array, Env, EnvSpec, Method, Policy, TaskData, Trajectory

# Where true terminals end episodes: how many of them a stream may need to use up what is the length
# of one full episode. All are simulated to the full length in JAX, so that the number is a price.
EARLY_ENDS = 15
NUM_PATHS = 4  # streams per task whose paths are kept for the figure


class Played(NamedTuple):
    """Episodes of N tasks in W streams each."""

    episode_return: Array  # [N, W, E] undiscounted
    start: Array  # [N, W, E, O]
    action: Array  # [N, W, E, A] the first one
    reward: Array  # [N, W, E, T] as values see it: 0 after a true terminal, also of an open end
    reached: Array  # [N, W, E] bool: a success was met; False in families that know none
    path: Array  # [N, P, E, T+1, O] observations of the first P streams
    scored: Array  # [N, W, E] bool: the episode began when the stream's budget was used up


class Contexts(NamedTuple):
    """What the few-shot protocol was given, for N tasks and W windows each."""

    code: Array  # [N, W, Z]
    present: Array  # [N, W] bool: there was any data to draw the window from
    rewarded: Array  # [N, W] bool: a positive reward is in the window


def stream_episodes(spec: EnvSpec, budget: int | None = None) -> int:
    """How many episodes a stream plays that has `budget` steps, over resets, before it is scored.

    Without early ends that is what the budget fills, and one episode which is scored. Where true
    terminals end episodes there is room for `EARLY_ENDS` times as many before that one: a stream
    has no scored episode if they are on average shorter than a full one over `EARLY_ENDS`.

    >>> spec = EnvSpec("walker", 17, 6, max_episode_steps=200)
    >>> stream_episodes(spec), stream_episodes(spec, 300)
    (2, 3)
    >>> stream_episodes(spec._replace(done_ends_episode=True))
    16

    Args:
        spec: of the family.
        budget: None is the length of a full episode.
    """
    full = -(-_budget(spec, budget) // spec.max_episode_steps)
    return full * (EARLY_ENDS if spec.done_ends_episode else 1) + 1


def scored_mean(x: np.ndarray, scored: np.ndarray) -> np.ndarray:
    """Means over the scored episodes of streams, [N, W] of [N, W, E]; NaN where there is none."""
    total = np.sum(x, axis=-1, where=scored)
    with np.errstate(invalid="ignore"):
        return total / scored.sum(-1).astype(total.dtype)


def player(env: Env, policy: Policy, episodes: int, budget: int = 0) -> Callable:
    """Builds `(params, adaptation, tasks, key) -> Played`, which plays greedily.

    Args:
        env: any simulator.
        policy: what acts.
        episodes: consecutive episodes of a stream.
        budget: steps of a stream, over its episodes, before one is scored.
    """
    run = make_rollout(env, policy, episodes)
    digest = jax.jit(partial(_digest, budget))
    return lambda params, adaptation, tasks, key: digest(run(params, adaptation, tasks, key))


def tasks_of(parts: Sequence[TaskData]) -> dict[str, Array]:
    """Parameters of all tasks of several sets, leaves [N, ...]."""
    return jax.tree.map(lambda *x: jnp.concatenate(x), *(part.task for part in parts))


def few_shot(cfg, method: Method, env: Env, num_windows: int) -> Callable:
    """Builds the given-context evaluation.

    Returns:
        `(params, parts, key_context, key_play) -> (Played, Contexts)`: for each task of the parts,
        a tuple of `TaskData`, `num_windows` windows drawn uniformly, one code from each, and
        `cfg.eval.episodes` episodes with it.
    """
    play = player(env, given_context(method), cfg.eval.episodes)

    @jax.jit
    def adapt(params, parts: tuple[TaskData, ...], key):
        key_window, key_infer = jax.random.split(key)
        view = sample_windows_of_each(parts, num_windows, key_window, method.context_len)
        adaptation = _infer(method, params, view, tasks_of(parts), key_infer)
        contexts = Contexts(
            code=adaptation.code,
            present=view.valid.any(-1),
            rewarded=((view.reward > 0) & view.valid).any(-1),
        )
        return adaptation, contexts

    def evaluate(params, parts: tuple[TaskData, ...], key_context, key_play):
        adaptation, contexts = adapt(params, parts, key_context)
        return play(params, adaptation, tasks_of(parts), key_play), contexts

    return evaluate


def values(method: Method) -> Callable:
    """Builds the comparison of what critics expect with what the same policy then gets.

    Returns:
        `(params, gamma, Played, Contexts) -> dict` with `value`, `min_i Q_i(s_0, a_0, z)` at the
        first state and action of few-shot episodes, and `monte_carlo`, their discounted returns;
        both [N, W], means over the episodes of a window; and `gamma`. Empty without critics.
    """
    if method.value is None:
        return lambda params, gamma, played, contexts: {}
    over_episodes = jax.vmap(method.value, in_axes=(None, 0, 0, None))
    over_windows = jax.vmap(over_episodes, in_axes=(None, 0, 0, 0))
    over_tasks = jax.vmap(over_windows, in_axes=(None, 0, 0, 0))

    @jax.jit
    def compare(params, gamma, played, contexts):
        value = over_tasks(params, played.start, played.action, contexts.code)
        got = discounted_return(played.reward, gamma)
        return {"value": value.mean(-1), "monte_carlo": got.mean(-1), "gamma": gamma}

    return compare


def zero_shot(
    cfg,
    method: Method,
    env: Env,
    num_streams: int,
) -> Callable:
    """Builds the own-context evaluation.

    Args:
        cfg: the config; `eval.budget` and `eval.partial_windows` are those of the protocol.
        method: what is evaluated.
        env: any simulator.
        num_streams: independent streams of each task.

    Returns:
        `(params, tasks, key_context, key_play) -> Played` with `stream_episodes` per stream of
        each of the `tasks`.
    """
    length = method.context_len
    policy = own_context(method, length, env.spec, cfg.eval.reinfer_every, cfg.eval.partial_windows)
    play = _own_player(env, policy, cfg.eval.budget or None)

    @jax.jit
    def adapt(params, tasks, key):
        streams = (len(jax.tree.leaves(tasks)[0]), num_streams)
        empty = history.empty_window(env.spec, length)
        view = jax.tree.map(lambda x: jnp.broadcast_to(x, (*streams, *x.shape)), empty)
        return _infer(method, params, view, tasks, key)

    def evaluate(params, tasks, key_context, key_play):
        return play(params, adapt(params, tasks, key_context), tasks, key_play)

    return evaluate


def explored(cfg, method: Method, env: Env, num_streams: int, name: str) -> Callable:
    """Builds the evaluation with purposeful exploration by a strategy: `explore.exploring`.

    Returns:
        `(params, train_data, tasks, key_bank, key_play) -> Played` with `stream_episodes` per
        stream of each of the `tasks`; the codes to explore with come from the training tasks'
        data. Raises `UserError` if the method cannot.
    """
    length = method.context_len
    policy = explore.exploring(method, name, length, env.spec)
    play = _own_player(env, policy, None)
    make_bank = belief.make_bank(method)
    empty = history.empty_window(env.spec, length)

    def evaluate(params, train_data: TaskData, tasks, key_bank, key_play):
        bank = make_bank(params, train_data, key_bank)
        explorer = explore.Explorer(method.infer(params, empty, None, key_bank).code, bank)
        streams = len(jax.tree.leaves(tasks)[0]), num_streams
        explorer = jax.tree.map(lambda x: jnp.broadcast_to(x, (*streams, *x.shape)), explorer)
        return play(params, explorer, tasks, key_play)

    return evaluate


def uniform(env: Env, num_streams: int, episodes: int) -> Callable:
    """Builds the lower bound: uniform actions.

    Returns:
        `(tasks, key_play) -> Played`; the same `key_play`, streams and episodes give the same
        starts as the other protocols'.
    """
    play = player(env, uniform_policy(env.spec.action_dim), episodes)

    def evaluate(tasks, key_play):
        adaptation = no_adaptation(len(jax.tree.leaves(tasks)[0]), num_streams)
        return play((), adaptation, tasks, key_play)

    return evaluate


def _budget(spec: EnvSpec, budget: int | None) -> int:
    return spec.max_episode_steps if budget is None else budget


def _own_player(env, policy, budget):
    """A `player` of streams that gather their context themselves, within a budget."""
    episodes = stream_episodes(env.spec, budget)
    return player(env, policy, episodes, _budget(env.spec, budget))


def _digest(budget: int, steps: Trajectory) -> Played:
    """What is kept of the steps of episodes, leaves [N, W, E, T, ...]."""
    lived = steps.valid.sum(-1)
    met = jnp.zeros_like(steps.valid) if steps.success is None else steps.success
    return Played(
        episode_return=jnp.where(steps.valid, steps.reward, 0).sum(-1),
        start=steps.obs[..., 0, :],
        action=steps.action[..., 0, :],
        reward=jnp.where(steps.valid & ~_ended(steps.done), steps.reward, 0),
        reached=(met & steps.valid).any(-1),
        path=jnp.concatenate([steps.obs[..., :1, :], steps.next_obs], -2)[:, :NUM_PATHS],
        scored=lived.cumsum(-1) - lived >= budget,
    )


def _ended(done):
    """Whether a true terminal lies behind each step [..., T]."""
    return jnp.cumsum(done, axis=-1) > done


def _infer(method, params, view, tasks, key):
    """Infers one adaptation from each window of `view` [N, W, L]; leaves [N, W, ...]."""
    keys = jax.random.split(key, view.valid.shape[:2])
    tasks = tasks if method.privileged else None
    over_windows = jax.vmap(method.infer, in_axes=(None, 0, None, 0))
    return jax.vmap(over_windows, in_axes=(None, 0, 0, 0))(params, view, tasks, keys)
