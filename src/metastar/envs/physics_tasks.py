"""Tasks that differ in a robot's physics: scales of one quantity, and of every entry of several.

An edit changes a compiled `mujoco.MjModel`; the back end then renews what MuJoCo derives from it.
"""

from collections.abc import Callable, Mapping
from functools import partial

import numpy as np

from metastar.envs import numbered_tasks
from metastar.envs.intervals import draw

# One scale for a whole quantity: ER-TRL's and SPC's Hopper-Mass and the like.

SCALE_BASE, SCALE_EXPONENT = 1.5, 2.0  # scales 1.5^u, u from -2 to 2: 0.444 to 2.25


def draw_scales(rng: np.random.Generator, num: int) -> dict[str, np.ndarray]:
    """Draws `num` scales 1.5^u, u uniform on [-2, 2]: `{"scale": float64 [num]}`."""
    return {"scale": SCALE_BASE ** rng.uniform(-SCALE_EXPONENT, SCALE_EXPONENT, num)}


def numbered_scales(ids: np.ndarray) -> dict[str, np.ndarray]:
    """The scales 1.5^u of numbers k: u = -2 + 4k/39, the 40 points of ER-TRL and SPC."""
    place = ids / (numbered_tasks.NUM - 1)
    return {"scale": SCALE_BASE ** (SCALE_EXPONENT * (2 * place - 1))}


SCALE_LAW = {"own": draw_scales} | numbered_tasks.laws(numbered_scales, numbered_tasks.ER_TRL)
SPC_SCALE_LAW = {"own": draw_scales} | numbered_tasks.laws(numbered_scales, numbered_tasks.SPC)


def scale_label(quantity: str, task) -> tuple[str, np.ndarray]:
    """The number of a task that plots show."""
    return f"scale of {quantity}", np.asarray(task["scale"])


def scale_masses(model, task):
    """Every mass and inertia times the scale: the robot in another, uniform material."""
    model.body_mass[:] *= task["scale"]
    model.body_inertia[:] *= task["scale"]
    return model


def scale_friction(model, task):
    """Every friction of every geom times the scale, the floor's included."""
    model.geom_friction[:] *= task["scale"]
    return model


# A scale for every entry of several quantities: rllab's random parameters (PEARL), "param".

BASES = {"mass": 1.5, "inertia": 1.5, "damping": 1.3, "friction": 1.5}
ARRAYS = {
    "mass": "body_mass",
    "inertia": "body_inertia",
    "damping": "dof_damping",
    "friction": "geom_friction",
}
# Scales are base^u with u uniform on [-3, 3], one u for every entry ("own"). The splits are ours:
# square rings around the unscaled robot, in u of every entry.
OWN = [(-3.0, 3.0)]
SPLITS = {
    "id": [(-3.0, -1.0), (1.0, 3.0)],
    "ood_moderate": [(-1.0, 1.0)],
    "ood_extreme": [(-4.0, -3.3), (3.3, 4.0)],
}


def entry_laws(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Callable]:
    """Laws of tasks `{quantity: float64 [num, *shape]}`, scales of every entry of an array.

    Args:
        shapes: of the arrays of the model by quantity, of `ARRAYS`, in the order of drawing.
    """
    named = {"own": OWN} | SPLITS
    return {name: partial(_draw_entries, shapes, parts) for name, parts in named.items()}


def _draw_entries(shapes, parts, rng: np.random.Generator, num: int) -> dict[str, np.ndarray]:
    return {
        name: BASES[name] ** draw(rng, num * int(np.prod(shape)), parts).reshape(num, *shape)
        for name, shape in shapes.items()
    }


# Entries of the model, the world and the floor first; a mass of the world is 0 and stays so.
HOPPER_LAW = entry_laws({"mass": (5,), "inertia": (5, 3), "damping": (6,), "friction": (5, 3)})
WALKER_LAW = entry_laws({"mass": (8,), "friction": (8, 3)})
FOCAL_WALKER_LAW = entry_laws(
    {"mass": (8,), "inertia": (8, 3), "damping": (9,), "friction": (8, 3)}
)


def scale_entries(model, task):
    """Every entry of the task's quantities times its own scale.

    Masses and inertias vary apart, as in rllab, so that no rigid body need have them: the compiled
    model is edited, since the compiler refuses such inertias.
    """
    for name, scales in task.items():
        getattr(model, ARRAYS[name])[:] *= scales
    return model


def entries_label(tasks) -> tuple[str, np.ndarray]:
    """The number of a task that plots show: by how much friction is scaled on (geometric) average.

    Of that the first number of every geom, which acts on sliding.
    """
    sliding = np.asarray(tasks["friction"])[..., 0]
    return "mean scale of friction", np.exp(np.log(sliding).mean(-1))


TARGET_SPEED, TOLERANCE = 1.5, 0.5  # m/s, of the sparse variants


def near_target(xp, speed):
    """`0.8 - d` if `d = |v - 1.5| <= 0.5`, else 0: [...] of speeds in m/s, in all tasks alike."""
    distance = xp.abs(speed - TARGET_SPEED)
    return xp.where(distance <= TOLERANCE, 0.8 - distance, 0.0)
