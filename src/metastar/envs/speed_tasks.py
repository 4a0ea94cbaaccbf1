"""Tasks that are a target speed: the laws that Cheetah-Vel and Cheetah-Vel-Sparse share."""

from functools import partial

import numpy as np

from metastar.envs.intervals import draw

MAX_SPEED = 3.0  # metres per second
# Ours. The literature extrapolates only: SPC trains on 0.6 to 3.5 m/s and tests beyond both ends.
SPLITS = {
    "id": [(0.0, 0.7), (1.0, 2.0), (2.3, MAX_SPEED)],
    "ood_moderate": [(0.7, 1.0), (2.0, 2.3)],
    "ood_extreme": [(3.3, 4.0)],
}


def draw_tasks(rng: np.random.Generator, num: int) -> dict[str, np.ndarray]:
    """Draws `num` target speeds, uniform on [0, 3] m/s: `{"velocity": float64 [num]}`."""
    return {"velocity": rng.uniform(0, MAX_SPEED, num)}


def draw_split(rng: np.random.Generator, num: int, split: str) -> dict[str, np.ndarray]:
    """Draws `num` target speeds, uniform over the intervals of a name in `SPLITS`."""
    return {"velocity": draw(rng, num, SPLITS[split])}


LAW = {"own": draw_tasks} | {name: partial(draw_split, split=name) for name in SPLITS}


def reference_task(seed: int) -> dict[str, np.ndarray]:
    """The task that the MetaSTAR reference draws from a seed: its first uniform number, times 3."""
    return {"velocity": MAX_SPEED * np.random.RandomState(seed).uniform(size=1)}


def label(task) -> tuple[str, np.ndarray]:
    """The number of a task that plots show."""
    return "target speed [m/s]", np.asarray(task["velocity"])
