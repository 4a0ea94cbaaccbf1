"""Rollouts of the world model from real windows: under a policy, or under recorded actions."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from metastar.models import dynamics
from metastar.models.imagine import ImagineNoise, imagine
from metastar.types import Array, Trajectory, View

_STARTS = {"predicted": dynamics.start, "real": dynamics.start_real}


def roll_out(
    params: Any,
    cfg: Any,
    penalty: Array | float,
    window: View,
    code: Array,
    act: Callable,
    key: Array,
    action_dim: int,
    reward_fn: Callable | None = None,
) -> Trajectory:
    """Rolls the model out from every start window, all rollouts of all tasks in parallel.

    MetaSTAR (arXiv 2606.00780), imagination: `imagine.horizon` steps from the state after the last
    step of the window, at `imagine.start`, under the rollout's code.

    Args:
        params: of the world model.
        cfg: the config.
        penalty: [] weight of the model's uncertainty, which is subtracted from rewards.
        window: [M, R, K], all steps valid.
        code: [M, R, Z].
        act: (obs_code [O + Z], noise [A] standard normal) -> action [A].
        key: of all draws.
        action_dim: A.
        reward_fn: as of `dynamics.make_step_fn`.

    Returns:
        Leaves [M, R, H, ...].

    Raises:
        UserError: the position table has fewer rows than real and imagined steps together.
    """
    context_len, horizon = window.reward.shape[-1], cfg.imagine.horizon
    dynamics.expect_room(context_len, horizon, cfg)
    obs_dim, rollouts = window.obs.shape[-1], window.stage.shape
    key_start, key_step, key_action = jax.random.split(key, 3)
    noise_start = dynamics.draw_start_noise(key_start, rollouts, context_len, obs_dim, cfg)
    noise = ImagineNoise(
        dynamics.draw_step_noise(key_step, (*rollouts, horizon), obs_dim, cfg),
        jax.random.normal(key_action, (*rollouts, horizon, action_dim)),
    )
    step_fn = dynamics.make_step_fn(params, cfg, penalty, reward_fn)

    def one(window, code, noise_start, noise):
        obs, carry = _STARTS[cfg.imagine.start](params, window, code, noise_start, cfg)

        def policy_fn(obs, noise):
            return act(jnp.concatenate([obs, code]), noise)

        return imagine(step_fn, policy_fn, obs, carry, noise, horizon, cfg.imagine.restart)

    return jax.vmap(jax.vmap(one))(window, code, noise_start, noise)


def replay(
    params: Any, cfg: Any, window: View, action: Array, code: Array, key: Array
) -> Trajectory:
    """Samples ONE rollout under recorded actions [H, A] after the K real steps of a window.

    It begins at the state that the model predicts there, whatever `imagine.start`.

    Args:
        params: of the world model.
        cfg: the config.
        window: leaves [K, ...], all steps valid.
        action: [H, A].
        code: [Z].
        key: of all draws.

    Returns:
        Leaves [H, ...].

    Raises:
        UserError: as `roll_out`.
    """
    key_start, key_step = jax.random.split(key)
    (context_len, obs_dim), horizon = window.obs.shape, action.shape[0]
    dynamics.expect_room(context_len, horizon, cfg)
    noise = dynamics.draw_start_noise(key_start, (), context_len, obs_dim, cfg)
    begin = dynamics.start(params, window, code, noise, cfg)
    steps = dynamics.draw_step_noise(key_step, (horizon,), obs_dim, cfg)
    step_fn, recorded = dynamics.make_step_fn(params, cfg), ImagineNoise(steps, action)
    return imagine(step_fn, lambda obs, action: action, *begin, recorded, horizon)
