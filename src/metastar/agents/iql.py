"""Implicit Q-learning on (observation, code): values and an actor from actions of the data alone.

Kostrikov et al. 2021 (arXiv 2110.06169). SPC, BATI and, as an option, UNICORN use it with their
task codes, so that encoders and objectives can be compared with one agent.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from metastar.config.fields import COUNT, NOT_NEGATIVE, POSITIVE, RATE, Field, Like
from metastar.data.rows import Transitions
from metastar.losses import iql
from metastar.models.nets.actor_critic import Critic, init_actor, init_twin_critic, twin_q
from metastar.models.nets.actor_forms import FORMS
from metastar.models.nets.mlp import LAYERS, MLP
from metastar.ops.optim import gradient_step, make_optimizer
from metastar.ops.td import polyak
from metastar.types import Agent, Array, Learner, RowSpec

DEFAULTS = {
    "hidden": Field((256, 256), COUNT, "widths of the hidden layers; IQL, SPC"),
    "layers": Field("relu", tuple(LAYERS), "ReLU: IQL; LayerNorm, Mish: SPC", before="relu"),
    "gamma": Field(Like("env.discount"), "[0, 1)", "discount", swept=True),
    "expectile": Field(
        0.8, "(0, 1)", "of the state value; SPC, UNICORN 0.8, IQL 0.7 (AntMaze 0.9)", swept=True
    ),
    "inverse_temperature": Field(
        3.0, NOT_NEGATIVE, "of the actor's weights, per unit of scaled reward; IQL, SPC", swept=True
    ),
    "clip": Field(100.0, POSITIVE, "largest weight of a row; IQL, SPC", swept=True),
    "tau": Field(0.005, RATE, "Polyak rate of the target critics; IQL, SPC", swept=True),
    "actor_lr": Field(3e-4, RATE, "learning rate; IQL, SPC", swept=True, decays=True),
    "critic_lr": Field(3e-4, RATE, "learning rate; IQL, SPC", swept=True, decays=True),
    "value_lr": Field(3e-4, RATE, "learning rate; IQL, SPC", swept=True, decays=True),
    "actor_average": Field(
        0.0, "[0, 1)", "decay of the averaged actor; 0 makes it the actor itself", swept=True
    ),
    "actor": Field(
        "gaussian",
        tuple(FORMS),
        "density of actions: a Gaussian around a bounded mean, clipped when drawn (IQL, SPC), or a "
        "Gaussian under tanh, whose density has no bound where actions are +-1",
    ),
    "advantage_value": Field(
        "updated",
        ("updated", "previous"),
        "the state value in the actor's advantage: after its step (IQL) or before it (SPC)",
    ),
    "reward_scale": Field(
        1.0,
        POSITIVE,
        "rewards are multiplied by it; IQL 1000 / (largest - smallest return) on locomotion, FOCAL "
        "5, point robots 100",
    ),
}
READS = ("env",)


class Nets(NamedTuple):
    """The networks as functions of their parameters."""

    value: Callable  # (params, obs_code [..., n]) -> [...]
    critic: Callable  # (params, obs_code [..., n], action [..., A]) -> [2, ...]
    log_prob: Callable  # (params, obs_code [..., n], action [..., A]) -> [...]


def update(
    learner: Learner, rows: Transitions, hp: dict, nets: Nets, advantage_value: str = "updated"
) -> tuple[Learner, dict[str, Array]]:
    """One update of algorithm 1: state value, critics, Polyak, actor. It draws nothing.

    The paper's algorithm extracts the actor after the critics are trained. Here, as in the code of
    IQL and of SPC, it is trained along with them, and its advantage uses the target critics that
    the state value was fitted to, those from before the Polyak step.

    Args:
        learner: `params` has "value", "critic" and "actor", `target` has "critic", `opt_state` is
            like `params`, `extra` has the averaged "actor".
        rows: leaves [R, ...]; all of them count alike.
        hp: the swept numbers of this file.
        nets: the networks.
        advantage_value: the setting of that name.

    Returns:
        The learner and metrics [].
    """
    old, opt_state = learner.params, dict(learner.opt_state)
    optimizer = make_optimizer()
    params, metrics = {}, {}

    def step(name, loss, *args):
        params[name], opt_state[name], found = gradient_step(loss, optimizer)(
            old[name], opt_state[name], hp[f"{name}_lr"], *args
        )
        metrics.update(found)

    # Equation 5: the state value, an expectile of the target critics' values of the data's actions.
    q = nets.critic(learner.target["critic"], rows.obs_code, rows.action).min(0)
    step("value", iql.value_loss, rows.obs_code, q, hp["expectile"], nets.value)

    # Equation 6: the critics, towards the value of the next state.
    next_value = nets.value(params["value"], rows.next_obs_code)
    target = iql.critic_target(rows.reward, rows.done, hp["gamma"], next_value)
    step("critic", iql.critic_loss, rows.obs_code, rows.action, target, nets.critic)
    target_critic = polyak(params["critic"], learner.target["critic"], hp["tau"])

    # Equation 7: the actor clones the data's actions, weighted by their advantage.
    value = {"updated": params, "previous": old}[advantage_value]["value"]
    advantage = q - nets.value(value, rows.obs_code)
    weight = iql.advantage_weight(advantage, hp["inverse_temperature"], hp["clip"])
    step("actor", iql.actor_loss, rows.obs_code, rows.action, weight, nets.log_prob)
    average = polyak(params["actor"], learner.extra["actor"], 1 - hp["actor_average"])

    metrics["advantage"] = advantage.mean()
    metrics["weight_clipped"] = (weight >= hp["clip"]).mean()
    learner = Learner(params, {"critic": target_critic}, opt_state, {"actor": average})
    return learner, metrics


def make(cfg, rows: RowSpec) -> Agent:
    """Binds state value, twin critics and actor to their settings."""
    action_dim = rows.action_dim
    form = FORMS[cfg.actor]
    value_net = MLP(cfg.hidden, 1, layers=cfg.layers)
    critic = Critic(cfg.hidden, cfg.layers)
    actor = form.net(cfg.hidden, action_dim, layers=cfg.layers)
    optimizer = make_optimizer()

    def v_fn(params, obs_code):
        return value_net.apply({"params": params}, obs_code)[..., 0]

    def q_fn(params, obs_code, action):
        return twin_q(critic, params, obs_code, action)

    def log_prob_fn(params, obs_code, action):
        return form.log_prob(*actor.apply({"params": params}, obs_code), action)

    nets = Nets(v_fn, q_fn, log_prob_fn)

    def init(key: Array, size: int) -> Learner:
        key_value, key_critic, key_actor = jax.random.split(key, 3)
        params = {
            "value": value_net.init(key_value, jnp.zeros(size))["params"],
            "critic": init_twin_critic(key_critic, critic, size, action_dim),
            "actor": init_actor(key_actor, actor, size),
        }
        return Learner(
            params=params,
            target={"critic": params["critic"]},
            opt_state={name: optimizer.init(params[name]) for name in params},
            extra={"actor": params["actor"]},
        )

    def update_scaled(learner: Learner, rows: Transitions, key: Array, hp: dict, step: Array):
        del key, step
        rows = rows._replace(reward=cfg.reward_scale * rows.reward)
        return update(learner, rows, hp, nets, cfg.advantage_value)

    def code_loss(learner: Learner, rows: Transitions, key: Array, hp: dict, step: Array):
        """Equation 6 under the state value from before the update."""
        del key, step
        next_value = v_fn(learner.params["value"], rows.next_obs_code)
        reward = cfg.reward_scale * rows.reward
        target = iql.critic_target(reward, rows.done, hp["gamma"], next_value)
        given = rows.obs_code, rows.action, jax.lax.stop_gradient(target), q_fn
        return iql.critic_loss(learner.params["critic"], *given)[0]

    def export(learner: Learner) -> dict:
        return {"actor": learner.extra["actor"], "critic": learner.params["critic"]}

    def act(params: dict, obs_code: Array, noise: Array, greedy: Array) -> Array:
        mean, log_std = actor.apply({"params": params["actor"]}, obs_code)
        return form.draw(mean, log_std, jnp.where(greedy, 0, noise))

    def value(params: dict, obs_code: Array, action: Array) -> Array:
        """In units of the data's rewards."""
        return q_fn(params["critic"], obs_code, action).min(0) / cfg.reward_scale

    return Agent(init, update_scaled, export, act, value, code_loss=code_loss)
