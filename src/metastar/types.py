"""Every record that crosses a module boundary, in one place (imports no project code).

Axes: N tasks, M meta-batch, W windows per task, E episodes of T steps, P transitions of a task,
L context, H horizon, R rollouts, B batch, K samples; O observation, A action, Z task code.
Names are singular even when batched.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax

Array = jax.Array


class EnvSpec(NamedTuple):
    """What is fixed about a task family: sizes, and whether a true terminal ends the episode."""

    name: str
    obs_dim: int
    action_dim: int
    max_episode_steps: int
    done_ends_episode: bool = False

    @property
    def episode_bytes(self) -> int:
        """Of a recorded episode in float32: two observations, an action and a reward a step."""
        return 4 * self.max_episode_steps * (2 * self.obs_dim + self.action_dim + 1)


class DataSpec(NamedTuple):
    """What a method must know of a data set to build itself; hashable, saved with a run as JSON.

    `obs_mean` and `obs_std` are taken over the valid observations of the training tasks only.
    """

    family: str
    obs_dim: int
    action_dim: int
    task_dim: int  # length of one task's parameters, flattened in key order
    num_tasks: int  # training tasks
    max_episode_steps: int
    obs_mean: tuple[float, ...]
    obs_std: tuple[float, ...]
    reward_std: float = 1.0  # over the training tasks' valid steps
    num_policies: int = 1  # behaviour policies that the data set names
    num_stages: int = 1  # stages that it names
    num_behaviors: int = 1  # sources, i.e. pairs of the two, among the training episodes in use


class TaskData(NamedTuple):
    """A data set on the device, with only those tasks that its reader may see; no axis over seeds.

    A task's episodes follow one another in time order, without padding between them; the row of a
    task that has less data than others ends in padding. A task of P transitions in E episodes has
    P + E observations, one more per episode than transitions: transition p of episode e leads from
    row p + e to row p + e + 1, so that no observation is stored twice. A restriction to some of
    the episodes (`data.store.restrict`) shares all large arrays.
    """

    obs: Array  # [N, P + E, O]
    action: Array  # [N, P, A] in [-1, 1]
    reward: Array  # [N, P]
    done: Array  # [N, P] bool: a true terminal; a time limit is False
    episode: Array  # [N, P] int: the transition's episode, counted within its task
    step: Array  # [N, P] int: its number within the episode
    length: Array  # [N, E] int: transitions of an episode; 0 where the task has fewer episodes
    policy: Array  # [N, E] int: index into the manifest's table of behaviour policies
    stage: Array  # [N, E] int: index into the manifest's table of stages
    task: Any  # task parameters, leaves [N, ...]
    visible: Array  # [N, E] bool: episodes that draws may use; `index` and `count` follow from it
    index: Array  # [N, P] int: positions p of their transitions, in time order; 0 beyond `count`
    count: Array  # [N] int: number of such positions
    # [N, P, O]; only for imported data in which an observation is not where the last action led
    next_obs: Array | None = None


class Index(NamedTuple):
    """Which transitions a draw chose; `data.sampler.gather` makes a `View` of it."""

    task: Array  # [...] int
    position: Array  # [..., L] int: p, among the transitions of the task
    valid: Array  # [..., L] bool: False is padding, always at the end


class View(NamedTuple):
    """A window (in time order) or a bag of transitions, leaves [..., L] with leading batch axes."""

    obs: Array  # [..., L, O]
    action: Array  # [..., L, A]
    reward: Array  # [..., L]
    prev_reward: Array  # [..., L] 0 on the first step of an episode
    next_obs: Array  # [..., L, O]
    done: Array  # [..., L] bool
    valid: Array  # [..., L] bool: False is padding, always at the end
    first: Array  # [..., L] bool: first step of an episode: an episode boundary in a window
    episode: Array  # [..., L] int: number of the episode within its task or stream
    step: Array  # [..., L] int: number of the step within its episode
    policy: Array  # [...] int: behaviour policy of the last valid step's episode
    stage: Array  # [...] int: stage of that episode


class Context(NamedTuple):
    """What a method infers a task from: a `View` [C, L] of `num` = C windows of L steps each.

    An ordered window holds consecutive steps in time order; otherwise it is a bag of transitions.
    """

    length: int  # L
    num: int = 1  # C
    ordered: bool = True
    # Transitions of the shortest contexts that it learned from, padded to L; 0: all have L
    shortest: int = 0


class Batch(NamedTuple):
    """What one update sees. `task` is read by privileged methods only."""

    task_id: Array  # [M] index among the training tasks
    task: Any  # leaves [M, ...]
    views: dict[str, View]  # "context", "positive" (a second window of the same task), "real", ...


class Learner(NamedTuple):
    """One thing that learns, e.g. a world model or an agent."""

    params: Any  # trained by gradients
    target: Any = ()  # target networks, which follow `params` without a gradient
    opt_state: Any = ()  # of the optimiser
    extra: Any = ()  # what else goes from update to update: averages, memories, counters


TrainState = dict[str, Learner]  # all that a method carries, by part: "world_model", "agent", ...


class Phase(NamedTuple):
    """One part of training: `num_updates` times sample and update, optionally with validation.

    `sample` is given the step counted over all phases and folds it into its keys. `update` is given
    the step since the phase began, [] int and the same for all runs of a program, so that
    `step % period == 0` can be the condition of a branch.

    `validate` makes the loop keep the parameters of the lowest validation loss and continue
    from them when the phase ends (never on test tasks: it sees the training data only).
    """

    name: str
    num_updates: int
    sample: Callable  # (TaskData, key of the run, step) -> Batch
    update: Callable  # (TrainState, Batch, key, hp, step) -> (TrainState, metrics)
    validate: Callable | None = None  # (TrainState, Batch, key, hp) -> scalar loss


class Adaptation(NamedTuple):
    """What a method knows of the task after a context, in the usual form: a task code.

    A method may infer any other pytree; tools that need task codes (`code_of`) then refuse it.
    """

    code: Array  # [Z]


def code_of(adaptation: Any) -> Array | None:
    """The task code [..., Z] of an adaptation; None if it has none."""
    return getattr(adaptation, "code", None)


class StepIn(NamedTuple):
    """What a policy sees. At an episode's first step `prev_*` still describe the step before it."""

    obs: Array  # [O]
    prev_action: Array  # [A] the executed one
    prev_reward: Array  # []
    prev_next_obs: Array  # [O] where the previous action led; differs from obs only after a reset
    first: Array  # [] bool
    # [] int: steps since the stream began, counted over its episodes and with the padding of those
    # that ended early; the same in all streams of a batch, so that a branch on it stays a branch
    # under vmap
    time: Array | int = 0


