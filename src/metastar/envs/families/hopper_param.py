"""Hopper-Param: hop with unknown masses, inertias, damping and friction, 41 scales.

Sources: `default` and `reference` are `HopperRandParams-v0` of the MetaSTAR reference code (arXiv
2606.00780), which CORRO and UNICORN share; `csro` the hopper of CSRO. All are after rllab's random
parameters and PEARL (Rakelly et al. 2019, arXiv 1903.08254).
"""

from metastar.config.fields import Field
from metastar.envs import physics_tasks
from metastar.envs.bodies import hopper, legged, planar

DEFAULTS = {
    "discount": Field(0.99, "[0, 1)", "of returns, as the reference has it"),
    "profile": Field(
        "default",
        ("default", "reference", "csro"),
        "what is observed and paid, what ends an episode: docs/families.md",
    ),
}
DATA = legged.data(train=30, test=10, **legged.HOPPER_LEARNERS | legged.SLOW_TD3)
UPDATES = legged.UPDATES
LIKE = "hopper_mass"

FAMILY = planar.family(
    "hopper_param",
    hopper.ROBOT,
    {**hopper.PARAM_SETTINGS, "csro": hopper.CSRO},
    edit=physics_tasks.scale_entries,
    law=physics_tasks.HOPPER_LAW,
    label=physics_tasks.entries_label,
)
