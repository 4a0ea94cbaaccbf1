"""The state of a simulated robot, whatever simulates it."""

from typing import NamedTuple

from metastar.types import Array


class State(NamedTuple):
    """Generalised positions (metres, radians) and velocities (per second), or noise on them."""

    qpos: Array  # [..., P]
    qvel: Array  # [..., V]
