"""The conservative actor-critic that every method shares: it acts on (obs, code).

What the code is (an inferred task code, the true task parameters) is the method's business.
Source: COMBO (Yu et al. 2021, arXiv 2102.08363) on soft actor-critic, as MetaSTAR uses it.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from metastar import config
from metastar.config import sweep
from metastar.data.normalize import whitener
from metastar.data.rows import Transitions
from metastar.losses import actor as actor_loss
from metastar.losses import critic as critic_loss
from metastar.models.nets.actor_critic import (
    Actor,
    Critic,
    greedy_action,
    init_actor,
    init_twin_critic,
    sample_action,
    twin_q,
)
from metastar.ops.optim import gradient_step, make_optimizer
from metastar.ops.td import polyak
from metastar.types import (
    Array,
    DataSpec,
    HyperParams,
    Policy,
    TrainState,
)


class Agent(NamedTuple):
    """Pure functions that bind the networks of one config."""

    init: Callable  # (key) -> (params, opt_state), dicts over "actor" and "critic"
    update: Callable  # (TrainState, Transitions, key, hp) -> (TrainState, metrics)
    policy_fn: Callable  # (actor params) -> (obs_code, noise) -> (action, log_prob)
    policy: Policy  # acts with params["actor"]
    value: Callable  # `Method.value`, of params["critic"]


def hyper_params(cfg) -> HyperParams:
    """The traced floats of a config."""
    flat = config.flatten(cfg)
    floats = HyperParams(
        **{name: flat[field] for name, field in sweep.FIELDS.items()},
        task_losses={name: weight for name, weight in cfg.task_losses.items() if weight > 0},
    )
    return jax.tree.map(jnp.asarray, floats)


def conservative_rows(rows: Transitions, cfg, num_imagined: int) -> Transitions:
    """The rows at whose states values are pushed down.

    "cql" takes them from the data and from rollouts, as the MetaSTAR reference; "combo" from
    rollouts alone, if there are any: rho(s, a) = d_M(s) pi(a | s), COMBO, Yu et al. 2021 (arXiv
    2102.08363), section 4. No more than `agent.conservative_states` of each task, unless that is 0:
    rows of a kind are exchangeable.

    Args:
        rows: [M * B, ...] by task; the last `num_imagined` of each task's B are imagined.
        cfg: the config.
        num_imagined: of each task.

    Returns:
        [S, ...].
    """
    size, most = cfg.sampler.batch_size, cfg.agent.conservative_states
    kept = num_imagined if cfg.agent.penalty == "combo" and num_imagined else size
    stride = -(-kept // most) if most else 1

    def thin(x):
        by_task = x.reshape(-1, size, *x.shape[1:])[:, size - kept :: stride]
        return by_task.reshape(-1, *x.shape[1:])

    return jax.tree.map(thin, rows)


def make(
    cfg, spec: DataSpec, code_dim: int, num_imagined: int = 0, critic_module: Callable = Critic
) -> Agent:
    """Binds actor and twin critics to a config; `critic_module` makes a critic of hidden sizes.

    The last `num_imagined` rows of each task are imagined. One update is, in this
    order: targets by the target critics, critic step on squared error plus conservative term,
    polyak, actor step against the updated critics, averaged actor (`extra["actor"]`).
    """
    actor, critic = Actor(cfg.agent.hidden, spec.action_dim), critic_module(cfg.agent.hidden)
    optimizer = make_optimizer()
    critic_step = gradient_step(critic_loss.loss, optimizer)
    actor_step = gradient_step(actor_loss.loss, optimizer)
    whiten = whitener(cfg, spec)

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

    def update(state: TrainState, rows: Transitions, key: Array, hp: HyperParams):
        params, opt_state = dict(state.params), dict(state.opt_state)
        key_critic, key_actor = jax.random.split(key)
        states = conservative_rows(rows, cfg, num_imagined)
        sampled = cfg.agent.conservative_gradient == "sampled"
        noise = critic_loss.draw_noise(
            key_critic,
            *rows.action.shape,
            states.real.shape[0],
            cfg.agent.num_actions,
            cfg.agent.gradient_actions if sampled else 0,
        )
        act = policy_fn(params["actor"])
        target = critic_loss.target(
            rows.reward, rows.done, rows.next_obs_code, noise, hp, act, q_fn(state.target["critic"])
        )
        if cfg.agent.penalty == "reward_uncertainty":
            samples = None
        elif cfg.agent.penalty == "combo":
            samples = critic_loss.policy_samples(states.obs_code, noise, act)
        else:
            samples = critic_loss.conservative_samples(
                states.obs_code, states.next_obs_code, noise, act
            )
        batch = critic_loss.CriticBatch(rows.obs_code, rows.action, target, rows.real, samples)
        params["critic"], opt_state["critic"], metrics = critic_step(
            params["critic"],
            opt_state["critic"],
            hp.lr_critic,
            batch,
            hp,
            critic,
            cfg.agent.tile_states,
        )
        target_critic = polyak(params["critic"], state.target["critic"], hp.tau)
        params["actor"], opt_state["actor"], actor_metrics = actor_step(
            params["actor"],
            opt_state["actor"],
            hp.lr_actor,
            rows.obs_code,
            jax.random.normal(key_actor, rows.action.shape),
            hp,
            actor,
            q_fn(params["critic"]),
            *((rows.action, rows.real) if cfg.agent.cloning else ()),
        )
        average = polyak(params["actor"], state.extra["actor"], 1 - hp.actor_average)
        state = state._replace(
            params=params,
            target={"critic": target_critic},
            opt_state=opt_state,
            extra={**state.extra, "actor": average},
        )
        return state, {**metrics, **actor_metrics}

    def act(params, adaptation, carry, step, key, greedy):
        obs_code = jnp.concatenate([whiten(step.obs), adaptation.code])
        noise = jax.random.normal(key, (spec.action_dim,))
        sampled, _ = sample_action(actor, params["actor"], obs_code, noise)
        action = jnp.where(greedy, greedy_action(actor, params["actor"], obs_code), sampled)
        return action, carry

    def value(params, obs, action, code):
        obs_code = jnp.concatenate([whiten(obs), code])
        return twin_q(critic, params["critic"], obs_code, action).min(0)

    return Agent(init, update, policy_fn, Policy(lambda params, adaptation: (), act), value)
