"""The state of a simulated robot, whatever simulates it."""

from typing import NamedTuple

from metastar.types import Array


class State(NamedTuple):
    """Generalised positions and velocities of a robot, or the noise on them at a reset."""

    qpos: Array  # [..., P]
    qvel: Array  # [..., V]
