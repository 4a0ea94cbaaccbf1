"""Twin delayed deterministic policy gradient.

Fujimoto et al. 2018 (arXiv 1802.09477), with its exploration noise and target policy, both of
which the MetaSTAR reference's variant lacks.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from metastar.collection import online
from metastar.losses import critic as critic_loss
from metastar.models.nets.actor_critic import (
    Actor,
    Critic,
    greedy_action,
    init_actor,
    init_twin_critic,
    twin_q,
)
from metastar.ops.optim import gradient_step, make_optimizer
from metastar.ops.td import polyak
from metastar.types import Behavior, Env, Policy


class Learner(NamedTuple):
    """Everything a learner changes."""

    actor: Any
    critic: Any
    target_actor: Any
    target_critic: Any
    actor_opt: Any
    critic_opt: Any


def make(cfg: ConfigDict, env: Env) -> Behavior:
    """Builds the collection of `online.make` with TD3 learners.

    They act with `tanh(mean) + exploration_noise * N(0, 1)`.
    """
    spec, collect = env.spec, cfg.collect
    actor, critic = Actor(tuple(collect.hidden), spec.action_dim), Critic(tuple(collect.hidden))
    weights = online.Weights(collect.gamma, 0.0, collect.tau, collect.lr)
    optimizer = make_optimizer()
    critic_step = gradient_step(critic_loss.loss, optimizer)
    actor_step = gradient_step(partial(actor_loss, actor), optimizer)

    def init(key, size):
        key_actor, key_critic = jax.random.split(key)
        actor_params = init_actor(key_actor, actor, size)
        critic_params = init_twin_critic(key_critic, critic, size, spec.action_dim)
        return Learner(
            actor=actor_params,
            critic=critic_params,
            target_actor=actor_params,
            target_critic=critic_params,
            actor_opt=optimizer.init(actor_params),
            critic_opt=optimizer.init(critic_params),
        )

    def update(learner, rows, key, number):
        target = critic_loss.target(
            rows.reward,
            rows.done,
            rows.next_obs,
            critic_loss.draw_noise(key, *rows.action.shape),
            weights,
            partial(smoothed_action, collect, actor, learner.target_actor),
            partial(twin_q, critic, learner.target_critic),
        )
        batch = critic_loss.CriticBatch(rows.obs, rows.action, target, rows.valid)
        critic_params, critic_opt, _ = critic_step(
            learner.critic, learner.critic_opt, weights.lr, batch, weights, critic
        )
        q_fn = partial(twin_q, critic, critic_params)
        actor_params, actor_opt, _ = actor_step(
            learner.actor, learner.actor_opt, weights.lr, rows.obs, q_fn
        )
        new = Learner(
            actor=actor_params,
            critic=critic_params,
            target_actor=polyak(actor_params, learner.target_actor, weights.tau),
            target_critic=polyak(critic_params, learner.target_critic, weights.tau),
            actor_opt=actor_opt,
            critic_opt=critic_opt,
        )
        waiting = learner._replace(critic=critic_params, critic_opt=critic_opt)
        moves = number % collect.policy_delay == 0
        return jax.tree.map(lambda a, b: jnp.where(moves, a, b), new, waiting)

    def act(params, adaptation, carry, step_in, key, greedy):
        noise = jnp.where(greedy, 0, jax.random.normal(key, (spec.action_dim,)))
        mean = greedy_action(actor, params, online.join_code(step_in, adaptation))
        return mean + collect.exploration_noise * noise, carry

    policy = Policy(lambda params, adaptation: (), act)
    return online.make(online.Algorithm("td3", init, update, policy), cfg, env)


def smoothed_action(collect, actor: Actor, params, obs, noise):
    """The target's action `clip(pi'(s) + clip(sigma eps, -c, c), -1, 1)`, and 0 for its entropy.

    Args:
        collect: `smoothing_noise` is sigma, `smoothing_clip` is c.
        actor: the module.
        params: of the target actor.
        obs: [B, O].
        noise: eps [B, A], standard normal.

    Returns:
        [B, A] and [B].
    """
    limit = collect.smoothing_clip
    shift = jnp.clip(collect.smoothing_noise * noise, -limit, limit)
    action = jnp.clip(greedy_action(actor, params, obs) + shift, -1, 1)
    return action, jnp.zeros(action.shape[:-1])


def actor_loss(actor: Actor, params, obs, q_fn):
    """`-mean Q_1(s, pi(s))`: scalar and no metrics."""
    return -q_fn(obs, greedy_action(actor, params, obs))[0].mean(), {}
