"""Twin delayed deterministic policy gradient.

Fujimoto et al. 2018 (arXiv 1802.09477), with the paper's exploration noise and target policy, both
of which the variant of the MetaSTAR reference lacks.
"""

from functools import partial

import jax
import jax.numpy as jnp

from metastar.config.fields import COUNT, NOT_NEGATIVE, RATE, Field, Like
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
from metastar.models.nets.mlp import LAYERS
from metastar.ops.optim import gradient_step, make_optimizer
from metastar.ops.td import polyak
from metastar.types import Agent, Learner, RowSpec

DEFAULTS = {
    "hidden": Field((128, 128), COUNT, "widths of the hidden layers"),
    "critic_layers": Field(
        "relu", tuple(LAYERS), "ReLU; or LayerNorm and Mish: TD-MPC2", before="relu"
    ),
    "lr": Field(3e-4, RATE, "learning rate of actor and critics", swept=True, decays=True),
    "gamma": Field(Like("env.discount"), "[0, 1)", "discount", swept=True),
    "tau": Field(0.005, RATE, "Polyak rate of the targets", swept=True),
    "exploration_noise": Field(
        0.1, NOT_NEGATIVE, "standard deviation of the noise on actions", before=0.1
    ),
    "smoothing_noise": Field(
        0.2,
        NOT_NEGATIVE,
        "standard deviation of the noise on the target's action",
        swept=True,
        before=0.2,
    ),
    "smoothing_clip": Field(0.5, NOT_NEGATIVE, "largest such noise", swept=True, before=0.5),
    "policy_delay": Field(2, COUNT, "critic updates per actor update", before=2),
}
READS = ("env",)


def make(cfg, rows: RowSpec) -> Agent:
    """Binds actor and twin critics; it acts with `tanh(mean) + exploration_noise * N(0, 1)`."""
    actor, critic = Actor(cfg.hidden, rows.action_dim), Critic(cfg.hidden, cfg.critic_layers)
    optimizer = make_optimizer()
    critic_step = gradient_step(critic_loss.loss, optimizer)
    actor_step = gradient_step(partial(td3.actor_loss, actor=actor), optimizer)

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
        critics; at every `policy_delay`-th step also the actor, `-Q_1(s, pi(s))`, and both targets.
        """
        target = critic_loss.target(
            batch.reward,
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
            learner.params["critic"], learner.opt_state["critic"], hp["lr"], rated, 0.0, critic
        )
        learner = learner._replace(
            params={**learner.params, "critic": critics},
            opt_state={**learner.opt_state, "critic": critic_opt},
        )

        def move(learner):
            actor_params, actor_opt, _ = actor_step(
                learner.params["actor"],
                learner.opt_state["actor"],
                hp["lr"],
                batch.obs_code,
                partial(twin_q, critic, critics),
            )
            params = {"actor": actor_params, "critic": critics}
            return learner._replace(
                params=params,
                target=polyak(params, learner.target, hp["tau"]),
                opt_state={"actor": actor_opt, "critic": critic_opt},
            )

        moves = step % cfg.policy_delay == 0
        return jax.lax.cond(moves, move, lambda learner: learner, learner), metrics

    def act(params, obs_code, noise, greedy):
        mean = greedy_action(actor, params["actor"], obs_code)
        return mean + cfg.exploration_noise * jnp.where(greedy, 0, noise)

    def value(params, obs_code, action):
        return twin_q(critic, params["critic"], obs_code, action).min(0)

    return Agent(init, update, lambda learner: learner.params, act, value)
