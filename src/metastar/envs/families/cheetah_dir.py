"""Cheetah-Dir: run forwards or backwards, whichever is asked.

Source: `HalfCheetahDir-v0` of the MetaSTAR reference code (arXiv 2606.00780), after PEARL
(Rakelly et al., 2019, arXiv 1903.08254).
"""

from functools import partial

import numpy as np

from metastar.config.fields import Field
from metastar.envs.bodies import half_cheetah
from metastar.envs.family import Family

DEFAULTS = {"discount": Field(0.99, "[0, 1)", "of returns, as the reference has it", before=0.99)}
SECTIONS = {"env": (half_cheetah,)}
UPDATES = half_cheetah.UPDATES


def _of_two_tasks(values: dict) -> dict:
    ood = {"data.ood_tasks": 2} if "data.ood_tasks" in values else {}
    return {**values, "data.train_tasks": 2, "data.test_tasks": 2, **ood}


DATA = {name: _of_two_tasks(values) for name, values in half_cheetah.DATA.items()}

# Ours: with two tasks there is nothing between or beyond them, so the split changes how much speed
# is worth against the cost of control: less than in training, and more.
WEIGHTS = {"id": 1.0, "ood_moderate": 0.5, "ood_extreme": 2.0}


def draw_tasks(rng: np.random.Generator, num: int, weight: float = 1.0) -> dict[str, np.ndarray]:
    """The directions 1, -1, 1, ..., times a weight: `{"direction": float64 [num]}`."""
    return {"direction": weight * np.where(np.arange(num) % 2, -1.0, 1.0)}


def reward(xp, before, after, action, task):
    """`g v - 0.05 |a|^2`: [...] of states; g the direction, v the forward speed in m/s."""
    return task["direction"] * half_cheetah.speed(before, after) - half_cheetah.control_cost(
        xp, action
    )


def label(task) -> tuple[str, np.ndarray]:
    """The number of a task that plots show."""
    return "direction", np.asarray(task["direction"])


FAMILY = Family(
    name="cheetah_dir",
    specs=half_cheetah.profiles("cheetah_dir"),
    law={"own": draw_tasks}
    | {name: partial(draw_tasks, weight=weight) for name, weight in WEIGHTS.items()},
    label=label,
    start=half_cheetah.start,
    observe=half_cheetah.observe,
    reward=reward,
    body=half_cheetah.BODY,
)
