"""The actor's loss."""

from collections.abc import Callable
from typing import Any

from metastar.nets.actor_critic import Actor, sample_action
from metastar.types import Array, HyperParams


def loss(
    params: Any, obs_code: Array, noise: Array, hp: HyperParams, actor: Actor, q_fn: Callable
) -> tuple[Array, dict[str, Array]]:
    """`mean [alpha log pi(a|s) - min_i Q_i(s, a)]`, a ~ pi reparameterised.

    Soft actor-critic, Haarnoja et al. 2018 (arXiv 1812.05905), equation 9.

    Args:
        params: the actor's parameters.
        obs_code: [M, n].
        noise: [M, A] standard normal.
        hp: `alpha` is used.
        actor: the module.
        q_fn: (obs_code, action) -> [2, M]; its parameters get no gradient.

    Returns:
        Scalar and metrics; `entropy` is in nats.
    """
    action, log_prob = sample_action(actor, params, obs_code, noise)
    value = q_fn(obs_code, action).min(axis=0)
    total = (hp.alpha * log_prob - value).mean()
    return total, {"actor_loss": total, "entropy": -log_prob.mean()}
