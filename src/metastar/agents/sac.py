"""Soft actor-critic with a fixed entropy weight, without a penalty on values: for online learning.

Haarnoja et al. 2018 (arXiv 1812.05905). The order of an update is that of the MetaSTAR reference:
targets, critics, Polyak average, actor.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from metastar.config.fields import COUNT, NOT_NEGATIVE, RATE, Field, Like
from metastar.data.rows import Transitions
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
from metastar.models.nets.mlp import LAYERS
from metastar.ops.optim import gradient_step, make_optimizer
from metastar.ops.td import polyak
from metastar.types import Agent, Array, Learner, RowSpec

DEFAULTS = {
    "hidden": Field((128, 128), COUNT, "widths of the hidden layers"),
    "critic_layers": Field(
        "relu", tuple(LAYERS), "ReLU; or LayerNorm and Mish: TD-MPC2", before="relu"
    ),
    "lr": Field(3e-4, RATE, "learning rate of actor and critics", swept=True, decays=True),
    "gamma": Field(Like("env.discount"), "[0, 1)", "discount", swept=True),
    "tau": Field(0.005, RATE, "Polyak rate of the targets", swept=True),
    "alpha": Field(0.01, NOT_NEGATIVE, "entropy weight", swept=True),
}
READS = ("env",)


class Noise(NamedTuple):
    """What an update draws, standard normal."""

    next_action: Array  # [R, A] of the target's actions
    action: Array  # [R, A] of the actor's


class Nets(NamedTuple):
    """The modules."""

    actor: Actor
    critic: Critic


def draw_noise(key: Array, shape: tuple[int, int]) -> Noise:
    """Draws the noise of an update on actions of that shape, [R, A]."""
    key_critic, key_actor = jax.random.split(key)
    next_action = critic_loss.draw_noise(key_critic, *shape).next_action
    return Noise(next_action, jax.random.normal(key_actor, shape))


def rated(
    learner: Learner, rows: Transitions, noise: Noise, hp: dict, nets: Nets
) -> critic_loss.CriticBatch:
    """The rows with targets `r + gamma (1 - done) (min_i Q'_i(s', a') - alpha log pi(a'|s'))`."""
    target = critic_loss.target(
        rows.reward,
        rows.done,
        rows.next_obs_code,
        critic_loss.CriticNoise(noise.next_action, None, None, None),
        hp["gamma"],
        hp["alpha"],
        partial(sample_action, nets.actor, learner.params["actor"]),
        partial(twin_q, nets.critic, learner.target["critic"]),
    )
    return critic_loss.CriticBatch(rows.obs_code, rows.action, target, rows.real)


def code_loss(learner: Learner, rows: Transitions, noise: Noise, hp: dict, nets: Nets) -> Array:
    """The loss [] of both critics in `update`, as a function of the rows' codes."""
    batch = rated(learner, rows, noise, hp, nets)
    batch = batch._replace(target=jax.lax.stop_gradient(batch.target))
    return critic_loss.loss(learner.params["critic"], batch, 0.0, nets.critic)[0]


def update(
    learner: Learner, rows: Transitions, noise: Noise, hp: dict, nets: Nets
) -> tuple[Learner, dict[str, Array]]:
    """One update on rows [R, ...]: targets, critics, Polyak average, actor. It draws nothing.

    The actor descends `alpha log pi - min_i Q_i` against the new critics.
    """
    params, opt_state, optimizer = learner.params, learner.opt_state, make_optimizer()
    critics, critic_opt, metrics = gradient_step(critic_loss.loss, optimizer)(
        *(params["critic"], opt_state["critic"], hp["lr"]),
        *(rated(learner, rows, noise, hp, nets), 0.0, nets.critic),
    )
    target_critics = polyak(critics, learner.target["critic"], hp["tau"])
    actor, actor_opt, actor_metrics = gradient_step(actor_loss.loss, optimizer)(
        *(params["actor"], opt_state["actor"], hp["lr"]),
        *(rows.obs_code, noise.action, hp["alpha"], nets.actor),
        partial(twin_q, nets.critic, critics),
    )
    learner = Learner(
        params={"actor": actor, "critic": critics},
        target={"critic": target_critics},
        opt_state={"actor": actor_opt, "critic": critic_opt},
    )
    return learner, {**metrics, **actor_metrics}


def make(cfg, rows: RowSpec) -> Agent:
    """Binds actor and twin critics to their settings."""
    nets = Nets(Actor(cfg.hidden, rows.action_dim), Critic(cfg.hidden, cfg.critic_layers))
    optimizer = make_optimizer()

    def init(key, size):
        key_actor, key_critic = jax.random.split(key)
        params = {
            "actor": init_actor(key_actor, nets.actor, size),
            "critic": init_twin_critic(key_critic, nets.critic, size, rows.action_dim),
        }
        opt_state = {name: optimizer.init(params[name]) for name in params}
        return Learner(params, {"critic": params["critic"]}, opt_state)

    def drawn(fn):
        """`fn` with the noise of a key."""

        def run(learner, rows, key, hp, step):
            del step
            return fn(learner, rows, draw_noise(key, rows.action.shape), hp, nets)

        return run

    def act(params, obs_code, noise, greedy):
        noise = jnp.where(greedy, 0, noise)
        return sample_action(nets.actor, params["actor"], obs_code, noise)[0]

    def value(params, obs_code, action):
        return twin_q(nets.critic, params["critic"], obs_code, action).min(0)

    def export(learner):
        return learner.params

    return Agent(init, drawn(update), export, act, value, code_loss=drawn(code_loss))
