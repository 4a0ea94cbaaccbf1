"""The log-sum-exp of a critic over sampled actions, where an update spends most of its time."""

from functools import partial
from typing import Any, NamedTuple

import jax

from metastar.models.nets.actor_critic import Critic
from metastar.ops.cql import draw_by_weight, importance_logsumexp
from metastar.ops.tiles import mean_over_rows
from metastar.types import Array


class SampledActions(NamedTuple):
    """Actions at which the values of a state are pushed down; data, leaves [S, ...] over states."""

    obs_code: Array  # [n]
    action: Array  # [J, A]
    log_density: Array | None  # [J] nats; None: their mean takes the place of the log-sum-exp
    pick: Array | None = None  # [G] in [0, 1): actions with a gradient; None: all have one


def twin_mean(params: Any, samples: SampledActions, critic: Critic, tile: int = 0) -> Array:
    """Mean over the states of `logsumexp_of_samples`, of each of two critics.

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

    Its derivative by the values is a distribution over the J actions, for the log-sum-exp
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
