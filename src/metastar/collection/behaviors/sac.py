"""Soft actor-critic with a fixed entropy weight.

Haarnoja et al. 2018 (arXiv 1812.05905). The order of an update is that of the MetaSTAR reference:
targets, critics, Polyak average, actor.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from metastar.collection import online
from metastar.config.fields import COUNT, NOT_NEGATIVE, RATE, Field, Like
from metastar.losses import actor as actor_loss
from metastar.losses import critic as critic_loss
from metastar.models.nets.actor_critic import (
    Actor,
    Critic,
    init_actor,
    init_twin_critic,
    sample_action,
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
    "alpha": Field(0.01, NOT_NEGATIVE, "entropy weight"),
}
SECTIONS = {"collect": (online,)}


class Learner(NamedTuple):
    """Everything a learner changes."""

    actor: Any
    critic: Any
    target: Any
    actor_opt: Any
    critic_opt: Any


def make(cfg: ConfigDict, env: Env) -> Behavior:
    """Builds the collection of `online.make` with soft actor-critic learners."""
    spec = env.spec
    actor, critic = Actor(cfg.hidden, spec.action_dim), Critic(cfg.hidden)
    optimizer = make_optimizer()
    critic_step = gradient_step(critic_loss.loss, optimizer)
    actor_step = gradient_step(actor_loss.loss, optimizer)

    def init(key, size):
        key_actor, key_critic = jax.random.split(key)
        actor_params = init_actor(key_actor, actor, size)
        critic_params = init_twin_critic(key_critic, critic, size, spec.action_dim)
        return Learner(
            actor=actor_params,
            critic=critic_params,
            target=critic_params,
            actor_opt=optimizer.init(actor_params),
            critic_opt=optimizer.init(critic_params),
        )

    def update(learner, rows, key, number):
        key_critic, key_actor = jax.random.split(key)
        target = critic_loss.target(
            rows.reward,
            rows.done,
            rows.next_obs,
            critic_loss.draw_noise(key_critic, *rows.action.shape),
            cfg.gamma,
            cfg.alpha,
            partial(sample_action, actor, learner.actor),
            partial(twin_q, critic, learner.target),
        )
        batch = critic_loss.CriticBatch(rows.obs, rows.action, target, rows.valid)
        critic_params, critic_opt, _ = critic_step(
            learner.critic, learner.critic_opt, cfg.lr, batch, 0.0, critic
        )
        noise = jax.random.normal(key_actor, rows.action.shape)
        q_fn = partial(twin_q, critic, critic_params)
        actor_params, actor_opt, _ = actor_step(
            learner.actor, learner.actor_opt, cfg.lr, rows.obs, noise, cfg.alpha, actor, q_fn
        )
        target_params = polyak(critic_params, learner.target, cfg.tau)
        return Learner(actor_params, critic_params, target_params, actor_opt, critic_opt)

    def act(params, adaptation, carry, step_in, key, greedy):
        noise = jnp.where(greedy, 0, jax.random.normal(key, (spec.action_dim,)))
        return sample_action(actor, params, online.join_code(step_in, adaptation), noise)[0], carry

    policy = Policy(lambda params, adaptation: (), act)
    algorithm = online.Algorithm("sac", init, update, policy, cfg.batch_size)
    return online.make(algorithm, cfg.collect, env)
