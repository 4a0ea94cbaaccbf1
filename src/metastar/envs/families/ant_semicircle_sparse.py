"""Ant-SemiCircle-Sparse: find an unknown place on the upper unit half circle, paid in it only.

Source: `AntSemiCircleSparse-v0` of CORRO and the MetaSTAR reference code (arXiv 2606.00780).
"""

from metastar.config.fields import Field
from metastar.envs import half_circle
from metastar.envs.bodies import ant, legged
from metastar.envs.family import Family

DEFAULTS = {
    "discount": Field(0.99, "[0, 1)", "of returns, as the reference has it"),
    "profile": Field("default", ("default",), "there is one only: docs/families.md"),
}
DATA = legged.data(train=30, test=10, **legged.ANT_LEARNERS)
UPDATES = legged.UPDATES
LIKE = "cheetah_vel_sparse"

FAMILY = Family(
    name="ant_semicircle_sparse",
    specs={"default": ant.spec("ant_semicircle_sparse", place=True)},
    law=half_circle.LAW,
    label=half_circle.label,
    start=legged.starts(0.0, 0.0),
    observe=ant.observe_place,
    reward=ant.sparse_reward,
    body=ant.BODY,
    success=ant.reached,
    sparse=True,
    goal=lambda tasks: tasks["goal"],
    goal_radius=ant.GOAL_RADIUS,
)
