"""Ant-SemiCircle: walk to an unknown place on the upper unit half circle.

Source: `AntSemiCircle-v0` of CORRO and the MetaSTAR reference code (arXiv 2606.00780).
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
LIKE = "ant_dir"

FAMILY = Family(
    name="ant_semicircle",
    specs={"default": ant.spec("ant_semicircle", place=True)},
    law=half_circle.LAW,
    label=half_circle.label,
    start=legged.starts(0.0, 0.0),
    observe=ant.observe_place,
    reward=ant.goal_reward,
    body=ant.BODY,
    success=ant.reached,
    goal=lambda tasks: tasks["goal"],
    goal_radius=ant.GOAL_RADIUS,
)
