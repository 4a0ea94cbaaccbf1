"""Ant-Dir: run in an unknown direction.

Sources: `default` is `AntDir-v0` of the MetaSTAR reference code (arXiv 2606.00780), which CORRO and
UNICORN share; `er_trl` the `ant-dir` of ER-TRL, whose reward is PEARL's (Rakelly et al. 2019, arXiv
1903.08254); `spc` that of SPC, on gymnasium's Ant-v5; `meta_dt` that of Meta-DT.
"""

from metastar.config.fields import Field
from metastar.envs import direction_tasks
from metastar.envs.bodies import ant, legged
from metastar.envs.family import Family

DEFAULTS = {
    "discount": Field(0.99, "[0, 1)", "of returns, as the reference has it"),
    "profile": Field(
        "default",
        ("default", "er_trl", "spc", "meta_dt"),
        "what is paid, what ends an episode, which split: docs/families.md",
    ),
}
DATA = legged.data(train=20, test=10, **legged.ANT_LEARNERS)
UPDATES = legged.UPDATES
LIKE = "cheetah_vel"

SURVIVAL = 1.0  # reward of a step
CONTROL_COST = 0.5  # times |a|^2


def speed(xp, before, after, action, task):
    """`v cos θ + w sin θ`: [...] of states, (v, w) the torso's velocity in m/s."""
    return direction_tasks.along(xp, ant.velocity(before, after), task)


def full_reward(xp, before, after, action, task):
    """The speed in the task's direction, minus `0.5 |a|^2`, plus 1.

    The contact cost of these code bases is left out: in their simulators it is 0, since contact
    forces were never computed (docs/families.md).
    """
    cost = CONTROL_COST * xp.square(action).sum(-1)
    return speed(xp, before, after, action, task) - cost + SURVIVAL


def spc_reward(xp, before, after, action, task):
    """As `full_reward`, but the 1 is not paid for the step that ends an episode (Ant-v5)."""
    paid = full_reward(xp, before, after, action, task)
    return paid - xp.where(ant.healthy(xp, after), 0.0, SURVIVAL)


def fallen(xp, before, after, action, task):
    """Whether the torso has left 0.2 to 1 m: [...] bool."""
    return ~ant.healthy(xp, after)


NAME = "ant_dir"
FAMILY = Family(
    name=NAME,
    specs={
        "default": ant.spec(NAME, place=False),
        "er_trl": ant.spec(NAME, place=False, ends=True),
        "spc": ant.spec(NAME, place=False, ends=True),
        "meta_dt": ant.spec(NAME, place=False),
    },
    law=direction_tasks.LAW,
    label=direction_tasks.label,
    start=ant.start,
    observe=ant.observe,
    reward=speed,
    body=ant.BODY,
    variants={
        "er_trl": {"reward": full_reward, "done": fallen},
        "spc": {"reward": spc_reward, "done": fallen, "law": direction_tasks.SPC_LAW},
        "meta_dt": {"reward": full_reward},
    },
)
