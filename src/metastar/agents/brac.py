"""Behaviour-regularised actor-critic on (observation, code): FOCAL's agent, CSRO's and ER-TRL's.

Wu et al. 2019 (arXiv 1911.11361) with the KL divergence of the policy from the data in its dual
form (Nowozin et al. 2016, arXiv 1606.00709), a state value as in soft actor-critic, and a weight of
the divergence that is adjusted, as in FOCAL (Li et al. 2021, arXiv 2010.01112).

The default weights are in units of the data's rewards. The published ones go with rewards times 5
or 100, which critics need many more updates for (docs/log.md); `paper` presets name them.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from metastar.config.fields import COUNT, NOT_NEGATIVE, POSITIVE, RATE, Field, Like
from metastar.data.rows import Transitions
from metastar.losses import brac
from metastar.losses.iql import critic_target
from metastar.models.nets.actor_critic import Actor, Critic, init_actor, init_twin_critic, twin_q
from metastar.models.nets.mlp import MLP
from metastar.ops import gaussian
from metastar.ops.optim import gradient_step, make_optimizer
from metastar.ops.td import polyak
from metastar.types import Agent, Array, Learner, RowSpec

LOG_STD_MAX = 0.0  # of the policy, before tanh; FOCAL
DEFAULTS = {
    "hidden": Field((256, 256, 256), COUNT, "widths of the hidden layers; FOCAL"),
    "gamma": Field(Like("env.discount"), "[0, 1)", "discount", swept=True),
    "tau": Field(0.005, RATE, "Polyak rate of the target state value; FOCAL", swept=True),
    "actor_lr": Field(1e-3, RATE, "learning rate; FOCAL 3e-4", swept=True, decays=True),
    "critic_lr": Field(1e-3, RATE, "learning rate; FOCAL 3e-4", swept=True, decays=True),
    "value_lr": Field(1e-3, RATE, "learning rate; FOCAL 3e-4", swept=True, decays=True),
    "dual_lr": Field(1e-4, RATE, "of the dual network; FOCAL", swept=True, decays=True),
    "dual_steps": Field(3, COUNT, "of the dual network in an update, each on new rows; FOCAL"),
    "gradient_penalty": Field(
        "gradient",
        ("gradient", "value"),
        "what it keeps below 1: the dual network's slope in the action, as meant, or its output, "
        "as in the codes of FOCAL, CSRO, ER-TRL and UNICORN",
    ),
    "penalty_weight": Field(5.0, NOT_NEGATIVE, "of the gradient penalty; FOCAL", swept=True),
    "divergence": Field(
        "updated",
        ("updated", "previous", "mixed"),
        "the dual network that actor and weight see: after its steps (CSRO, ER-TRL), before them, "
        "or before them with the gradient through the weights after them (FOCAL's code)",
    ),
    "value_penalty": Field(
        0.0,
        "[0, 1]",
        "share of the divergence at s that critics pay for too; FOCAL's Ant-Dir, Cheetah-Dir 1",
        swept=True,
    ),
    "alpha": Field(1.0, NOT_NEGATIVE, "first weight of the divergence; FOCAL 50 (Cheetah-Vel)"),
    "alpha_max": Field(2000.0, NOT_NEGATIVE, "its largest; FOCAL 2000", swept=True),
    "alpha_lr": Field(0.1, NOT_NEGATIVE, "its rate; FOCAL 1", swept=True),
    "alpha_memory": Field(
        "clipped",
        ("clipped", "free"),
        "whether the weight itself stays in [0, alpha_max], or its use alone (FOCAL)",
    ),
    "target_divergence": Field(0.2, NOT_NEGATIVE, "nats; FOCAL 0.05", swept=True),
    "decay": Field(
        1e-4, NOT_NEGATIVE, "of the policy's outputs before tanh; FOCAL 1e-3", swept=True
    ),
    "entropy": Field(0.02, NOT_NEGATIVE, "weight of the policy's entropy; FOCAL 1", swept=True),
    "reward_scale": Field(
        1.0, POSITIVE, "rewards are multiplied by it, weights are not; FOCAL 5, point robots 100"
    ),
}
READS = ("env",)


class Nets(NamedTuple):
    """The networks as functions of their parameters."""

    value: Callable  # (params, obs_code [..., n]) -> [...]
    critic: Callable  # (params, obs_code [..., n], action [..., A]) -> [2, ...]
    actor: Callable  # (params, obs_code [..., n]) -> mean, log_std [..., A], before tanh
    dual: Callable  # (params, obs_code [..., n], action [..., A]) -> [...]


def update(
    learner: Learner, rows: Transitions, noise: brac.Noise, hp: dict, nets: Nets, cfg
) -> tuple[Learner, dict[str, Array]]:
    """One update in the order of FOCAL's code: dual network, critics, state value, policy, weight.

    Args:
        learner: `params` has "dual", "critic", "value" and "actor", `target` has "value",
            `opt_state` is like `params`, `extra` has "alpha" [].
        rows: leaves [K, R, ...]; the batches after the first train the dual network alone.
        noise: of `losses.brac.draw_noise`.
        hp: the swept numbers of this file.
        nets: the networks.
        cfg: the settings of this file.

    Returns:
        The learner and metrics [].
    """
    old, optimizer = learner.params, make_optimizer()
    params, opt_state, metrics = {**old}, {**learner.opt_state}, {}

    def step(name, loss, *args):
        params[name], opt_state[name], found = gradient_step(loss, optimizer)(
            params[name], opt_state[name], hp[f"{name}_lr"], *args
        )
        metrics.update(found)

    def act(obs_code, noise):
        return gaussian.tanh_normal_sample(*nets.actor(old["actor"], obs_code), noise)

    # The dual network: max E_data[-T(a)] + E_pi[log T(a)] + 1, T its softplus; one step per batch.
    def dual_step(moving, batch_and_noise):
        batch, own = batch_and_noise
        action, _ = act(batch.obs_code, own.policy)
        places = brac.Places(batch.obs_code, batch.action, action, own.mix)
        loss = partial(brac.dual_loss, penalty=cfg.gradient_penalty, dual_fn=nets.dual)
        *moving, found = gradient_step(loss, optimizer)(
            *moving, hp["dual_lr"], places, hp["penalty_weight"]
        )
        return tuple(moving), found

    own = old["dual"], opt_state["dual"]
    (params["dual"], opt_state["dual"]), found = jax.lax.scan(dual_step, own, (rows, noise))
    metrics |= jax.tree.map(lambda x: x[-1], found)

    first = jax.tree.map(lambda x: x[0], rows)
    at = first.obs_code
    pi_action, log_prob = act(at, noise.policy[0])
    dual_fn = {
        "updated": partial(nets.dual, params["dual"]),
        "previous": partial(nets.dual, old["dual"]),
        "mixed": partial(brac.value_and_slope_of_two, nets.dual, old["dual"], params["dual"]),
    }[cfg.divergence]
    divergence_fn = partial(brac.divergence, dual_fn, at, first.action)
    alpha = jnp.clip(learner.extra["alpha"], 0, hp["alpha_max"])
    divergence = divergence_fn(pi_action)

    # The critics: y = r + gamma (1 - done) V'(s'), less the divergence if asked for.
    next_value = nets.value(learner.target["value"], first.next_obs_code)
    next_value = next_value - hp["value_penalty"] * alpha * divergence
    target = critic_target(first.reward, first.done, hp["gamma"], next_value)
    step("critic", brac.critic_loss, at, first.action, target, nets.critic)
    q_fn = partial(nets.critic, params["critic"], at)

    # The state value: towards the soft value of the policy's action under the new critics.
    soft_value = q_fn(pi_action).min(0) - hp["entropy"] * log_prob
    step("value", brac.value_loss, at, soft_value, nets.value)
    target_value = polyak(params["value"], learner.target["value"], hp["tau"])

    # The policy against them, and the weight towards the divergence that is aimed at.
    losses = q_fn, divergence_fn, alpha, hp["entropy"], hp["decay"], nets.actor
    step("actor", brac.policy_loss, at, noise.policy[0], *losses)
    moved = learner.extra["alpha"] + hp["alpha_lr"] * (divergence - hp["target_divergence"]).mean()
    moved = jnp.clip(moved, 0, hp["alpha_max"]) if cfg.alpha_memory == "clipped" else moved
    metrics |= {"alpha": alpha, "divergence": divergence.mean()}
    return Learner(params, {"value": target_value}, opt_state, {"alpha": moved}), metrics


def make(cfg, rows: RowSpec) -> Agent:
    """Binds policy, critics, state value and dual network; it asks for `dual_steps` batches."""
    action_dim, optimizer = rows.action_dim, make_optimizer()
    actor, critic = Actor(cfg.hidden, action_dim, LOG_STD_MAX), Critic(cfg.hidden)
    value_net = MLP(cfg.hidden, 1)
    nets = Nets(
        value=lambda params, obs_code: value_net.apply({"params": params}, obs_code)[..., 0],
        critic=partial(twin_q, critic),
        actor=lambda params, obs_code: actor.apply({"params": params}, obs_code),
        dual=lambda params, *args: critic.apply({"params": params}, *args),
    )

    def init(key: Array, size: int) -> Learner:
        keys = jax.random.split(key, 4)
        params = {
            "actor": init_actor(keys[0], actor, size),
            "critic": init_twin_critic(keys[1], critic, size, action_dim),
            "value": value_net.init(keys[2], jnp.zeros(size))["params"],
            "dual": critic.init(keys[3], jnp.zeros(size), jnp.zeros(action_dim))["params"],
        }
        return Learner(
            params=params,
            target={"value": params["value"]},
            opt_state={name: optimizer.init(params[name]) for name in params},
            extra={"alpha": jnp.asarray(cfg.alpha)},
        )

    def update_drawn(learner: Learner, rows: Transitions, key: Array, hp: dict, step: Array):
        del step
        if cfg.dual_steps == 1:
            rows = jax.tree.map(lambda x: x[None], rows)
        rows = rows._replace(reward=cfg.reward_scale * rows.reward)
        return update(learner, rows, brac.draw_noise(key, *rows.action.shape), hp, nets, cfg)

    def act(params: dict, obs_code: Array, noise: Array, greedy: Array) -> Array:
        mean, log_std = nets.actor(params["actor"], obs_code)
        return jnp.tanh(mean + jnp.exp(log_std) * jnp.where(greedy, 0, noise))

    def value(params: dict, obs_code: Array, action: Array) -> Array:
        """In units of the data's rewards."""
        return nets.critic(params["critic"], obs_code, action).min(0) / cfg.reward_scale

    return Agent(init, update_drawn, lambda x: x.params, act, value, cfg.dual_steps)
