"""The conservative actor-critic that every method shares: it acts on (obs, code).

What the code is (an inferred task code, the true task parameters) is the method's business.
Source: COMBO (Yu et al. 2021, arXiv 2102.08363) on soft actor-critic, as MetaSTAR uses it.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from metastar import config, sweep
from metastar.losses import actor as actor_loss
from metastar.losses import critic as critic_loss
from metastar.nets.actor_critic import (
    Actor,
    Critic,
    greedy_action,
    init_actor,
    init_twin_critic,
    sample_action,
    twin_q,
)
from metastar.ops.td import polyak
from metastar.types import (
    Array,
    Batch,
    DataSpec,
    HyperParams,
    Policy,
    TaskData,
    TrainState,
    Trajectory,
    View,
)
from metastar.update import gradient_step, make_optimizer


class Transitions(NamedTuple):
    """Rows [R, ...] of a meta-batch, real or imagined; the same code serves both ends."""

    obs_code: Array  # [R, O+Z]
    action: Array  # [R, A]
    reward: Array  # [R]
    next_obs_code: Array  # [R, O+Z]
    done: Array  # [R] bool
    real: Array  # [R] bool: False where imagined


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


def decayed(hp: HyperParams, cfg, updates_done: Array, num_updates: int) -> HyperParams:
    """Learning rates at a point of a phase: constant, or a cosine that ends at zero.

    The cosine starts with a linear warm-up over the first twentieth: without one a post-norm
    Transformer is unstable at rates that train it quickly (Xiong et al. 2020, arXiv 2002.04745).
    """
    if cfg.train.lr_decay == "none":
        return hp
    share = updates_done / num_updates
    warm_up = jnp.minimum(1, 20 * (updates_done + 1) / num_updates)
    factor = warm_up * 0.5 * (1 + jnp.cos(jnp.pi * share))
    rates = {name: getattr(hp, name) * factor for name in hp._fields if name.startswith("lr_")}
    return hp._replace(**rates)


def whitener(cfg, spec: DataSpec):
    """Returns obs [..., O] -> obs in units of the training tasks' standard deviation."""
    mean, std = _units(cfg, spec)
    return lambda obs: (obs - _like(mean, obs)) / _like(std, obs)


def unwhitener(cfg, spec: DataSpec):
    """Returns the inverse of `whitener`."""
    mean, std = _units(cfg, spec)
    return lambda obs: obs * _like(std, obs) + _like(mean, obs)


def view_whitener(cfg, spec: DataSpec):
    """Returns View -> View with observations as `whitener` has them."""
    whiten = whitener(cfg, spec)
    return lambda view: view._replace(obs=whiten(view.obs), next_obs=whiten(view.next_obs))


def sample_task_id(data: TaskData, cfg, key: Array) -> Array:
    """Draws the task list [M] of a meta-batch, with or without replacement."""
    return jax.random.choice(
        key, data.count.shape[0], (cfg.sampler.meta_batch,), replace=cfg.sampler.with_replacement
    )


def join_code(obs: Array, code: Array) -> Array:
    """Appends the code [M, Z] of each task to its observations [M, ..., O]."""
    middle = (1,) * (obs.ndim - 2)
    code = code.reshape(code.shape[0], *middle, code.shape[-1])
    return jnp.concatenate([obs, jnp.broadcast_to(code, (*obs.shape[:-1], code.shape[-1]))], -1)


def real_transitions(batch: Batch, code: Array) -> Transitions:
    """The "real" view [M, B] of a batch under the codes [M, Z], leaves [M, B, ...]."""
    return _transitions(batch.views["real"], code, jnp.ones_like)


def imagined_transitions(trajectory: Trajectory, code: Array) -> Transitions:
    """Imagined rollouts [M, R, H] under the codes [M, Z] as rows, leaves [M, R * H, ...]."""
    rows = jax.tree.map(lambda x: x.reshape(x.shape[0], -1, *x.shape[3:]), trajectory)
    return _transitions(rows, code, jnp.zeros_like)


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


def _units(cfg, spec: DataSpec) -> tuple[Array, Array]:
    """Origin and unit [O] of an observation as the networks see it."""
    if not cfg.agent.normalize_obs:
        return jnp.zeros(spec.obs_dim), jnp.ones(spec.obs_dim)
    return jnp.asarray(spec.obs_mean), jnp.asarray(spec.obs_std)


def _like(x: Array, obs: Array) -> Array:
    """[O] -> [1, ..., O], of the rank of `obs`."""
    return jnp.expand_dims(x, range(obs.ndim - 1))


def _transitions(rows: View | Trajectory, code: Array, flag: Callable) -> Transitions:
    """Rows [M, B, ...] under the codes [M, Z]; `flag` makes `real` from an array of its shape."""
    return Transitions(
        obs_code=join_code(rows.obs, code),
        action=rows.action,
        reward=rows.reward,
        next_obs_code=join_code(rows.next_obs, code),
        done=rows.done,
        real=flag(rows.done),
    )
