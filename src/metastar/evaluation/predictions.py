"""Scores of an episode of the agent's own by what models of the task predict of it.

Wang et al. 2023 (IDAQ, ICML, arXiv 2305.19529): an episode is in distribution of the recorded data
where models that were trained on these predict it well, or agree about it. E models, T steps.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from metastar.evaluation import belief
from metastar.types import Array, Method, View

SCORES = ("return", "error", "spread")


class Predicted(NamedTuple):
    """What E models of rewards and next states predict of an episode's steps."""

    reward: Array  # [E, T]
    next_obs: Array  # [E, T, O]


def scorer(name: str, method: Method, over: str = "members") -> Callable:
    """Makes (params, episode View [T], code [Z] it was played on) -> its score [].

    Args:
        name: of `SCORES`.
        method: its task model makes the predictions.
        over: as for `spread`.
    """
    model = method.task_model

    def one(params, obs, action, next_obs, code):
        """Of one step: reward [E], next state [E, O]."""
        if model.members is not None:
            return model.members(params, obs, action, code)
        reward = model.reward(params, obs, action, next_obs[None], code[None])
        return reward, model.next_obs(params, obs, action, code[None])

    def score(params, episode, code):
        if name == "return":
            return belief.window_return(episode)
        steps = episode.obs, episode.action, episode.next_obs
        over_steps = jax.vmap(one, in_axes=(None, 0, 0, 0, None), out_axes=1)
        predicted = Predicted(*over_steps(params, *steps, code))
        if name == "error":
            return -prediction_error(predicted, episode).mean()
        return -spread(predicted, episode.valid, over)

    return score


def prediction_error(predicted: Predicted, episode: View) -> Array:
    """`mean_t (r^ - r)^2 + mean_{t, o} (s'^ - s')^2` of each model over valid steps: [E]."""
    of_reward = (predicted.reward - episode.reward[None]) ** 2
    of_next = ((predicted.next_obs - episode.next_obs[None]) ** 2).mean(-1)
    num = jnp.maximum(episode.valid.sum(), 1)
    return jnp.where(episode.valid[None], of_reward + of_next, 0).sum(-1) / num


def spread(predicted: Predicted, valid: Array, over: str) -> Array:
    """`mean std(r^) + mean std(s'^)` over the "members" or the "time" of an episode: [].

    Standard deviations have the divisor n - 1; means are over the rest. The paper's are over the
    members of its ensemble, those of its code over time.
    """
    if over == "members":
        steps = jnp.std(predicted.reward, 0, ddof=1)
        steps = steps + jnp.std(predicted.next_obs, 0, ddof=1).mean(-1)  # [T]
        return jnp.where(valid, steps, 0).sum() / jnp.maximum(valid.sum(), 1)
    num = valid.sum()

    def deviation(x):  # [E, T, n] -> []
        own = valid[None, :, None]
        mean = jnp.where(own, x, 0).sum(1, keepdims=True) / jnp.maximum(num, 1)
        square = jnp.where(own, (x - mean) ** 2, 0).sum(1)
        return jnp.sqrt(square / jnp.maximum(num - 1, 1)).mean()

    return deviation(predicted.reward[..., None]) + deviation(predicted.next_obs)
