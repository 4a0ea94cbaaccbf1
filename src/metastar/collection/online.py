"""Behaviour policies that learn online: the loop that the files of `behaviors/` share.

By default every task has a learner of its own, all that are made at once (`tasks_at_once`) in one
vmapped update, as in the MetaSTAR reference. With `collect.shared_learner` one learner observes the
task's parameters and learns all tasks, which takes far less arithmetic for an equally good policy.

An iteration is, as in the reference, a few episodes and then some updates; but the episodes of an
iteration are played by the policies from before its updates, so that the simulator and the
learners work at the same time. The data set is the whole replay in time order, from random to
expert.

Shapes: N tasks, E episodes of T steps in the replay, W episodes of one iteration, O observation,
A action, Z code: the task's parameters for a shared learner, else Z = 0.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from types import ModuleType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from metastar.collection import blocks
from metastar.collection.behavior import Behavior, Episodes, expect_room, keys_of
from metastar.config.fields import COUNT, NOT_NEGATIVE, Field
from metastar.data.choose import CROSS_TASK
from metastar.data.rows import Transitions
from metastar.envs.rollout import make_rollout, no_adaptation, uniform_policy
from metastar.errors import UserError
from metastar.models.acting import code_policy
from metastar.ops.task_parameters import join_parameters
from metastar.types import Adaptation, Agent, Array, Env, EnvSpec, RowSpec, Trajectory

DEFAULTS = {
    "iterations": Field(300, NOT_NEGATIVE, "iterations of playing and learning"),
    "episodes_per_iteration": Field(2, COUNT, "episodes played in an iteration, per task"),
    "updates_per_iteration": Field(500, NOT_NEGATIVE, "updates in an iteration, per learner"),
    "shared_learner": Field(
        False, "", "one learner that observes the task, instead of one per task", before=False
    ),
    "cross_task_episodes": Field(
        0,
        NOT_NEGATIVE,
        "episodes per task, at the end, by the final policies of other tasks",
        before=0,
    ),
    "expert_quantile": Field(
        0.5,
        "[0, 1]",
        'share of a learner\'s episodes, those of lowest return, with stage "medium"',
        before=0.5,
    ),
}

READS = ("collect",)
STAGES = ("random", "medium", "expert")
SMOOTHING = 10  # neighbours on either side that an episode's smoothed return averages over
REPORTS = 10  # lines of progress over a collection


def check(cfg: ConfigDict) -> None:
    """Raises `UserError` if tasks that must be made together are cut into groups."""
    if cfg.collect.tasks_at_once:
        blocks.expect_apart(cfg.collect.behavior, _together(cfg.collect))


class Algorithm(NamedTuple):
    """An off-policy learner: an agent of `agents/` with its hyper-parameters.

    It sees observations joined with a code [Z]: the task's parameters if it is shared, else Z = 0.
    """

    name: str
    agent: Agent
    hp: dict[str, float]
    batch_size: int  # rows of an update


# Of every learner's section, beside the settings of its agent.
BATCH_SIZE = {"batch_size": Field(256, COUNT, "rows of an update")}


def settings(agent: ModuleType, **values: Any) -> dict[str, Field]:
    """The `DEFAULTS` of a file of `agents/` for a behaviour: not swept, `values` as defaults."""
    return {
        name: field._replace(value=values.get(name, field.value), swept=False, decays=False)
        for name, field in agent.DEFAULTS.items()
    }


def learner(name: str, agent: ModuleType, cfg: ConfigDict, env: Env) -> Behavior:
    """The behaviour in which a file of `agents/` learns online, under the settings `cfg`."""
    hp = {name: cfg[name] for name, field in agent.DEFAULTS.items() if field.swept}
    made = agent.make(cfg, RowSpec(env.spec.action_dim, cfg.batch_size))
    return make(Algorithm(name, made, hp, cfg.batch_size), cfg.collect, env)


def make(algorithm: Algorithm, collect: ConfigDict, env: Env) -> Behavior:
    """Builds a behaviour from the section `collect`, with one learner per task or one for all.

    Every task gets, in this order:

    1. `random_episodes` episodes of uniform actions: policy and stage "random".
    2. `iterations` times `episodes_per_iteration` episodes, with `updates_per_iteration` updates
       each time: the algorithm's name as policy, stages by `split_stages`.
    3. `cross_task_episodes` episodes by the final policies of other tasks: policy "cross_task",
       stage "expert".

    Episodes have leaves [N, E, T, ...].
    """
    spec = env.spec
    policies = ("random", algorithm.name)
    if collect.cross_task_episodes:
        policies += (CROSS_TASK,)
    num_random, num_new = collect.random_episodes, collect.episodes_per_iteration
    num_learned = num_random + collect.iterations * num_new
    shared = collect.shared_learner
    uniform = uniform_policy(spec.action_dim, collect.random_action_scale)
    play_random = make_rollout(env, uniform, 1, greedy=False)
    policy = code_policy(algorithm.agent, spec.action_dim)
    play = make_rollout(env, policy, 1, greedy=False, params_axis=None if shared else 0)
    init = jax.jit(partial(_init, algorithm.agent, shared), static_argnums=1)
    learn = jax.jit(partial(_learn_shared if shared else _learn_each, algorithm, collect))

    def run(tasks, key, report, first=0):
        code = join_parameters(tasks) if shared else jnp.zeros((len(jax.tree.leaves(tasks)[0]), 0))
        num_tasks, code_dim = code.shape
        key_init, key_random, key_play, key_learn, key_cross = jax.random.split(key, 5)

        def keys_of_learners(key):
            return key if shared else keys_of(key, first, num_tasks)

        learner = init(keys_of_learners(key_init), spec.obs_dim + code_dim)
        replay = _empty_replay(spec, num_tasks, num_learned)
        streams = no_adaptation(num_tasks, num_random)
        keys = keys_of(key_random, first, num_tasks, num_random)
        replay = _write(replay, play_random(None, streams, tasks, keys), 0)
        streams = Adaptation(jnp.repeat(code[:, None], num_new, 1))
        report_every = max(1, collect.iterations // REPORTS)

        def acting(learner):
            return {"agent": algorithm.agent.export(learner)}

        # On a CPU JAX runs the calls of one thread in order, so the learners need another thread.
        with ThreadPoolExecutor(1) as worker:
            for i in range(collect.iterations):
                filled = num_random + i * num_new
                keys = keys_of_learners(jax.random.fold_in(key_learn, i))
                learning = worker.submit(_wait_for, learn, learner, replay, code, i, keys)
                keys = keys_of(jax.random.fold_in(key_play, i), first, num_tasks, num_new)
                played = play(acting(learner), streams, tasks, keys)
                learner = learning.result()
                replay = _write(replay, played, filled)
                if (i + 1) % report_every == 0:
                    mean = float(np.where(played.valid, played.reward, 0).sum(-1).mean())
                    report(
                        f"{algorithm.name}: {filled + num_new}/{num_learned} episodes per task, "
                        f"mean return {mean:.2f}"
                    )
        trajectory = jax.tree.map(np.asarray, replay)
        policy = np.full((num_tasks, num_learned), 1, np.int32)
        policy[:, :num_random] = 0
        stage = np.zeros_like(policy)
        returns = np.where(trajectory.valid, trajectory.reward, 0).sum(-1)
        stage[:, num_random:] = split_stages(returns[:, num_random:], collect.expert_quantile)
        collector = np.broadcast_to(first + np.arange(num_tasks)[:, None], policy.shape)
        episodes = Episodes(trajectory, policy, stage, collector)
        if collect.cross_task_episodes:

            def play_others(shift, key):
                """Plays one episode in every task i with the policy of task i + shift."""
                others = jnp.roll(code, -shift, 0)[:, None]
                actors = acting(learner)
                if not shared:
                    actors = jax.tree.map(lambda x: jnp.roll(x, -shift, 0), actors)
                return play(actors, Adaptation(others), tasks, key)

            num = collect.cross_task_episodes
            episodes = join(episodes, _cross(play_others, num_tasks, key_cross, num))
        return episodes

    return Behavior(policies, STAGES, run, _together(collect))


def _together(collect: ConfigDict) -> str | None:
    """Why all tasks must be made together; None if they need not."""
    if collect.shared_learner:
        return "collect.shared_learner=True has one learner of them all"
    if num := collect.cross_task_episodes:
        return f"collect.cross_task_episodes={num} play the policies of other tasks"
    return None


def split_stages(returns: np.ndarray, expert_quantile: float) -> np.ndarray:
    """Splits a learner's episodes into "medium" and "expert" at a quantile of the smoothed return.

    The smoothed return of an episode is the mean over itself and up to `SMOOTHING` neighbours on
    either side, so that luck with one start does not decide. Of equal ones the earlier is lower.

    Args:
        returns: [N, E] in time order.
        expert_quantile: share of the episodes, from the lowest, that is medium.

    Returns:
        int [N, E], indices into `STAGES`.
    """
    num = returns.shape[1]
    total = np.cumsum(np.pad(returns.astype(float), ((0, 0), (1, 0))), axis=1)
    low = np.maximum(np.arange(num) - SMOOTHING, 0)
    high = np.minimum(np.arange(num) + SMOOTHING + 1, num)
    smoothed = (total[:, high] - total[:, low]) / (high - low)
    rank = np.argsort(np.argsort(smoothed, axis=1, kind="stable"), axis=1)
    medium = rank < expert_quantile * num
    return np.where(medium, STAGES.index("medium"), STAGES.index("expert"))


def join(*parts: Episodes) -> Episodes:
    """Joins the episodes of several behaviours on the same tasks, along the axis of episodes."""
    return jax.tree.map(lambda *leaves: np.concatenate(leaves, 1), *parts)


def _wait_for(f: Callable, *args):
    """Calls a jitted function and waits for what it returns."""
    return jax.block_until_ready(f(*args))


def _init(agent, shared, key, size):
    """One learner from one key, or learners with leaves [N, ...] from keys [N]."""
    init = partial(agent.init, size=size)
    return (init if shared else jax.vmap(init))(key)


def _learn_each(algorithm, collect, learner, replay, code, iteration, keys):
    """The updates of an iteration with one learner per task.

    Args:
        learner: leaves [N, ...].
        replay: leaves [N, E, T, ...].
        code: [N, 0].
        iteration: [] int, from 0.
        keys: [N].
    """
    learn = partial(_learn, algorithm, collect)
    code = jnp.broadcast_to(code[:, None], (*replay.valid.shape[:2], code.shape[-1]))
    return jax.vmap(learn, (0, 0, 0, None, 0))(learner, replay, code, iteration, keys)


def _learn_shared(algorithm, collect, learner, replay, code, iteration, key):
    """The updates of an iteration with one learner on the steps of all tasks.

    Arguments are those of `_learn_each`, but `learner` has no axis over tasks, `code` is [N, Z] and
    there is one `key`.
    """
    code = jnp.repeat(code, replay.valid.shape[1], 0)
    joined = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), replay)
    return _learn(algorithm, collect, learner, joined, code, iteration, key)


def _learn(algorithm, collect, learner, replay, code, iteration, key):
    """Scans over the updates of one learner.

    Each update takes `batch_size` rows, drawn uniformly from the valid steps of `replay`, leaves
    [E, T, ...]. The code [E, Z] of an episode is joined to its observations.
    """
    num = collect.updates_per_iteration
    length = replay.valid.sum(-1)  # [E]; 0 for episodes that are not played yet
    end = jnp.cumsum(length)

    def update(learner, inputs):
        key, step_of_learner = inputs
        key_place, key_update = jax.random.split(key)
        place = jax.random.randint(key_place, (algorithm.batch_size,), 0, end[-1])
        episode = jnp.searchsorted(end, place, side="right")
        step = place - (end - length)[episode]
        steps, row_code = jax.tree.map(lambda x: x[episode, step], replay), code[episode]
        rows = Transitions(
            obs_code=jnp.concatenate([steps.obs, row_code], -1),
            action=steps.action,
            reward=steps.reward,
            next_obs_code=jnp.concatenate([steps.next_obs, row_code], -1),
            done=steps.done,
            real=steps.valid,
        )
        found = algorithm.agent.update(learner, rows, key_update, algorithm.hp, step_of_learner)
        return found[0], None

    steps_of_learner = iteration * num + jnp.arange(num)
    return jax.lax.scan(update, learner, (jax.random.split(key, num), steps_of_learner))[0]


def _cross(play_others: Callable, num_tasks: int, key: Array, num: int) -> Episodes:
    """Plays `num` episodes in every task, each with the policy of another task: leaves [N, num, T].

    In episode e task i is played by the policy of task i + s_e (modulo N), s_e drawn from 1 to
    N - 1. `play_others(s, key)` plays one episode of every task so, leaves [N, 1, 1, T, ...].
    """
    if num_tasks < 2:
        raise UserError("collect.cross_task_episodes needs at least two tasks, but there is one")
    key_shift = jax.random.fold_in(key, num)
    shifts = np.asarray(jax.random.randint(key_shift, (num,), 1, num_tasks))
    parts = []
    for e, shift in enumerate(shifts):
        steps = play_others(int(shift), jax.random.fold_in(key, e))._replace(success=None)
        collector = np.roll(np.arange(num_tasks), -shift)[:, None]
        policy = np.full_like(collector, 2)
        stage = np.full_like(collector, STAGES.index("expert"))
        trajectory = jax.tree.map(lambda x: np.asarray(x)[:, :, 0], steps)
        parts.append(Episodes(trajectory, policy, stage, collector))
    return join(*parts)


def _empty_replay(spec: EnvSpec, num_tasks: int, num_episodes: int) -> Trajectory:
    """A replay without a valid step, leaves [N, E, T, ...]."""
    expect_room(spec, num_tasks, num_episodes)
    shape = (num_tasks, num_episodes, spec.max_episode_steps)
    return Trajectory(
        obs=jnp.zeros((*shape, spec.obs_dim)),
        action=jnp.zeros((*shape, spec.action_dim)),
        reward=jnp.zeros(shape),
        next_obs=jnp.zeros((*shape, spec.obs_dim)),
        done=jnp.zeros(shape, bool),
        valid=jnp.zeros(shape, bool),
    )


@partial(jax.jit, donate_argnums=0)
def _write(replay: Trajectory, played: Trajectory, at: int) -> Trajectory:
    """Writes one-episode streams [N, W, 1, T, ...] into the replay [N, E, T, ...] from `at` on."""
    write = jax.lax.dynamic_update_slice_in_dim
    return jax.tree.map(
        lambda x, new: write(x, new[:, :, 0].astype(x.dtype), at, 1),
        replay,
        played._replace(success=None),
    )
