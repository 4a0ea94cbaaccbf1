"""Cheetah-Vel-Sparse: run at an unknown speed, paid only while close to it.

Source: `HalfCheetahVelSparse-v0` of the MetaSTAR reference code (arXiv 2606.00780).
"""

from metastar.config.fields import Field
from metastar.envs import speed_tasks
from metastar.envs.bodies import half_cheetah
from metastar.envs.family import Family

DEFAULTS = {"discount": Field(0.99, "[0, 1)", "of returns, as the reference has it", before=0.99)}
SECTIONS = {"env": (half_cheetah,)}
DATA = half_cheetah.DATA
UPDATES = half_cheetah.UPDATES

TOLERANCE = 0.5  # metres per second


def reward(xp, before, after, action, task):
    """`2 - e` if `e <= 0.5`, else 0; minus `0.05 |a|^2`: [...] of states.

    `e = |v - v*|` with v the forward speed and v* the target, in m/s.
    """
    error = xp.abs(half_cheetah.speed(before, after) - task["velocity"])
    tracking = xp.where(error <= TOLERANCE, 2 - error, 0.0)
    return tracking - half_cheetah.control_cost(xp, action)


FAMILY = Family(
    name="cheetah_vel_sparse",
    specs=half_cheetah.profiles("cheetah_vel_sparse"),
    law=speed_tasks.LAW,
    label=speed_tasks.label,
    start=half_cheetah.start,
    observe=half_cheetah.observe,
    reward=reward,
    body=half_cheetah.BODY,
    sparse=True,
)