class StepOut(NamedTuple):
    """What a transition gives, in a simulator and in a world model alike."""

    obs: Array  # [O] the state the action led to
    reward: Array  # []
    done: Array  # [] bool
    # [] bool: the step met the task's goal; None in models and in families without a success
    success: Array | None = None


class Trajectory(NamedTuple):
    """Transitions in time order, leaves [..., T, ...]."""

    obs: Array
    action: Array
    reward: Array
    next_obs: Array
    done: Array
    valid: Array  # False after the end of an episode
    success: Array | None = None  # of a simulator, as in `StepOut`


class Policy(NamedTuple):
    """A pure policy; a protocol wraps one in another."""

    init: Callable  # (params, adaptation) -> carry
    act: Callable  # (params, adaptation, carry, StepIn, key, greedy) -> (action, carry)


class TaskModel(NamedTuple):
    """Means of a method's predictions of one transition under each of K codes; nothing is drawn."""

    next_obs: Callable  # (params, obs [O], action [A], code [K, Z]) -> [K, O]
    reward: Callable  # (params, obs [O], action [A], next_obs [K, O], code [K, Z]) -> [K]
    # [] standard deviation of a reward's Gaussian likelihood around its mean, in units of reward
    likelihood_std: float
    # (params, obs [O], action [A], code [Z]) -> (reward [E], next_obs [E, O]): what each of an
    # ensemble's models predicts; None: there is one model
    members: Callable | None = None
    # [O] the same of a next state, in units of the observations; None: it has no such likelihood
    next_obs_std: tuple[float, ...] | None = None


class Method(NamedTuple):
    """One offline meta-RL system, pure."""

    init: Callable  # (key) -> TrainState
    phases: tuple[Phase, ...]
    export: Callable  # (TrainState) -> params that infer and policy take (averaged actor, ...)
    # (params, View [C, L], task, key) -> adaptation, any pytree, with the field `code` if the
    # method has task codes; task is None unless privileged
    infer: Callable
    policy: Policy
    context: Context  # what `infer` is given
    privileged: bool = False  # reads the true task parameters: a bound, not a competitor
    task_model: TaskModel | None = None  # None if the method trains no such model
    # (params, View [K], action [H, A], code [Z], key) -> (obs [H, O], reward [H]): one sampled
    # rollout under recorded actions after K real steps; None without a world model
    predict: Callable | None = None
    # (params, obs [O], action [A], code [Z]) -> []: the discounted return that the agent expects,
    # the lower of its critics; None without critics
    value: Callable | None = None
    # steps of the longest episode in which `policy` can act; None: it may be of any length
    longest_episode: int | None = None
    # steps of one episode that `infer` needs of a context that it is given; with fewer it knows
    # no more than without a context
    least_steps: int = 1
    # numbers by section of the config: traced, so that seeds and sweeps are axes of one program;
    # `training.runs.make_method` fills it in
    hp: Any = ()


