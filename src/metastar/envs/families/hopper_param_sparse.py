"""Hopper-Param-Sparse: hop at 1.5 m/s with unknown physics, paid only while close to that speed.

Source: `HopperRandParamsSparse-v0` of the MetaSTAR reference code (arXiv 2606.00780).
"""

from metastar.config.fields import Field
from metastar.envs import physics_tasks
from metastar.envs.bodies import hopper, legged, planar

DEFAULTS = {
    "discount": Field(0.99, "[0, 1)", "of returns, as the reference has it"),
    "profile": Field("default", ("default", "reference"), "what is observed: docs/families.md"),
}
DATA = legged.data(train=30, test=10, **legged.HOPPER_LEARNERS | legged.SLOW_TD3)
UPDATES = legged.UPDATES
LIKE = "cheetah_vel_sparse"

FAMILY = planar.family(
    "hopper_param_sparse",
    hopper.ROBOT,
    hopper.PARAM_SETTINGS,
    pay=physics_tasks.near_target,
    edit=physics_tasks.scale_entries,
    law=physics_tasks.HOPPER_LAW,
    label=physics_tasks.entries_label,
    sparse=True,
)
