"""The hopper of gymnasium's `hopper.xml`: 6 positions, 6 velocities, 3 motors of range [-1, 1]."""

from metastar.envs.bodies.planar import Robot, Setting
from metastar.envs.state import State

ROBOT = Robot(num_joints=6, num_motors=3)


def fallen(xp, state: State):
    """Gym's law: unless z > 0.7 m, |angle| < 0.2 rad and all else is below 100 in size."""
    rest = xp.concatenate([state.qpos[..., 2:], state.qvel], -1)
    bounded = (xp.abs(rest) < 100).all(-1)
    height, angle = state.qpos[..., 1], state.qpos[..., 2]
    return ~(bounded & (height > 0.7) & (xp.abs(angle) < 0.2))


# The MetaSTAR reference code, CORRO and UNICORN: rllab's files, 0.016 s per action, no bonus, no
# end. There x is observed, too ("reference").
PARAM = Setting("hopper.xml", timestep=0.004, frame_skip=4, alive=0.0)
PARAM_SETTINGS = {"default": PARAM, "reference": PARAM._replace(place=True)}
# CSRO: the same simulator, but the robot is paid for standing and its episode ends with a fall.
CSRO = PARAM._replace(alive=1.0, fallen=fallen, clip=10.0)
# ER-TRL: gym's own file, 0.008 s per action. SPC: the same on gymnasium's Hopper-v5, where the
# step that ends the episode is not paid for.
ER_TRL = CSRO._replace(timestep=0.002)
SCALE_SETTINGS = {"default": ER_TRL, "spc": ER_TRL._replace(pays_fall=False)}
