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
from metastar.config.fields import COUNT, NOT_NEGATIVE, RATE, Field, Like
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

DEFAULTS = {
    "hidden": Field((32, 32), COUNT, "widths of the hidden layers"),
    "lr": Field(3e-4, RATE, "learning rate of actor and critics"),
    "gamma": Field(Like("env.discount"), "[0, 1)", "discount"),
    "tau": Field(0.005, RATE, "Polyak rate of the targets"),
    "batch_size": Field(256, COUNT, "rows of an update"),
    "exploration_noise": Field(
        0.1, NOT_NEGATIVE, "standard deviation of the noise on actions", before=0.1
    ),
    "smoothing_noise": Field(
        0.2, NOT_NEGATIVE, "standard deviation of the noise on the target's action", before=0.2
    ),
    "smoothing_clip": Field(0.5, NOT_NEGATIVE, "largest such noise", before=0.5),
    "policy_delay": Field(2, COUNT, "critic updates per actor update", before=2),
}
SECTIONS = {"collect": (online,)}


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
    spec = env.spec
    actor, critic = Actor(cfg.hidden, spec.action_dim), Critic(cfg.hidden)
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
            cfg.gamma,
            0.0,
            partial(smoothed_action, cfg, actor, learner.target_actor),
            partial(twin_q, critic, learner.target_critic),
        )
        batch = critic_loss.CriticBatch(rows.obs, rows.action, target, rows.valid)
        critic_params, critic_opt, _ = critic_step(
            learner.critic, learner.critic_opt, cfg.lr, batch, 0.0, critic
        )
        q_fn = partial(twin_q, critic, critic_params)
        actor_params, actor_opt, _ = actor_step(
            learner.actor, learner.actor_opt, cfg.lr, rows.obs, q_fn
        )
        new = Learner(
            actor=actor_params,
            critic=critic_params,
            target_actor=polyak(actor_params, learner.target_actor, cfg.tau),
            target_critic=polyak(critic_params, learner.target_critic, cfg.tau),
            actor_opt=actor_opt,
            critic_opt=critic_opt,
        )
        waiting = learner._replace(critic=critic_params, critic_opt=critic_opt)
        moves = number % cfg.policy_delay == 0
        return jax.tree.map(lambda a, b: jnp.where(moves, a, b), new, waiting)

    def act(params, adaptation, carry, step_in, key, greedy):
        noise = jnp.where(greedy, 0, jax.random.normal(key, (spec.action_dim,)))
        mean = greedy_action(actor, params, online.join_code(step_in, adaptation))
        return mean + cfg.exploration_noise * noise, carry

    policy = Policy(lambda params, adaptation: (), act)
    algorithm = online.Algorithm("td3", init, update, policy, cfg.batch_size)
    return online.make(algorithm, cfg.collect, env)


def smoothed_action(cfg, actor: Actor, params, obs, noise):
    """The target's action `clip(pi'(s) + clip(sigma eps, -c, c), -1, 1)`, and 0 for its entropy.

    Args:
        cfg: `smoothing_noise` is sigma, `smoothing_clip` is c.
        actor: the module.
        params: of the target actor.
        obs: [B, O].
        noise: eps [B, A], standard normal.

    Returns:
        [B, A] and [B].
    """
    limit = cfg.smoothing_clip
    shift = jnp.clip(cfg.smoothing_noise * noise, -limit, limit)
    action = jnp.clip(greedy_action(actor, params, obs) + shift, -1, 1)
    return action, jnp.zeros(action.shape[:-1])


def actor_loss(actor: Actor, params, obs, q_fn):
    """`-mean Q_1(s, pi(s))`: scalar and no metrics."""
    return -q_fn(obs, greedy_action(actor, params, obs))[0].mean(), {}
