"""The records of a task family and of the robot that it is on."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

from metastar.types import EnvSpec


class Body(NamedTuple):
    """What moves in a family, whatever simulates it."""

    draw_reset: Callable  # (key) -> noise of the start of one episode
    # MJCF file: a name among gymnasium's or a path; "" for a back end that has no such file
    model: str = ""
    frame_skip: int = 1  # simulation steps per action
    dt: float | None = None  # seconds per action; None where only steps are counted
    # (model, task of one task, NumPy) -> model: changes the back end's own copy as the task says;
    # None: all tasks have the same physics
    edit: Callable | None = None
    # (obs [T+1, O], profile) -> positions [T+1, P], to draw a recorded episode; None: they do not
    # follow from what is seen
    positions: Callable | None = None


class Family(NamedTuple):
    """A law of tasks over one body: `FAMILY` in a file of `envs/families/`.

    Functions of `xp` run on NumPy and on `jax.numpy`, for arrays with any leading axes. `before`
    and `after` are states of the back end: a position, or `envs.state.State` of a robot.
    """

    name: str
    specs: Mapping[str, EnvSpec]  # by observation profile; "default" among them
    # (rng, num) -> tasks, float64 leaves [num, ...], by law: "own", the family's; "id" and the
    # names of `store.OOD`, which leave gaps, all three or none of them
    law: Mapping[str, Callable]
    label: Callable  # (tasks) -> (name with its unit, [N]): the one number that plots show
    start: Callable  # (xp, noise, rest state, task) -> state
    observe: Callable  # (xp, state, profile) -> [..., O]
    reward: Callable  # (xp, before, after, action, task) -> [...]
    body: Body
    # as `reward`, bool: a true terminal, success; None: no step is terminal; nothing to succeed in
    done: Callable | None = None
    success: Callable | None = None
    # (start [..., O], task) -> [...]: the largest possible return of an episode; None: not known
    optimum: Callable | None = None
    sparse: bool = False  # most steps pay nothing: windows with and without reward are told apart
    # (tasks) -> [N, 2]: the place that a success is within `goal_radius` of, for figures; or None
    goal: Callable | None = None
    goal_radius: float | None = None
    # a file of `envs/backends/` or the dotted name of a module outside; None: the engine of
    # `simulator.backend`
    backend: str | None = None
