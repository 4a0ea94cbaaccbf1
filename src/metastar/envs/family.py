"""The records of a task family and of the robot that it is on."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from metastar.types import EnvSpec


class Body(NamedTuple):
    """What moves in a family, whatever simulates it."""

    draw_reset: Callable  # (key) -> noise of the start of one episode
    # MJCF file: a name among gymnasium's or a path; "" for a back end that has no such file
    model: str = ""
    options: Mapping[str, Any] = {}  # of the model's `opt`, in place of those of the file
    frame_skip: int = 1  # simulation steps per action
    dt: float | None = None  # seconds per action; None where only steps are counted
    # (model, parameters of one task, NumPy) -> model: changes the back end's copy of the model;
    # None: all tasks have the same physics
    edit: Callable | None = None
    # (obs [T+1, O], profile) -> positions [T+1, P], to draw a recorded episode; None: observations
    # do not tell them
    positions: Callable | None = None
    make: Callable | None = None  # (task of one task) -> gymnasium.Env; of the back end `gym` only


class Family(NamedTuple):
    """A law of tasks over one body: `FAMILY` in a file of `envs/families/`.

    Functions of `xp` (`numpy` or `jax.numpy`) take arrays with any leading axes. They are given
    *states* of the back end, not observations: a position [..., 2] of a point robot, an
    `envs.state.State` of a simulated robot, `before` and `after` an action. Only `optimum` takes an
    *observation*.
    """

    name: str
    specs: Mapping[str, EnvSpec]  # by profile; "default" among them
    # (rng, num) -> task parameters, float64 leaves [num, ...], by name of the law: "own", the
    # family's; "id" and names of `store.OOD`, laws that share no task: "id" and at least one, or
    # none; {}: tasks are not drawn but come with a data set
    law: Mapping[str, Callable]
    label: Callable  # (tasks) -> (name with unit, [N]): one number per task, for plots
    # The next three are None on the back end `gym`, whose environments say so themselves.
    start: Callable | None  # (xp, noise, rest state, task) -> state
    observe: Callable | None  # (xp, state, profile) -> [..., O]
    reward: Callable | None  # (xp, before, after, action, task) -> [...]
    body: Body
    # As `reward`, bool [...]: whether a step is a true terminal, whether it is a success; None: no
    # step is terminal, the family has no success
    done: Callable | None = None
    success: Callable | None = None
    # (first observation [..., O], task) -> [...]: largest possible return of an episode; None: not
    # known
    optimum: Callable | None = None
    sparse: bool = False  # most steps have no reward: results report windows with and without one
    # (tasks) -> [N, 2]: the place that a success is within `goal_radius` of, for figures; or None
    goal: Callable | None = None
    goal_radius: float | None = None
    # a file of `envs/backends/` or the dotted name of a module outside; None: the engine of
    # `simulator.backend`
    backend: str | None = None
    # what a profile changes in this record beside the observation: values by field, by profile
    variants: Mapping[str, Mapping[str, Any]] = {}
