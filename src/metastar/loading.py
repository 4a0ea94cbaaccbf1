"""A trained agent in three lines:

agent = metastar.load("runs/point_robot_sparse_quick")
adapted = agent.adapt(context)
action = adapted.act(obs)

`adapted.begin_episode()` tells it that the next observation opens a new episode.
"""

import os
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from metastar.data.contexts import folded, steps_of
from metastar.errors import UserError, did_you_mean
from metastar.evaluation import likelihood
from metastar.ops.host_arrays import flags, numbers
from metastar.training import checkpoint, restore
from metastar.training.chunk import params_of
from metastar.types import DataSpec, Method, StepIn, View

REQUIRED = ("obs", "action", "reward")
OPTIONAL = ("first", "prev_reward", "next_obs", "done", "valid")
_SEEDS = 2**32


class Agent(NamedTuple):
    """A trained agent that can be given a context."""

    method: Method
    params: Any
    spec: DataSpec
    infer: Callable  # method.infer, jitted
    policy_act: Callable  # method.policy.act, jitted
    needs: tuple[str, ...] = REQUIRED  # arrays that a context must have

    def adapt(self, context: View | Mapping[str, Any], task: Any = None, seed: int = 0):
        """Infers the task from a context.

        Args:
            context: a `View` [L], or a mapping with arrays `obs` [L, O], `action` [L, A] in
                [-1, 1] and `reward` [L] of at most as many steps of one task, in time order, as
                `method.context` asks for in all its windows together; optional are `first` [L]
                (starts of episodes; by default the first step only), `prev_reward`, `next_obs`
                (an agent that infers by likelihood needs it), `done`, and `valid`, False in padding
                behind the steps.
            task: the true task parameters, {name: numbers}; read by privileged methods only.
            seed: of the noise in the inference, from 0 to 2^32 - 1.

        Returns:
            An `Adapted` agent.

        Raises:
            UserError: the context lacks an array or has an unknown one, is empty, too long, all
                padding, or has no episode of as many steps as the method needs; an array is of a
                wrong shape or type, or holds what is no usable number; an action leaves [-1, 1]; a
                privileged method got no `task` of the data's size.
        """
        asked = self.method.context
        view = _view(context, self.spec, steps_of(asked), self.needs)
        _expect_steps(view, self.method.least_steps)
        view = folded(view, asked)
        task = _task(task, self.spec) if self.method.privileged else None
        adaptation = self.infer(self.params, view, task, jax.random.key(_seed(seed)))
        if not _is_finite(adaptation):
            raise UserError(
                "what the agent infers from this context is not finite; give observations and "
                "rewards in the units of the data it was trained on"
            )
        return Adapted(self, adaptation)


