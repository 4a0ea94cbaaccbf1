"""Soft actor-critic on one task each: one learner per task, all of them in one jitted loop.

Haarnoja et al. 2018 (arXiv 1812.05905) with a fixed entropy weight. The order of an iteration and
of an update is that of the MetaSTAR reference: a few episodes of the stochastic policy, then
updates of target, critics, Polyak average and actor. The data set is the whole replay in time
order, so it runs from random to expert.
"""

from functools import partial
from itertools import pairwise
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from metastar.behaviors import Behavior
from metastar.envs.rollout import no_adaptation, rollout, uniform_policy
from metastar.errors import UserError
from metastar.losses import actor as actor_loss
from metastar.losses import critic as critic_loss
from metastar.nets.actor_critic import (
    Actor,
    Critic,
    init_actor,
    init_twin_critic,
    sample_action,
    twin_q,
)
from metastar.ops.td import polyak
from metastar.types import Array, Env, EnvSpec, Policy, Trajectory
from metastar.update import gradient_step, make_optimizer

POLICIES = ("random", "sac")
STAGES = ("random", "medium", "expert")
SMOOTHING = 10  # episodes on either side that enter an episode's smoothed return
REPORTS = 10  # lines of progress over a collection


class Weights(NamedTuple):
    """The coefficients of an update."""

    gamma: float
    alpha: float
    tau: float
    lr: float


class Learner(NamedTuple):
    """Everything one learner changes; leaves get a leading axis over tasks."""

    actor: Any
    critic: Any
    target: Any
    actor_opt: Any
    critic_opt: Any


def make(cfg: ConfigDict, env: Env) -> Behavior:
    """Builds the collection of `cfg.collect` in one simulator.

    First `random_episodes` of uniform actions (policy and stage "random"), then `iterations` times
    `episodes_per_iteration` episodes and `updates_per_iteration` updates (policy "sac"). The
    stages of the learner's episodes are those of `split_stages`.

    Raises:
        UserError: the family's episodes may end before their time limit.
    """
    spec, collect = env.spec, cfg.collect
    if spec.done_ends_episode:
        raise UserError(
            f"behavior 'sac' needs episodes of a fixed length, which family {spec.name!r} "
            "does not have; choose another with --config.collect.behavior"
        )
    actor, critic = Actor(tuple(collect.hidden), spec.action_dim), Critic(tuple(collect.hidden))
    weights = Weights(collect.gamma, collect.alpha, collect.tau, collect.lr)
    learn = _make_learn(collect, actor, critic, weights)
    random_policy = uniform_policy(spec.action_dim, collect.random_action_scale)
    num_random, num_new = collect.random_episodes, collect.episodes_per_iteration
    num_episodes = num_random + collect.iterations * num_new

    @jax.jit
    def start(tasks, key):
        key_init, key_play = jax.random.split(key)
        keys = jax.random.split(key_init, _num_tasks(tasks))
        learners = jax.vmap(partial(_init, actor, critic, spec))(keys)
        played = _play(env, random_policy, None, tasks, key_play, num_random)
        return learners, jax.tree.map(lambda x: _pad(x, num_episodes - num_random), played)

    def iteration(tasks, key, i, carry):
        learners, replay = carry
        key_play, key_learn = jax.random.split(jax.random.fold_in(key, i))
        played = _play(env, _policy(actor), learners.actor, tasks, key_play, num_new)
        filled = num_random + i * num_new
        replay = jax.tree.map(
            lambda x, new: jax.lax.dynamic_update_slice_in_dim(x, new, filled, 1), replay, played
        )
        keys = jax.random.split(key_learn, _num_tasks(tasks))
        learners = jax.vmap(learn, (0, 0, None, 0))(learners, replay, filled + num_new, keys)
        return learners, replay

    @partial(jax.jit, donate_argnums=0)
    def advance(carry, tasks, key, first, last):
        carry = jax.lax.fori_loop(first, last, partial(iteration, tasks, key), carry)
        newest = num_random + (last - 1) * num_new
        reward = jax.lax.dynamic_slice_in_dim(carry[1].reward, newest, num_new, 1)
        return carry, reward.sum(-1).mean()

    def run(tasks, key, report):
        key_start, key_learn = jax.random.split(key)
        carry = start(tasks, key_start)
        stops = np.linspace(0, collect.iterations, min(REPORTS, collect.iterations) + 1).astype(int)
        for first, last in pairwise(stops):
            carry, mean = advance(carry, tasks, key_learn, first, last)
            finished = num_random + last * num_new
            report(f"sac: {finished}/{num_episodes} episodes per task, mean return {mean:.2f}")
        trajectory = jax.tree.map(np.asarray, carry[1])
        policy = np.full(trajectory.reward.shape[:2], POLICIES.index("sac"), np.int32)
        policy[:, :num_random] = POLICIES.index("random")
        stage = np.full_like(policy, STAGES.index("random"))
        stage[:, num_random:] = split_stages(trajectory.reward[:, num_random:].sum(-1))
        return trajectory, policy, stage

    return Behavior(POLICIES, STAGES, run)


