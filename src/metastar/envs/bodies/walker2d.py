"""The walker of gymnasium's `walker2d.xml`: 9 positions, 9 velocities, 6 motors of range [-1, 1].

In that file the left foot has a sliding friction of 1.9 and the right one of 0.9, as in all
versions but gymnasium's `walker2d_v5.xml`, where both have 1.9.
"""

from metastar.envs.bodies.planar import Robot, Setting
from metastar.envs.state import State

ROBOT = Robot(num_joints=9, num_motors=6)


def fallen(xp, state: State):
    """Gym's law: unless 0.8 m < z < 2 m and |angle| < 1 rad."""
    height, angle = state.qpos[..., 1], state.qpos[..., 2]
    return ~((height > 0.8) & (height < 2.0) & (xp.abs(angle) < 1.0))


def lies(xp, state: State):
    """The law of the MetaSTAR reference code, CORRO and UNICORN: z <= 0.5 m."""
    return state.qpos[..., 1] <= 0.5


# The MetaSTAR reference code, CORRO and UNICORN: rllab's files, 0.016 s per action. There x is
# observed, too ("reference").
PARAM = Setting("walker2d.xml", timestep=0.004, frame_skip=4, alive=1.0, fallen=lies)
PARAM_SETTINGS = {"default": PARAM, "reference": PARAM._replace(place=True)}
# The sparse variant has neither bonus nor end.
_SPARSE = PARAM._replace(alive=0.0, fallen=None)
SPARSE_SETTINGS = {"default": _SPARSE, "reference": _SPARSE._replace(place=True)}
# FOCAL and CSRO: the same simulator, gym's law of falls, velocities within 10.
FOCAL = PARAM._replace(fallen=fallen, clip=10.0)
# ER-TRL: gym's own file, with 5 steps per action where gym has 4. SPC: gymnasium's Walker2d-v5.
ER_TRL = FOCAL._replace(timestep=0.002, frame_skip=5)
SPC = ER_TRL._replace(model="walker2d_v5.xml", frame_skip=4, pays_fall=False)
SCALE_SETTINGS = {"default": ER_TRL, "spc": SPC}
