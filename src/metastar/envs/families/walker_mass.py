"""Walker-Mass: walk with unknown masses, one scale for the whole robot.

Sources: `default` is the `walker-mass` of ER-TRL, `spc` that of SPC on gymnasium's Walker2d-v5.
"""

from functools import partial

from metastar.config.fields import Field
from metastar.envs import physics_tasks
from metastar.envs.bodies import legged, planar, walker2d

DEFAULTS = {
    "discount": Field(0.99, "[0, 1)", "of returns, as the reference has it"),
    "profile": Field(
        "default", ("default", "spc"), "which simulator, reward and split: docs/families.md"
    ),
}
DATA = legged.data(train=20, test=10, falls=True, **legged.WALKER_LEARNERS)
UPDATES = legged.UPDATES
LIKE = "walker_param"

FAMILY = planar.family(
    "walker_mass",
    walker2d.ROBOT,
    walker2d.SCALE_SETTINGS,
    edit=physics_tasks.scale_masses,
    law=physics_tasks.SCALE_LAW,
    label=partial(physics_tasks.scale_label, "masses"),
    variants={"spc": {"law": physics_tasks.SPC_SCALE_LAW}},
)
