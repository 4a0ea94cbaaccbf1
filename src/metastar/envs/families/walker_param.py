"""Walker-Param: walk with unknown masses and friction, 32 scales.

Sources: `default` and `reference` are `WalkerRandParams-v0` of the MetaSTAR reference code (arXiv
2606.00780), which CORRO and UNICORN share; `focal` the walker of FOCAL and CSRO, where inertias and
damping vary, too. All are after rllab's random parameters and PEARL (Rakelly et al. 2019, arXiv
1903.08254).
"""

from metastar.config.fields import Field
from metastar.envs import physics_tasks
from metastar.envs.bodies import legged, planar, walker2d

DEFAULTS = {
    "discount": Field(0.99, "[0, 1)", "of returns, as the reference has it"),
    "profile": Field(
        "default",
        ("default", "reference", "focal"),
        "what varies, is observed and ends an episode: docs/families.md",
    ),
}
DATA = legged.data(train=30, test=10, falls=True, **legged.WALKER_LEARNERS)
UPDATES = legged.UPDATES
LIKE = "cheetah_vel"

FAMILY = planar.family(
    "walker_param",
    walker2d.ROBOT,
    {**walker2d.PARAM_SETTINGS, "focal": walker2d.FOCAL},
    edit=physics_tasks.scale_entries,
    law=physics_tasks.WALKER_LAW,
    label=physics_tasks.entries_label,
    variants={"focal": {"law": physics_tasks.FOCAL_WALKER_LAW}},
)