class RowSpec(NamedTuple):
    """What an agent must know of the rows of an update to build itself."""

    action_dim: int
    per_task: int  # B, rows of each task in a batch
    imagined: int = 0  # how many of these, the last ones, are imagined


class Agent(NamedTuple):
    """What acts and learns values: one file of `agents/`, `make(cfg, RowSpec)`.

    It sees an observation joined with a code, `obs_code`: an inferred task code or the true task
    parameters, as its user decides. `hp` holds the traced numbers of its own section.
    """

    init: Callable  # (key, length of obs_code) -> Learner
    # (Learner, Transitions [M * B, ...] by task, key, hp, step) -> (Learner, metrics); the leaves
    # of an agent with several batches are [num_batches, M * B, ...]
    update: Callable
    # (Learner) -> params for `act` and `value`, which also take `Learner.params` themselves
    export: Callable
    act: Callable  # (params, obs_code [..., n], noise [..., A] normal, greedy) -> action [..., A]
    value: Callable | None = None  # (params, obs_code [..., n], action [..., A]) -> [...]
    num_batches: int = 1  # independent batches of rows that an update takes
    # (Learner, Transitions [M * B, ...], key, hp, step) -> []: the critics' loss of the update with
    # the same arguments, differentiable in `obs_code`; targets are data. For methods whose codes
    # learn from the critics; None: the agent does not tell it
    code_loss: Callable | None = None


class Codes(NamedTuple):
    """What an encoder makes of a window or a bag."""

    task: Array  # [..., Z]
    each: Array | None = None  # [..., L, Z]: one of every transition, if the encoder makes them


class Encoder(NamedTuple):
    """Makes task codes from transitions: one file of `models/encoders/`, `make(cfg, spec)`."""

    init: Callable  # (key) -> params
    encode: Callable  # (params, View [..., L], noise) -> Codes
    draw_noise: Callable = lambda key, shape: None  # (key, [..., L]) -> what `encode` draws


class Opponent(NamedTuple):
    """Networks that play against a task loss, trained on the codes without a gradient into them.

    Their optimiser is separate; its learning rate is the field `lr` of the file.
    """

    init: Callable  # (key) -> params, a dict of networks
    loss: Callable  # (params, codes {view: Codes}, Batch, noise) -> (scalar, metrics)
    draw_noise: Callable = lambda key, batch: None  # what `loss` draws
    inner_steps: int = 1  # optimiser steps per update, each with new noise
    # networks that take a step one after another, each with an optimiser of its own and against the
    # others as they are by then; none: all of them take their step at once
    turns: tuple[str, ...] = ()


class TaskLoss(NamedTuple):
    """A term of the task objective, which shapes the codes: one file of `losses/task/`."""

    views: tuple[str, ...]  # views whose codes it needs: "context", "positive"
    # (params, codes {view: Codes}, Batch, noise, hp: own section) -> (scalar, metrics); `params`
    # are those of `init` and, not to be differentiated, the opponent's
    loss: Callable
    init: Callable = lambda key: {}  # (key) -> parameters of networks of its own, a dict
    draw_noise: Callable = lambda key, batch: None  # what `loss` draws
    opponent: Opponent | None = None
    by_source: bool = False  # compares the sources of windows; a bag mixes those of its task


class Env(NamedTuple):
    """A simulator: in JAX for one task and one episode, or on the host for a batch of them."""

    spec: EnvSpec
    draw_reset: Callable  # (key) -> noise, for one episode; always in JAX
    reset: Callable  # (noise, task, physics) -> (env_state, obs [O])
    step: Callable  # (env_state, action [A], task, physics) -> (env_state, StepOut)
    on_host: bool = False  # reset and step take NumPy arrays with a leading axis over streams
    # (tasks, leaves [N, ...]) -> physics, leaves [N, ...]: what differs in the physics of tasks.
    # Called once per batch, outside of jit; no leaves if all tasks have the same physics
    prepare: Callable = lambda tasks: ()
