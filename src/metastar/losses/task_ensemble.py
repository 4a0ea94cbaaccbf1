"""The loss of an ensemble of task models, and the ensemble as the task model of a method."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from metastar.losses.task.reconstruction import likelihood_stds
from metastar.models.task_ensemble import TaskEnsemble
from metastar.types import Array, DataSpec, TaskModel, View


def loss(
    params: Any, code: Array, view: View, ensemble: TaskEnsemble, first_dynamics: bool = True
) -> tuple[Array, dict[str, Array]]:
    """`sum_i mean (r^_i - r)^2 + mean (s'^_i - s')^2`, each member on rows of its own.

    Wang et al. 2023 (IDAQ, ICML, arXiv 2305.19529). Its code leaves the next states of the first
    member out.

    Args:
        params: of the ensemble.
        code: [M, Z], data.
        view: [E, M, B] transitions.
        ensemble: the models.
        first_dynamics: whether the first member's next states count.

    Returns:
        Scalar, and the mean errors of a member as metrics.
    """
    of_reward, of_next = errors(params, code, view, ensemble)
    counted = of_next if first_dynamics else of_next.at[0].set(0)
    metrics = {"ensemble_reward": of_reward.mean(), "ensemble_next_obs": of_next.mean()}
    return of_reward.sum() + counted.sum(), metrics


def errors(params: Any, code: Array, view: View, ensemble: TaskEnsemble) -> tuple[Array, Array]:
    """Mean squared errors [E] of the rewards and of the next states, as in `loss`."""
    code = jnp.broadcast_to(code[None, :, None], (*view.reward.shape, code.shape[-1]))
    reward, next_obs = ensemble.predict_each(params, code, view.obs, view.action)
    of_reward = jnp.mean((reward - view.reward) ** 2, (1, 2))
    return of_reward, jnp.mean((next_obs - view.next_obs) ** 2, (1, 2, 3))


def make_task_model(
    params_of: Callable,
    ensemble: TaskEnsemble,
    spec: DataSpec,
    whiten: Callable,
    unwhiten: Callable,
) -> TaskModel:
    """The mean over the members as the `TaskModel` of a method that trains them.

    Args:
        params_of: (exported parameters of the method) -> those of the ensemble.
        ensemble: the models.
        spec: the spread of rewards is used.
        whiten: obs [..., O] -> normalised obs [..., O], as in the loss.
        unwhiten: the inverse.
    """

    def members(params, obs, action, code):
        reward, next_obs = ensemble.predict(params_of(params), code, whiten(obs), action)
        return reward, unwhiten(next_obs)

    of_codes = jax.vmap(members, in_axes=(None, None, None, 0), out_axes=1)  # [E, K, ...]

    def next_obs(params, obs, action, code):
        return of_codes(params, obs, action, code)[1].mean(0)

    def reward(params, obs, action, next_obs, code):
        del next_obs
        return of_codes(params, obs, action, code)[0].mean(0)

    reward_std, obs_std = likelihood_stds(spec)
    return TaskModel(
        next_obs, reward, reward_std, members if ensemble.members > 1 else None, obs_std
    )
