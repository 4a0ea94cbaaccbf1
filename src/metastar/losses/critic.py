"""Twin critics: squared temporal difference plus the CQL penalty on sampled actions."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from metastar.models.nets.actor_critic import Critic, twin_q
from metastar.ops.cql import draw_by_weight, importance_logsumexp
from metastar.ops.td import soft_target
from metastar.ops.tiles import mean_over_rows
from metastar.types import Array


class CriticNoise(NamedTuple):
    """What a critic update draws, for M rows and S states with K actions of each kind."""

    next_action: Array  # [M, A] standard normal
    policy_obs: Array | None  # [S, K, A] standard normal: actions of the policy at obs
    policy_next: Array | None  # [S, K, A] standard normal: actions of the policy at next_obs
    uniform: Array | None  # [S, K, A] the uniform actions in [-1, 1] themselves
    pick: Array | None = None  # [S, G] in [0, 1): which sampled actions get a gradient; None: all


class SampledActions(NamedTuple):
    """Actions whose values the penalty lowers, at each of S states; data, leaves [S, ...]."""

    obs_code: Array  # [n]
    action: Array  # [J, A]
    log_density: Array | None  # [J] nats; None: their mean takes the place of the log-sum-exp
    pick: Array | None = None  # [G] in [0, 1): actions with a gradient; None: all have one


class CriticBatch(NamedTuple):
    """The data of the loss: rows, targets and sampled actions get no gradient."""

    obs_code: Array  # [M, n]
    action: Array  # [M, A]
    target: Array  # [M]
    real: Array  # [M] bool: from the data set, not imagined
    samples: SampledActions | None = None  # leaves [S, ...]; None: no penalty


class CriticTerms(NamedTuple):
    """The parts of the loss, for each of the two critics."""

    q: Array  # [2, M] values of the rows' actions
    td: Array  # [2] mean squared error over all rows
    logsumexp: Array | None  # [2] mean log-sum-exp of the sampled actions; COMBO: their mean
    conservative: Array  # [2] already times beta


def draw_noise(
    key: Array,
    num_rows: int,
    action_dim: int,
    num_states: int = 0,
    num_actions: int = 0,
    num_picks: int = 0,
) -> CriticNoise:
    """Draws the noise of one critic update; with `num_states` 0 none for the CQL penalty."""
    key_next, key_obs, key_policy_next, key_uniform, key_pick = jax.random.split(key, 5)
    next_action = jax.random.normal(key_next, (num_rows, action_dim))
    if num_states == 0:
        return CriticNoise(next_action, None, None, None)
    shape = (num_states, num_actions, action_dim)
    return CriticNoise(
        next_action=next_action,
        policy_obs=jax.random.normal(key_obs, shape),
        policy_next=jax.random.normal(key_policy_next, shape),
        uniform=jax.random.uniform(key_uniform, shape, minval=-1, maxval=1),
        pick=jax.random.uniform(key_pick, (num_states, num_picks)) if num_picks else None,
    )


def target(
    reward: Array,
    done: Array,
    next_obs_code: Array,
    noise: CriticNoise,
    gamma: Array,
    alpha: Array,
    policy_fn: Callable,
    target_q_fn: Callable,
) -> Array:
    """Soft target `r + gamma (1 - done) (min_i Q'_i(s', a') - alpha log pi(a'|s'))`, a' ~ pi.

    Args:
        reward: [M].
        done: [M] bool.
        next_obs_code: [M, n].
        noise: `next_action` is used.
        gamma: [] discount.
        alpha: [] entropy weight.
        policy_fn: (obs_code, noise) -> (action, log_prob).
        target_q_fn: (obs_code, action) -> [2, M], the target critics.

    Returns:
        [M].
    """
    next_action, next_log_prob = policy_fn(next_obs_code, noise.next_action)
    next_q = target_q_fn(next_obs_code, next_action).min(axis=0)
    return soft_target(reward, done, gamma, next_q, alpha, next_log_prob)


def conservative_samples(
    obs_code: Array, next_obs_code: Array, noise: CriticNoise, policy_fn: Callable
) -> SampledActions:
    """The actions whose values at `obs_code` the CQL penalty lowers, of three kinds.

    K of the policy at obs, K of the policy at next_obs (valued at obs), K uniform; in this order
    (Kumar et al. 2020, arXiv 2006.04779, appendix F).

    Args:
        obs_code: [S, n].
        next_obs_code: [S, n].
        noise: all but `next_action` is used.
        policy_fn: (obs_code, noise) -> (action, log_prob).

    Returns:
        3K actions for each of S states.
    """
    at_obs, log_at_obs = policy_fn(obs_code, noise.policy_obs)
    at_next, log_at_next = policy_fn(next_obs_code, noise.policy_next)
    log_uniform = jnp.full_like(log_at_obs, -noise.uniform.shape[-1] * math.log(2))
    action = jnp.concatenate([at_obs, at_next, noise.uniform], axis=-2)
    log_density = jnp.concatenate([log_at_obs, log_at_next, log_uniform], axis=-1)
    return SampledActions(obs_code, action, log_density, noise.pick)


def policy_samples(obs_code: Array, noise: CriticNoise, policy_fn: Callable) -> SampledActions:
    """The K actions of the policy at obs alone, whose mean value COMBO's own penalty lowers.

    Args:
        obs_code: [S, n].
        noise: `policy_obs` and `pick` are used.
        policy_fn: (obs_code, noise) -> (action, log_prob).

    Returns:
        K actions for each of S states, without densities.
    """
    return SampledActions(obs_code, policy_fn(obs_code, noise.policy_obs)[0], None, noise.pick)


def terms(
    params: Any, batch: CriticBatch, beta: Array, critic: Critic, tile: int = 0
) -> CriticTerms:
    """Computes the parts of `loss`; its docstring has the formulas and arguments."""
    q = twin_q(critic, params, batch.obs_code, batch.action)
    td = jnp.mean((q - batch.target[None]) ** 2, axis=-1)
    if batch.samples is None:
        return CriticTerms(q, td, None, jnp.zeros_like(td))
    logsumexp = twin_mean(params, batch.samples, critic, tile)
    real = batch.real[None]
    q_real = jnp.sum(jnp.where(real, q, 0), axis=-1) / jnp.maximum(real.sum(), 1)
    return CriticTerms(q, td, logsumexp, beta * (logsumexp - q_real))


def loss(
    params: Any, batch: CriticBatch, beta: Array, critic: Critic, tile: int = 0
) -> tuple[Array, dict[str, Array]]:
    """Loss of both critics, summed, so that each gets the gradient of its own loss alone.

    `mean (Q_i(s,a) - target)^2 + beta [mean_s logsumexp_k(Q_i(s,a_k) - log mu_k) - mean_real Q_i]`

    With the sampled log-sum-exp of CQL(H), Kumar et al. 2020 (arXiv 2006.04779), equation 4 and
    appendix F, at real and imagined states s, it is the loss of the MetaSTAR reference; values are
    raised at real rows only. With the mean over the policy's actions (samples without a density) at
    imagined states it is the conservative policy evaluation of COMBO, Yu et al. 2021 (arXiv
    2102.08363). Both papers have half the squared error, which a factor in beta makes up for.
    Without samples there is no penalty.

    Args:
        params: stacked parameters of two critics.
        batch: rows, targets and sampled actions.
        beta: [] weight of the penalty on values.
        critic: the module.
        tile: states of the CQL penalty at a time, 0 for all at once.

    Returns:
        Scalar, and metrics averaged over the two critics.
    """
    parts = terms(params, batch, beta, critic, tile)
    total = parts.td + parts.conservative
    metrics = {
        "td_loss": parts.td.mean(),
        "conservative": parts.conservative.mean(),
        "q_mean": parts.q.mean(),
        "critic_loss": total.mean(),
    }
    return total.sum(), metrics


def twin_mean(params: Any, samples: SampledActions, critic: Critic, tile: int = 0) -> Array:
    """Mean over the states of `logsumexp_of_samples`, for each of the two critics.

    Args:
        params: stacked parameters of two critics.
        samples: leaves [S, ...].
        critic: the module.
        tile: states at a time, 0 for all at once; changes nothing but rounding
            (`ops.tiles.mean_over_rows`).

    Returns:
        [2].
    """
    fn = partial(logsumexp_of_samples, critic=critic)
    return jax.vmap(lambda params: mean_over_rows(fn, params, samples, tile))(params)


def logsumexp_of_samples(params: Any, sample: SampledActions, critic: Critic) -> Array:
    """`log sum_j exp(Q(s, a_j) - log mu_j)` of one critic at ONE state; or `mean_j Q(s, a_j)`.

    Its derivative in the values is a distribution over the J actions, for the log-sum-exp
    `w_j ~ exp(Q(s, a_j) - log mu_j)`, so its gradient is an expectation, `sum_j w_j grad Q(s, a_j)
    = E_{j ~ w} grad Q(s, a_j)`. With `sample.pick` the value is the same but the gradient goes
    through G actions drawn from `w`: an unbiased estimate, for G instead of J backward passes.

    Args:
        params: parameters of one critic.
        sample: leaves without the axis over states.
        critic: the module.

    Returns:
        [].
    """

    def q_fn(action):
        return critic.apply({"params": params}, sample.obs_code, action)

    def pool(q):
        if sample.log_density is None:
            return q.mean()
        return importance_logsumexp(q, sample.log_density)

    if sample.pick is None:
        return pool(q_fn(sample.action))
    value, weights = jax.value_and_grad(pool)(jax.lax.stop_gradient(q_fn(sample.action)))
    drawn = q_fn(sample.action[draw_by_weight(weights, sample.pick)]).mean()
    return value + drawn - jax.lax.stop_gradient(drawn)