def split_stages(returns: np.ndarray) -> np.ndarray:
    """Splits a learner's episodes into "medium" and "expert" by their smoothed return.

    The smoothed return of an episode is the mean over itself and up to `SMOOTHING` neighbours on
    either side, so that luck with one start does not decide. The lower half of the ranks is
    medium, the upper half expert; of equal ones the earlier is the lower.

    Args:
        returns: [N, E] in time order.

    Returns:
        int [N, E], indices into `STAGES`.
    """
    num = returns.shape[1]
    total = np.cumsum(np.pad(returns.astype(float), ((0, 0), (1, 0))), axis=1)
    low = np.maximum(np.arange(num) - SMOOTHING, 0)
    high = np.minimum(np.arange(num) + SMOOTHING + 1, num)
    smoothed = (total[:, high] - total[:, low]) / (high - low)
    rank = np.argsort(np.argsort(smoothed, axis=1, kind="stable"), axis=1)
    return np.where(rank < num / 2, STAGES.index("medium"), STAGES.index("expert"))


def _policy(actor: Actor) -> Policy:
    """The actor's own distribution at each state, or its mean when greedy."""

    def act(params, adaptation, carry, step_in, key, greedy):
        noise = jnp.where(greedy, 0, jax.random.normal(key, (actor.action_dim,)))
        return sample_action(actor, params, step_in.obs, noise)[0], carry

    return Policy(lambda params, adaptation: (), act)


def _play(env, policy, params, tasks, key, num_episodes) -> Trajectory:
    """Independent episodes, each task with the parameters of its own learner: [N, E, T, ...]."""

    def play(params, task, key):
        task = jax.tree.map(lambda x: x[None], task)
        streams = no_adaptation(1, num_episodes)
        played = rollout(env, policy, params, streams, task, key, 1, greedy=False)
        return jax.tree.map(lambda x: x[0, :, 0], played)

    return jax.vmap(play)(params, tasks, jax.random.split(key, _num_tasks(tasks)))


def _num_tasks(tasks) -> int:
    return len(jax.tree.leaves(tasks)[0])


def _pad(x: Array, num_episodes: int) -> Array:
    """Room for `num_episodes` more episodes behind those of x [N, E, ...]."""
    return jnp.concatenate([x, jnp.zeros((len(x), num_episodes, *x.shape[2:]), x.dtype)], 1)


def _init(actor: Actor, critic: Critic, spec: EnvSpec, key: Array) -> Learner:
    key_actor, key_critic = jax.random.split(key)
    actor_params = init_actor(key_actor, actor, spec.obs_dim)
    critic_params = init_twin_critic(key_critic, critic, spec.obs_dim, spec.action_dim)
    optimizer = make_optimizer()
    return Learner(
        actor=actor_params,
        critic=critic_params,
        target=critic_params,
        actor_opt=optimizer.init(actor_params),
        critic_opt=optimizer.init(critic_params),
    )


def _make_learn(collect: ConfigDict, actor: Actor, critic: Critic, weights: Weights):
    """Makes `learn(learner, replay [E, T, ...], filled, key) -> learner`, for one learner."""
    critic_step = gradient_step(critic_loss.loss, make_optimizer())
    actor_step = gradient_step(actor_loss.loss, make_optimizer())

    def update(replay, filled, learner, key):
        key_index, key_critic, key_actor = jax.random.split(key, 3)
        num_steps = replay.reward.shape[1]
        index = jax.random.randint(key_index, (collect.batch_size,), 0, filled * num_steps)
        row = jax.tree.map(lambda x: x[index // num_steps, index % num_steps], replay)
        target = critic_loss.target(
            row.reward,
            row.done,
            row.next_obs,
            critic_loss.draw_noise(key_critic, collect.batch_size, actor.action_dim),
            weights,
            partial(sample_action, actor, learner.actor),
            partial(twin_q, critic, learner.target),
        )
        batch = critic_loss.CriticBatch(row.obs, row.action, target, row.valid)
        critic_params, critic_opt, _ = critic_step(
            learner.critic, learner.critic_opt, weights.lr, batch, weights, critic
        )
        noise = jax.random.normal(key_actor, row.action.shape)
        q_fn = partial(twin_q, critic, critic_params)
        actor_params, actor_opt, _ = actor_step(
            learner.actor, learner.actor_opt, weights.lr, row.obs, noise, weights, actor, q_fn
        )
        target_params = polyak(critic_params, learner.target, weights.tau)
        return Learner(actor_params, critic_params, target_params, actor_opt, critic_opt)

    def learn(learner, replay, filled, key):
        keys = jax.random.split(key, collect.updates_per_iteration)
        step = partial(update, replay, filled)
        return jax.lax.scan(lambda state, key: (step(state, key), None), learner, keys)[0]

    return learn