class Adapted:
    """An agent that knows its task, in one episode after the other.

    The first `act` opens the first episode, and `begin_episode` each later one. What a policy
    remembers persists over them, as in evaluation. A call that raises changes nothing.
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
        self._time = 0  # of the next step, in the stream: episodes begin at full lengths

    def begin_episode(self, last_next_obs=None) -> None:
        """Says that the next `act` is the first of a new episode.

        Its `prev_reward` is still the reward of the last step, before the reset. None of this
        matters to policies without a memory, or before the first `act`.

        Args:
            last_next_obs: [O] where the last action led, before the reset; if None, the policy is
                told the last observation that it acted on instead.

        Raises:
            UserError: `last_next_obs` is no array of usable numbers of that shape.
        """
        if last_next_obs is not None:
            led_to = jnp.asarray(numbers("last_next_obs", last_next_obs, self._last_obs.shape))
            if self._started:
                self._last_obs = led_to
        self._first = True

    def act(self, obs, prev_reward: float = 0.0) -> np.ndarray:
        """Returns the greedy action [A] in [-1, 1] for an observation [O].

        `prev_reward`, the reward of the step before, matters to policies with a memory only.
        Raises `UserError` if one of them is no array of usable numbers of its shape, or if what
        comes of them is not finite.
        """
        agent = self._agent
        obs = jnp.asarray(numbers("obs", obs, (agent.spec.obs_dim,)))
        prev_reward = jnp.asarray(numbers("prev_reward", prev_reward, ()))
        led_to = self._last_obs if self._first else obs
        time, full = self._time, agent.spec.max_episode_steps
        if self._first:
            time = -(-time // full) * full
        elif time % full == 0 and agent.method.longest_episode is not None:
            raise UserError(
                f"this agent was trained on episodes of {agent.method.longest_episode} steps and "
                "has no more; call begin_episode before the next act"
            )
        step = StepIn(obs, self._last_action, prev_reward, led_to, self._first, time)
        action, carry = agent.policy_act(
            agent.params, self.adaptation, self._carry, step, jax.random.key(0), True
        )
        if not _is_finite((action, carry)):
            raise UserError(
                f"the agent's action is not finite for an obs of up to {np.abs(obs).max():.3g} and "
                f"a prev_reward of {prev_reward:.3g}; give both in the units of its data"
            )
        self._last_action, self._carry = action, carry
        self._last_obs, self._started, self._first = obs, True, False
        self._time = time + 1
        return np.asarray(action)


def load(path: str | os.PathLike) -> Agent:
    """Loads the newest good checkpoint of a workdir.

    Raises:
        UserError: `path` is no path, the folder is no workdir or cannot be read, it holds no
            checkpoint that verifies or, of an agent that infers by likelihood, no codes of the
            training tasks that belong to it.
    """
    folder = os.fspath(path) if isinstance(path, str | os.PathLike) else None
    if not isinstance(folder, str) or not folder or "\0" in folder:
        raise UserError(
            "metastar.load takes the folder of a run, as text or a pathlib.Path, but what it was "
            f"given is {_short(path)}"
        )
    try:
        run = restore.restore(folder)
    except OSError as error:
        raise UserError(
            f"cannot read the run in {folder[:60]!r} ({error.strerror}); give the --workdir of a "
            "training that you may read"
        ) from None
    inference = likelihood.make(run.cfg.inference, run.method)
    params_sha256 = checkpoint.params_sha256(params_of(run.state))
    params = inference.load(run.method.export(run.state), folder, params_sha256)
    agent = make_agent(inference.method, run.spec, params)
    return agent._replace(needs=(*REQUIRED, *inference.needs))


def make_agent(method: Method, spec: DataSpec, params) -> Agent:
    """Binds exported parameters, e.g. of a run in memory, into an `Agent`."""
    infer, act = jax.jit(method.infer), jax.jit(method.policy.act)
    return Agent(method, params, spec, infer, act)


def _view(context, spec: DataSpec, length: int, needs: tuple[str, ...] = REQUIRED) -> View:
    """Checks a context and pads it to `length`, so that every context runs the same program."""
    given = _given(context, needs)
    num = _steps(given["reward"], length)

    def find(check, name, shape, default=None):
        return check(f"context[{name!r}]", given[name], shape) if name in given else default

    obs = find(numbers, "obs", (num, spec.obs_dim))
    action = find(numbers, "action", (num, spec.action_dim))
    reward = find(numbers, "reward", (num,))
    valid = find(flags, "valid", (num,), np.ones(num, bool))
    if (outside := np.abs(action) > 1).any():
        step = np.argwhere(outside)[0, 0]
        raise UserError(f"context['action'] leaves [-1, 1] at step {step}; scale it into the range")
    if not valid[0] or (valid[1:] > valid[:-1]).any():
        raise UserError(
            "context['valid'] must be True at its first steps and False only behind them, where "
            "there is padding; leave out what is not valid"
        )
    number = np.arange(num)
    first = find(flags, "first", (num,), number == 0)
    before = np.where(first, 0, np.concatenate([np.zeros(1, reward.dtype), reward[:-1]]))
    view = View(
        obs=obs,
        action=action,
        reward=reward,
        prev_reward=find(numbers, "prev_reward", (num,), before),
        next_obs=find(numbers, "next_obs", obs.shape, np.concatenate([obs[1:], obs[-1:]])),
        done=find(flags, "done", (num,), np.zeros(num, bool)),
        valid=valid,
        first=first,
        episode=np.cumsum(first) - first[0],
        step=number - np.maximum.accumulate(np.where(first, number, 0)),
        policy=np.zeros((), int),
        stage=np.zeros((), int),
    )

    def pad(x):
        x = np.pad(x, [(0, length - num)] + [(0, 0)] * (x.ndim - 1)) if x.ndim else x
        return jnp.asarray(x)

    return jax.tree.map(pad, view)


def _expect_steps(view: View, least: int) -> None:
    """Raises `UserError` unless some episode of a context has `least` steps in it."""
    if (longest := int(np.bincount(view.episode[view.valid]).max())) < least:
        raise UserError(
            f"the longest episode of the context has {longest} steps in it, but this agent needs "
            f"{least} of one episode; give it more of one episode"
        )


def _given(context, needs: tuple[str, ...]) -> dict[str, Any]:
    """The arrays of a context by name, without those that are None."""
    known = (*REQUIRED, *OPTIONAL)
    if isinstance(context, View):  # the rest of it follows from these
        context = {name: getattr(context, name) for name in known}
    if not isinstance(context, Mapping):
        raise UserError(
            f"the context is {_short(context)}; give a View or a mapping with arrays 'obs', "
            "'action' and 'reward'"
        )
    for name in context:
        if name not in known:
            raise UserError(f"the context has an unknown key {name!r}{did_you_mean(name, known)}")
    given = {name: value for name, value in context.items() if value is not None}
    for name in needs:
        if name not in given:
            *others, last = map(repr, needs)
            listed = f"{', '.join(others)} and {last}"
            raise UserError(f"the context has no {name!r}; it needs {listed}")
    return given


def _steps(reward, length: int) -> int:
    """How many steps a context has, by its rewards."""
    reward = numbers("context['reward']", reward)
    if reward.ndim != 1:
        raise UserError(
            f"context['reward'] has shape {reward.shape}, but must have one axis: the steps of one "
            "task"
        )
    if not 1 <= len(reward) <= length:
        raise UserError(
            f"the context has {len(reward)} steps, but this agent takes 1 to {length}; cut it to "
            f"the last {length}"
        )
    return len(reward)


def _task(task, spec: DataSpec) -> dict[str, jax.Array]:
    """Checks the parameters of a task, for a privileged method."""
    if task is None:
        raise UserError("this method is privileged: give adapt(context, task=parameters)")
    remedy = "give all parameters by their names, as the manifest of the data set has them"
    if not isinstance(task, Mapping):
        raise UserError(f"task is {_short(task)}; {remedy}")
    for name in task:
        if not isinstance(name, str):
            raise UserError(f"task has the key {name!r}, which is no name; {remedy}")
    task = {name: numbers(f"task[{name!r}]", value) for name, value in task.items()}
    if (size := sum(value.size for value in task.values())) != spec.task_dim:
        raise UserError(
            f"task holds {size} numbers, but a task of family {spec.family!r} has {spec.task_dim}; "
            f"{remedy}"
        )
    return jax.tree.map(jnp.asarray, task)


def _seed(seed) -> int:
    whole = isinstance(seed, int | np.integer) and not isinstance(seed, bool)
    if not whole or not 0 <= seed < _SEEDS:
        raise UserError(
            f"seed is {_short(seed)}, but must be a whole number from 0 to {_SEEDS - 1}"
        )
    return int(seed)


def _is_finite(tree) -> bool:
    floats = [x for x in jax.tree.leaves(tree) if jnp.issubdtype(x.dtype, jnp.inexact)]
    return all(np.isfinite(np.asarray(x)).all() for x in floats)


def _short(value) -> str:
    """What was given, as "is" goes on: the value if it is short, else its type."""
    text = repr(value) if isinstance(value, str | bytes | int | float | None) else ""
    return text if 0 < len(text) <= 60 else f"of type {type(value).__name__}"
