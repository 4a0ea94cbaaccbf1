"""TD3 with behaviour cloning on (observation, code): the smallest change of TD3 for given data.

Fujimoto and Gu 2021 (arXiv 2106.06860); GENTLE's agent (AAAI 2024). Their normalisation of states
is `sampler.normalize_obs`.
"""

from functools import partial

import jax
import jax.numpy as jnp

from metastar.config.fields import COUNT, NOT_NEGATIVE, POSITIVE, RATE, Field, Like
from metastar.losses import critic as critic_loss
from metastar.losses import td3
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
from metastar.types import Agent, Learner, RowSpec

DEFAULTS = {
    "hidden": Field((256, 256), COUNT, "widths of the hidden layers; TD3+BC, GENTLE three"),
    "gamma": Field(Like("env.discount"), "[0, 1)", "discount", swept=True),
    "tau": Field(0.005, RATE, "Polyak rate of the targets; TD3+BC", swept=True),
    "actor_lr": Field(3e-4, RATE, "learning rate; TD3+BC", swept=True, decays=True),
    "critic_lr": Field(3e-4, RATE, "learning rate; TD3+BC", swept=True, decays=True),
    "value_weight": Field(
        2.5, NOT_NEGATIVE, "of the value, in units of its mean size, against cloning", swept=True
    ),
    "smoothing_noise": Field(
        0.2, NOT_NEGATIVE, "standard deviation of the noise on the target's action", swept=True
    ),
    "smoothing_clip": Field(0.5, NOT_NEGATIVE, "largest such noise; TD3+BC", swept=True),
    "policy_delay": Field(2, COUNT, "critic updates per actor update; TD3+BC"),
    "exploration_noise": Field(
        0.1, NOT_NEGATIVE, "standard deviation of the noise on actions that are not greedy; TD3"
    ),
    "reward_scale": Field(1.0, POSITIVE, "rewards are multiplied by it; GENTLE 5"),
}
READS = ("env",)


def make(cfg, rows: RowSpec) -> Agent:
    """Binds actor and twin critics to their settings."""
    actor, critic = Actor(cfg.hidden, rows.action_dim), Critic(cfg.hidden)
    optimizer = make_optimizer()
    critic_step = gradient_step(critic_loss.loss, optimizer)
    actor_step = gradient_step(partial(td3.cloning_actor_loss, actor=actor), optimizer)

    def init(key, size):
        key_actor, key_critic = jax.random.split(key)
        params = {
            "actor": init_actor(key_actor, actor, size),
            "critic": init_twin_critic(key_critic, critic, size, rows.action_dim),
        }
        opt_state = {name: optimizer.init(params[name]) for name in params}
        return Learner(params, params, opt_state)

    def update(learner, batch, key, hp, step):
        """One update of `learner` on the rows [M * B, ...] of a batch.

        Targets `r + gamma (1 - done) min_i Q'_i(s', a')` at the target actor's smoothed action, and
        critics; at every `policy_delay`-th step also the actor, `cloning_actor_loss` against the
        new critics, and all targets.
        """
        target = critic_loss.target(
            cfg.reward_scale * batch.reward,
            batch.done,
            batch.next_obs_code,
            critic_loss.draw_noise(key, *batch.action.shape),
            hp["gamma"],
            0.0,
            partial(td3.smoothed_action, hp, actor, learner.target["actor"]),
            partial(twin_q, critic, learner.target["critic"]),
        )
        rated = critic_loss.CriticBatch(batch.obs_code, batch.action, target, batch.real)
        critics, critic_opt, metrics = critic_step(
            learner.params["critic"],
            learner.opt_state["critic"],
            hp["critic_lr"],
            rated,
            0.0,
            critic,
        )

        def move(actor_params, actor_opt, targets):
            actor_params, actor_opt, _ = actor_step(
                actor_params,
                actor_opt,
                hp["actor_lr"],
                batch.obs_code,
                batch.action,
                partial(twin_q, critic, critics),
                hp["value_weight"],
            )
            params = {"actor": actor_params, "critic": critics}
            return actor_params, actor_opt, polyak(params, targets, hp["tau"])

        start = learner.params["actor"], learner.opt_state["actor"], learner.target
        actor_params, actor_opt, targets = jax.lax.cond(
            step % cfg.policy_delay == 0, move, lambda *same: same, *start
        )
        params = {"actor": actor_params, "critic": critics}
        opt_state = {"actor": actor_opt, "critic": critic_opt}
        return learner._replace(params=params, target=targets, opt_state=opt_state), metrics

    def act(params, obs_code, noise, greedy):
        mean = greedy_action(actor, params["actor"], obs_code)
        return jnp.clip(mean + cfg.exploration_noise * jnp.where(greedy, 0, noise), -1, 1)

    def value(params, obs_code, action):
        """In units of the data's rewards."""
        return twin_q(critic, params["critic"], obs_code, action).min(0) / cfg.reward_scale

    return Agent(init, update, lambda learner: learner.params, act, value)
