"""Cheetah-Vel: run at an unknown speed.

Source: `HalfCheetahVel-v0` of the MetaSTAR reference code (arXiv 2606.00780), after PEARL
(Rakelly et al., 2019, arXiv 1903.08254).
"""

from metastar.config.fields import Field
from metastar.envs import speed_tasks
from metastar.envs.bodies import half_cheetah
from metastar.envs.family import Family

DEFAULTS = {"discount": Field(0.99, "[0, 1)", "of returns, as the reference has it", before=0.99)}
SECTIONS = {"env": (half_cheetah,)}
DATA = half_cheetah.DATA
UPDATES = half_cheetah.UPDATES


def reward(xp, before, after, action, task):
    """`-|v - v*| - 0.05 |a|^2`: [...] of states; v the forward speed, v* the target, in m/s."""
    error = xp.abs(half_cheetah.speed(before, after) - task["velocity"])
    return -error - half_cheetah.control_cost(xp, action)


FAMILY = Family(
    name="cheetah_vel",
    specs=half_cheetah.profiles("cheetah_vel"),
    law=speed_tasks.LAW,
    label=speed_tasks.label,
    start=half_cheetah.start,
    observe=half_cheetah.observe,
    reward=reward,
    body=half_cheetah.BODY,
)
