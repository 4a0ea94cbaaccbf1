"""Soft actor-critic with a fixed entropy weight, without a penalty on values: for online learning.

Haarnoja et al. 2018 (arXiv 1812.05905). The order of an update is that of the MetaSTAR reference:
targets, critics, Polyak average, actor.
"""

from functools import partial

import jax
import jax.numpy as jnp

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
from metastar.types import Agent, Learner, RowSpec

DEFAULTS = {
    "hidden": Field((128, 128), COUNT, "widths of the hidden layers"),
    "lr": Field(3e-4, RATE, "learning rate of actor and critics", swept=True, decays=True),
    "gamma": Field(Like("env.discount"), "[0, 1)", "discount", swept=True),
    "tau": Field(0.005, RATE, "Polyak rate of the targets", swept=True),
    "alpha": Field(0.01, NOT_NEGATIVE, "entropy weight", swept=True),
}
READS = ("env",)


def make(cfg, rows: RowSpec) -> Agent:
    """Binds actor and twin critics to their settings."""
    actor, critic = Actor(cfg.hidden, rows.action_dim), Critic(cfg.hidden)
    optimizer = make_optimizer()
    critic_step = gradient_step(critic_loss.loss, optimizer)
    actor_step = gradient_step(actor_loss.loss, optimizer)

    def init(key, size):
        key_actor, key_critic = jax.random.split(key)
        params = {
            "actor": init_actor(key_actor, actor, size),
            "critic": init_twin_critic(key_critic, critic, size, rows.action_dim),
        }
        opt_state = {name: optimizer.init(params[name]) for name in params}
        return Learner(params, {"critic": params["critic"]}, opt_state)

    def update(learner, batch, key, hp, step):
        """One update of `learner` on the rows [M * B, ...] of a batch.

        Targets `r + gamma (1 - done) (min_i Q'_i(s', a') - alpha log pi(a'|s'))`, critics, Polyak
        average, actor `alpha log pi - min_i Q_i` against the new critics.
        """
        params, opt_state = learner.params, learner.opt_state
        key_critic, key_actor = jax.random.split(key)
        target = critic_loss.target(
            batch.reward,
            batch.done,
            batch.next_obs_code,
            critic_loss.draw_noise(key_critic, *batch.action.shape),
            hp["gamma"],
            hp["alpha"],
            partial(sample_action, actor, params["actor"]),
            partial(twin_q, critic, learner.target["critic"]),
        )
        rated = critic_loss.CriticBatch(batch.obs_code, batch.action, target, batch.real)
        critics, critic_opt, metrics = critic_step(
            params["critic"], opt_state["critic"], hp["lr"], rated, 0.0, critic
        )
        target_critics = polyak(critics, learner.target["critic"], hp["tau"])
        actor_params, actor_opt, actor_metrics = actor_step(
            params["actor"],
            opt_state["actor"],
            hp["lr"],
            batch.obs_code,
            jax.random.normal(key_actor, batch.action.shape),
            hp["alpha"],
            actor,
            partial(twin_q, critic, critics),
        )
        learner = Learner(
            params={"actor": actor_params, "critic": critics},
            target={"critic": target_critics},
            opt_state={"actor": actor_opt, "critic": critic_opt},
        )
        return learner, {**metrics, **actor_metrics}

    def act(params, obs_code, noise, greedy):
        noise = jnp.where(greedy, 0, noise)
        return sample_action(actor, params["actor"], obs_code, noise)[0]

    def value(params, obs_code, action):
        return twin_q(critic, params["critic"], obs_code, action).min(0)

    return Agent(init, update, lambda learner: learner.params, act, value)
