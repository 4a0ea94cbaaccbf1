"""Ant-Goal: walk to an unknown place.

Sources: CSRO, ER-TRL, IDAQ and SPC share the reward and, but for zeros that IDAQ appends, the
observation. Tasks are those of IDAQ, the splits of ER-TRL (`default`) and SPC (`spc`).
"""

import numpy as np

from metastar.config.fields import Field
from metastar.envs import numbered_tasks
from metastar.envs.bodies import ant, legged
from metastar.envs.family import Family

DEFAULTS = {
    "discount": Field(0.99, "[0, 1)", "of returns, as the reference has it"),
    "profile": Field("default", ("default", "spc"), "which split: docs/families.md"),
}
DATA = legged.data(train=20, test=10, **legged.ANT_LEARNERS)
UPDATES = legged.UPDATES
LIKE = "ant_dir"

DISC = 3.0  # metres, IDAQ's disc of goals
# ER-TRL's goals: radius and angle of numbers 0 to 39, four groups of ten. The last group's angles
# are as in its file, a fifth of the quarter that seems meant: it takes ten of fifty points.
_FRONT = np.linspace(-np.pi / 2, np.pi / 2, 10)
_REAR = np.pi / 2 + np.pi / 49 * np.arange(10)
ER_TRL_GOALS = [(0.8, _FRONT), (1.2, _FRONT), (1.6, _FRONT), (1.6, _REAR)]
# SPC's: it withholds ten goals between the radii of training, and has no moderate split.
SPC_GOALS = [(0.8, _FRONT), (1.2, _FRONT), (1.0, _FRONT), (1.6, _FRONT)]


def draw_tasks(rng: np.random.Generator, num: int) -> dict[str, np.ndarray]:
    """Draws `num` goals, uniform in area on a disc of 3 m: `{"goal": float64 [num, 2]}`."""
    angle, area = 2 * np.pi * rng.uniform(size=num), rng.uniform(size=num)
    return {"goal": _places(DISC * np.sqrt(area), angle)}


def er_trl(ids: np.ndarray) -> dict[str, np.ndarray]:
    """The goals of ER-TRL's numbers, 0 to 39; 40 to 49 are SPC's ten of radius 1."""
    return {"goal": _table([*ER_TRL_GOALS, SPC_GOALS[2]])[ids.astype(int)]}


def spc(ids: np.ndarray) -> dict[str, np.ndarray]:
    """The goals of SPC's numbers."""
    return {"goal": _table(SPC_GOALS)[ids.astype(int)]}


def _table(groups) -> np.ndarray:
    return np.concatenate([_places(radius, angle) for radius, angle in groups])


def _places(radius, angle) -> np.ndarray:
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], -1)


# ER-TRL withholds no task like those of training: SPC's goals between its two radii are ours.
LAW = {"own": draw_tasks} | numbered_tasks.laws(
    er_trl,
    {
        "id": (*range(20), *range(40, 50)),
        "ood_moderate": range(20, 30),
        "ood_extreme": range(30, 40),
    },
)
SPC_LAW = {"own": draw_tasks} | numbered_tasks.laws(
    spc, {"id": range(30), "ood_extreme": range(30, 40)}
)


def label(task) -> tuple[str, np.ndarray]:
    """The number of a task that plots show: how far away the goal is."""
    return "goal distance [m]", np.linalg.norm(np.asarray(task["goal"]), axis=-1)


FAMILY = Family(
    name="ant_goal",
    specs={profile: ant.spec("ant_goal", place=True) for profile in ("default", "spc")},
    law=LAW,
    label=label,
    start=ant.start,
    observe=ant.observe_place,
    reward=ant.goal_reward,
    body=ant.BODY,
    success=ant.reached,
    goal=lambda tasks: tasks["goal"],
    goal_radius=ant.GOAL_RADIUS,
    variants={"spc": {"law": SPC_LAW}},
)
