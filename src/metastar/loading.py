"""A trained agent in three lines:

agent = metastar.load("runs/point_robot_sparse_quick")
adapted = agent.adapt(context)
action = adapted.act(obs)

`adapted.begin_episode()` tells it that the next observation opens a new episode.
"""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from metastar.data.contexts import folded, steps_of
from metastar.errors import UserError
from metastar.training import restore
from metastar.types import DataSpec, Method, StepIn, View


class Agent(NamedTuple):
    """A trained agent that can be given a context."""

    method: Method
    params: Any
    spec: DataSpec
    infer: Callable  # method.infer, jitted
    policy_act: Callable  # method.policy.act, jitted

    def adapt(self, context: View | Mapping[str, Any], task: Any = None, seed: int = 0):
        """Infers the task from a context.

        Args:
            context: a `View` [L], or a mapping with arrays `obs` [L, O], `action` [L, A] in
                [-1, 1] and `reward` [L] of at most as many steps of one task, in time order, as
                `method.context` asks for in all its windows together; optional are `first` [L]
                (starts of episodes; by default the first step only), `prev_reward`, `next_obs`,
                `done`.
            task: the true task parameters, for privileged methods only.
            seed: of the noise in the inference.

        Returns:
            An `Adapted` agent.

        Raises:
            UserError: an array is missing or of a wrong shape, the context is empty or too long,
                or a privileged method got no `task`.
        """
        if self.method.privileged and task is None:
            raise UserError("this method is privileged: give adapt(context, task=parameters)")
        asked = self.method.context
        view = folded(_view(context, self.spec, steps_of(asked)), asked)
        task = jax.tree.map(jnp.asarray, task) if self.method.privileged else None
        return Adapted(self, self.infer(self.params, view, task, jax.random.key(seed)))


class Adapted:
    """An agent that knows its task, in one episode after the other.

    The first `act` opens the first episode, and `begin_episode` each later one. What a policy
    remembers persists over them, as in evaluation.
    """

    def __init__(self, agent: Agent, adaptation: Any):
        """Use `Agent.adapt`."""
        self.adaptation = adaptation
        self._agent = agent
        self._carry = agent.method.policy.init(agent.params, adaptation)
        self._last_action = jnp.zeros(agent.spec.action_dim)
        self._last_obs = jnp.zeros(agent.spec.obs_dim)  # what `act` saw, or where that led
        self._started = False
        self._first = True

    def begin_episode(self, last_next_obs=None) -> None:
        """Says that the next `act` is the first of a new episode.

        Its `prev_reward` is still the reward of the last step, before the reset. None of this
        matters to policies without a memory, or before the first `act`.

        Args:
            last_next_obs: [O] where the last action led, before the reset; if None, the policy is
                told the last observation that it acted on instead.

        Raises:
            UserError: `last_next_obs` has a wrong shape.
        """
        self._first = True
        if last_next_obs is not None:
            led_to = _checked("last_next_obs", last_next_obs, self._last_obs.shape)
            if self._started:
                self._last_obs = led_to

    def act(self, obs, prev_reward: float = 0.0) -> np.ndarray:
        """Returns the greedy action [A] in [-1, 1] for an observation [O].

        `prev_reward`, the reward of the step before, matters to policies with a memory only.
        Raises `UserError` if the observation has a wrong shape.
        """
        agent = self._agent
        obs = _checked("obs", obs, (agent.spec.obs_dim,))
        led_to = self._last_obs if self._first else obs
        step = StepIn(obs, self._last_action, jnp.asarray(prev_reward), led_to, self._first)
        self._last_action, self._carry = agent.policy_act(
            agent.params, self.adaptation, self._carry, step, jax.random.key(0), True
        )
        self._last_obs, self._started, self._first = obs, True, False
        return np.asarray(self._last_action)


def load(path: str | Path) -> Agent:
    """Loads the newest good checkpoint of a workdir.

    Raises:
        UserError: the folder is no workdir, or holds no checkpoint that verifies.
    """
    run = restore.restore(path)
    return make_agent(run.method, run.spec, run.method.export(run.state))


def make_agent(method: Method, spec: DataSpec, params) -> Agent:
    """Binds exported parameters, e.g. of a run in memory, into an `Agent`."""
    infer, act = jax.jit(method.infer), jax.jit(method.policy.act)
    return Agent(method, params, spec, infer, act)


def _view(context, spec, length):
    """Checks a context and pads it to `length`, so that every context runs the same program."""
    given = context._asdict() if isinstance(context, View) else dict(context)
    for name in ("obs", "action", "reward"):
        if name not in given:
            raise UserError(f"the context has no {name!r}; it needs 'obs', 'action' and 'reward'")
    num = len(np.atleast_1d(given["reward"]))
    if not 1 <= num <= length:
        raise UserError(
            f"the context has {num} steps, but this agent takes 1 to {length}; cut it to the last "
            f"{length}"
        )
    check = partial(_checked_field, given)
    obs = check("obs", (num, spec.obs_dim))
    reward = check("reward", (num,))
    number = jnp.arange(num)
    first = check("first", (num,), number == 0).astype(bool)
    before = jnp.where(first, 0, jnp.concatenate([jnp.zeros(1, reward.dtype), reward[:-1]]))
    view = View(
        obs=obs,
        action=check("action", (num, spec.action_dim)),
        reward=reward,
        prev_reward=check("prev_reward", (num,), before),
        next_obs=check("next_obs", (num, spec.obs_dim), jnp.concatenate([obs[1:], obs[-1:]])),
        done=check("done", (num,), jnp.zeros(num)).astype(bool),
        valid=check("valid", (num,), jnp.ones(num)).astype(bool),
        first=first,
        episode=jnp.cumsum(first) - first[0],
        step=number - jax.lax.cummax(jnp.where(first, number, 0)),
        policy=jnp.zeros((), int),
        stage=jnp.zeros((), int),
    )

    def pad(x):
        return jnp.pad(x, [(0, length - num)] + [(0, 0)] * (x.ndim - 1)) if x.ndim else x

    return jax.tree.map(pad, view)


def _checked_field(given, name, shape, default=None):
    value = given.get(name)
    return default if value is None else _checked(f"context[{name!r}]", value, shape)


def _checked(name, value, shape):
    try:
        array = jnp.asarray(value, float)
    except (TypeError, ValueError):
        raise UserError(f"{name} is no array of numbers") from None
    if array.shape != shape:
        raise UserError(f"{name} has shape {array.shape}, but must have {shape}")
    if not np.isfinite(array).all():
        raise UserError(f"{name} holds a number that is not finite")
    return array
