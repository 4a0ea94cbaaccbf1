"""Humanoid-Dir: run in an unknown direction.

Sources: PEARL's reward (Rakelly et al. 2019, arXiv 1903.08254), which FOCAL, IDAQ, CSRO and ER-TRL
share. They observe 376 numbers, all of which but the last motor forces follow from the 45 here.
"""

from metastar.config.fields import Field
from metastar.envs import direction_tasks
from metastar.envs.bodies import humanoid, legged
from metastar.envs.family import Family
from metastar.types import EnvSpec

DEFAULTS = {
    "discount": Field(0.99, "[0, 1)", "of returns, as the reference has it"),
    "profile": Field(
        "default", ("default", "gym_solver"), "which solver the engine uses: docs/families.md"
    ),
}
DATA = legged.data(train=20, test=10, falls=True, **legged.HOPPER_LEARNERS)
UPDATES = legged.UPDATES
LIKE = "ant_dir"

# The code bases divide the way in an action by the time of one of its five simulation steps, and
# weigh that by 0.25: 1.25 times the mean velocity.
SPEED_WEIGHT = 1.25
SURVIVAL = 5.0  # reward of a step
CONTROL_COST = 0.1  # times |c|^2, c the control, 0.4 of the action


def reward(xp, before, after, action, task):
    """`1.25 (v cos θ + w sin θ) - 0.1 |0.4 a|^2 + 5`: [...] of states.

    (v, w) is the velocity of the centre of mass in m/s. The contact cost of the code bases is left
    out: in their simulators it is 0, since contact forces were never computed.
    """
    speed = direction_tasks.along(xp, humanoid.velocity(xp, before, after), task)
    cost = CONTROL_COST * humanoid.MOTOR_RANGE**2 * xp.square(action).sum(-1)
    return SPEED_WEIGHT * speed - cost + SURVIVAL


SPEC = EnvSpec(
    "humanoid_dir", humanoid.NUM_OBS, humanoid.NUM_MOTORS, legged.STEPS, done_ends_episode=True
)
FAMILY = Family(
    name=SPEC.name,
    specs={"default": SPEC, "gym_solver": SPEC},
    law=direction_tasks.LAW,
    label=direction_tasks.label,
    start=humanoid.start,
    observe=humanoid.observe,
    reward=reward,
    body=humanoid.BODY,
    done=humanoid.fallen,
    variants={"gym_solver": {"body": humanoid.FILE_BODY}},
)
