"""An agent on (observation, code) as the policy and the value of a system."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from metastar.errors import UserError
from metastar.types import Agent, Policy

AGENT = "agent"  # key of the agent's parameters in exported ones


def one_batch(agent: Agent, name: str, method: str) -> Agent:
    """The agent of a method that draws one batch of rows for an update.

    Raises `UserError` if it wants several.
    """
    if agent.num_batches != 1:
        raise UserError(
            f"agent {name!r} learns from {agent.num_batches} batches of rows in an update, but "
            f"method {method!r} draws one; use method 'contextual', or another agent.name"
        )
    return agent


def as_it_is(params, obs):
    """The observation, seen without an encoder."""
    del params
    return obs


def code_policy(
    agent: Agent,
    action_dim: int,
    whiten: Callable = lambda obs: obs,
    see: Callable = as_it_is,
) -> Policy:
    """The policy that acts on the whitened observation, joined with the adaptation's code.

    Args:
        agent: `act` is used, with `params["agent"]`.
        action_dim: A.
        whiten: obs [..., O] -> normalised obs [..., O], of `data.normalize`.
        see: (params, normalised obs [..., O]) -> what the agent has in its place, a latent [..., D]
            for instance.
    """

    def act(params, adaptation, carry, step, key, greedy):
        obs_code = jnp.concatenate([see(params, whiten(step.obs)), adaptation.code])
        noise = jax.random.normal(key, (action_dim,))
        return agent.act(params[AGENT], obs_code, noise, greedy), carry

    return Policy(lambda params, adaptation: (), act)


def code_value(agent: Agent, whiten: Callable, see: Callable = as_it_is) -> Callable | None:
    """`Method.value` of an agent, None if it has none; arguments are those of `code_policy`."""
    if agent.value is None:
        return None

    def value(params, obs, action, code):
        obs_code = jnp.concatenate([see(params, whiten(obs)), code])
        return agent.value(params[AGENT], obs_code, action)

    return value
