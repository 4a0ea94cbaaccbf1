"""The conservative actor-critic that every method shares: it acts on (obs, code).

What the code is (an inferred task code, the true task parameters) is the method's business.
Source: COMBO (Yu et al. 2021, arXiv 2102.08363) on soft actor-critic, as MetaSTAR uses it.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from metastar.config.fields import COUNT, NOT_NEGATIVE, RATE, Field, Like
from metastar.data.rows import Transitions
from metastar.errors import UserError
from metastar.losses import actor as actor_loss
from metastar.losses import critic as critic_loss
from metastar.models.nets.actor_critic import (
    Actor,
    Critic,
    init_actor,
    init_twin_critic,
    make_policy,
    sample_action,
    twin_q,
)
from metastar.ops.optim import gradient_step, make_optimizer
from metastar.ops.td import polyak
from metastar.types import (
    Array,
    DataSpec,
    Policy,
    TrainState,
)

DEFAULTS = {
    "hidden": Field((128, 128), COUNT, "widths of the hidden layers"),
    "gamma": Field(Like("env.discount"), "[0, 1)", "discount", swept=True),
    "alpha": Field(0.01, NOT_NEGATIVE, "entropy weight", swept=True),
    "tau": Field(0.005, RATE, "Polyak rate of the target critics", swept=True),
    "actor_lr": Field(3e-4, RATE, "learning rate", swept=True, decays=True),
    "critic_lr": Field(3e-4, RATE, "learning rate", swept=True, decays=True),
    "actor_average": Field(
        0.0, "[0, 1)", "decay of the averaged actor; 0 makes it the actor itself", swept=True
    ),
    "penalty": Field(
        "cql",
        ("cql", "combo", "reward_uncertainty"),
        "the CQL penalty; COMBO's, the policy's mean at imagined states; or none on values "
        "(imagine.penalty is in its place)",
        before="cql",
    ),
    "beta": Field(0.5, NOT_NEGATIVE, "weight of the penalty on values", swept=True),
    "num_actions": Field(10, COUNT, "K, sampled actions of each of the penalty's three sources"),
    "cql_states": Field(0, NOT_NEGATIVE, "states of the penalty, per task; 0 is the whole batch"),
    "tile_states": Field(
        0, NOT_NEGATIVE, "states of it at a time; 0 is all: changes only speed", before=0
    ),
    "cql_gradient": Field(
        "exact",
        ("exact", "sampled"),
        "through all sampled actions, or an unbiased estimate through some of them",
        before="exact",
    ),
    "gradient_actions": Field(2, COUNT, "G, how many these are", before=2),
    "cloning": Field(
        0.0,
        NOT_NEGATIVE,
        "weight of the actor's squared distance to the data's actions",
        swept=True,
        switch=True,
        before=0.0,
    ),
}
READS = ("sampler", "env")


def check(cfg) -> None:
    """Raises `UserError` for fields that do not fit together."""
    if cfg.cql_states and cfg.sampler.batch_size % cfg.cql_states:
        raise UserError(
            f"agent.conservative.cql_states is {cfg.cql_states} but must be 0 or divide "
            f"sampler.batch_size, {cfg.sampler.batch_size}"
        )


def idle(cfg) -> dict[str, str]:
    """Settings that change nothing as the others are, so that none should be swept; and why."""
    if cfg.penalty != "reward_uncertainty":
        return {}
    name = "agent.conservative.penalty"
    return {
        "beta": f"while {name}='reward_uncertainty' leaves values alone; set {name} to 'cql' or "
        "'combo'"
    }


class Agent(NamedTuple):
    """Pure functions that bind the networks of one config."""

    init: Callable  # (key) -> (params, opt_state), dicts over "actor" and "critic"
    update: Callable  # (TrainState, Transitions, key, own part of hp) -> (TrainState, metrics)
    policy_fn: Callable  # (actor params) -> (obs_code, noise) -> (action, log_prob)
    policy: Policy  # acts with params["actor"]
    value: Callable  # `Method.value`, of params["critic"]


def cql_rows(rows: Transitions, cfg, size: int, num_imagined: int) -> Transitions:
    """The rows at whose states values are pushed down.

    "cql" takes them from the data and from rollouts, as the MetaSTAR reference; "combo" from
    rollouts alone, if there are any: rho(s, a) = d_M(s) pi(a | s), COMBO, Yu et al. 2021 (arXiv
    2102.08363), section 4. No more than `cfg.cql_states` of each task, unless that is 0:
    rows of a kind are exchangeable.

    Args:
        rows: [M * B, ...] by task; the last `num_imagined` of each task's B are imagined.
        cfg: the agent's settings.
        size: B, rows of each task.
        num_imagined: of each task.

    Returns:
        [S, ...].
    """
    kept = num_imagined if cfg.penalty == "combo" and num_imagined else size
    stride = -(-kept // cfg.cql_states) if cfg.cql_states else 1

    def thin(x):
        by_task = x.reshape(-1, size, *x.shape[1:])[:, size - kept :: stride]
        return by_task.reshape(-1, *x.shape[1:])

    return jax.tree.map(thin, rows)


def make(
    cfg,
    spec: DataSpec,
    whiten: Callable,
    code_dim: int,
    num_rows: int,
    num_imagined: int = 0,
    critic_module: Callable = Critic,
) -> Agent:
    """Binds actor and twin critics to their settings.

    One update is, in this order: targets by the target critics, critic step on squared error plus
    penalty, Polyak, actor step against the updated critics, averaged actor (`extra["actor"]`).

    Args:
        cfg: the settings of this file.
        spec: sizes of observation and action.
        whiten: obs [..., O] -> as the networks see it, of `data.normalize`.
        code_dim: Z.
        num_rows: B, rows of each task in an update.
        num_imagined: how many of these, the last ones, are imagined.
        critic_module: makes a critic of hidden sizes.
    """
    actor, critic = Actor(cfg.hidden, spec.action_dim), critic_module(cfg.hidden)
    optimizer = make_optimizer()
    critic_step = gradient_step(critic_loss.loss, optimizer)
    actor_step = gradient_step(actor_loss.loss, optimizer)

    def init(key):
        key_actor, key_critic = jax.random.split(key)
        width = spec.obs_dim + code_dim
        params = {
            "actor": init_actor(key_actor, actor, width),
            "critic": init_twin_critic(key_critic, critic, width, spec.action_dim),
        }
        return params, {name: optimizer.init(params[name]) for name in params}

    def policy_fn(actor_params):
        return lambda obs_code, noise: sample_action(actor, actor_params, obs_code, noise)

    def q_fn(critic_params):
        return lambda obs_code, action: twin_q(critic, critic_params, obs_code, action)

    def update(state: TrainState, rows: Transitions, key: Array, hp: dict):
        params, opt_state = dict(state.params), dict(state.opt_state)
        key_critic, key_actor = jax.random.split(key)
        states = cql_rows(rows, cfg, num_rows, num_imagined)
        sampled = cfg.cql_gradient == "sampled"
        noise = critic_loss.draw_noise(
            key_critic,
            *rows.action.shape,
            states.real.shape[0],
            cfg.num_actions,
            cfg.gradient_actions if sampled else 0,
        )
        act = policy_fn(params["actor"])
        target = critic_loss.target(
            rows.reward,
            rows.done,
            rows.next_obs_code,
            noise,
            hp["gamma"],
            hp["alpha"],
            act,
            q_fn(state.target["critic"]),
        )
        if cfg.penalty == "reward_uncertainty":
            samples = None
        elif cfg.penalty == "combo":
            samples = critic_loss.policy_samples(states.obs_code, noise, act)
        else:
            samples = critic_loss.conservative_samples(
                states.obs_code, states.next_obs_code, noise, act
            )
        batch = critic_loss.CriticBatch(rows.obs_code, rows.action, target, rows.real, samples)
        params["critic"], opt_state["critic"], metrics = critic_step(
            params["critic"],
            opt_state["critic"],
            hp["critic_lr"],
            batch,
            hp["beta"],
            critic,
            cfg.tile_states,
        )
        target_critic = polyak(params["critic"], state.target["critic"], hp["tau"])
        params["actor"], opt_state["actor"], actor_metrics = actor_step(
            params["actor"],
            opt_state["actor"],
            hp["actor_lr"],
            rows.obs_code,
            jax.random.normal(key_actor, rows.action.shape),
            hp["alpha"],
            actor,
            q_fn(params["critic"]),
            *((rows.action, rows.real, hp["cloning"]) if cfg.cloning else ()),
        )
        average = polyak(params["actor"], state.extra["actor"], 1 - hp["actor_average"])
        state = state._replace(
            params=params,
            target={"critic": target_critic},
            opt_state=opt_state,
            extra={**state.extra, "actor": average},
        )
        return state, {**metrics, **actor_metrics}

    def value(params, obs, action, code):
        obs_code = jnp.concatenate([whiten(obs), code])
        return twin_q(critic, params["critic"], obs_code, action).min(0)

    return Agent(init, update, policy_fn, make_policy(actor, whiten), value)
