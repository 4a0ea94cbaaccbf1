"""What the MuJoCo back ends share: a state as positions and velocities, and the model files.

A family of a simulated robot has a `Body` with the name of a model file, such as that of
`envs/bodies/half_cheetah.py`. It is written as functions of `(xp, ...)`, so that the C engine and
MJX run the very same definition.
"""

import copy
import importlib.util
from pathlib import Path

import jax
import mujoco
import numpy as np

from metastar.envs.family import Body
from metastar.envs.state import State
from metastar.errors import UserError


def load_model(body: Body) -> mujoco.MjModel:
    """Compiles the model of a body: its file, or the one of that name in the gymnasium package.

    Raises:
        UserError: gymnasium or the file is missing, or its time step is not the body's.
    """
    file = Path(body.model)
    if not file.is_absolute():
        file = _of_gymnasium(body.model)
    elif not file.is_file():
        raise UserError(f"there is no model file {body.model!r}; restore it")
    mujoco.set_mju_user_warning(_ignore)  # else it writes a log file into the working directory
    model = mujoco.MjModel.from_xml_path(str(file))
    for name, value in body.options.items():
        setattr(model.opt, name, value)
    if not np.isclose(model.opt.timestep * body.frame_skip, body.dt):
        raise UserError(
            f"{body.model} has a time step of {model.opt.timestep} s, which {body.frame_skip} "
            f"times does not make {body.dt} s; install the gymnasium that requirements.lock names"
        )
    return model


def edited_models(model: mujoco.MjModel, body: Body, tasks) -> list[mujoco.MjModel]:
    """A copy of the model for each task, with the edit of the body that has one.

    `mj_setConst` then renews what MuJoCo derives from masses and lengths when it compiles: inverse
    weights of bodies and joints above all, which say how stiff contacts and limits are.

    Args:
        model: not changed.
        body: with an `edit`.
        tasks: task parameters, leaves [N, ...].

    Raises:
        UserError: an edit leaves a body without mass or inertia, or makes a damping or a friction
            negative, or any of these infinite or NaN.
    """
    tasks = jax.tree.map(np.asarray, tasks)
    models = []
    for i in range(len(jax.tree.leaves(tasks)[0])):
        own = body.edit(copy.copy(model), jax.tree.map(lambda x, i=i: x[i], tasks))
        _check_edit(model, own, body, i)
        mujoco.mj_setConst(own, mujoco.MjData(own))
        models.append(own)
    return models


# What a body can bear: arrays of a model, what they are, and of what; where the body's own number
# is above 0 the first two must stay so, since MuJoCo divides by them.
_LIMITS = {
    "body_mass": ("mass", "body", "positive"),
    "body_inertia": ("inertia", "body", "positive"),
    "dof_damping": ("damping", "degree of freedom", "at least 0"),
    "geom_friction": ("friction", "geom", "at least 0"),
}


def _check_edit(model: mujoco.MjModel, own: mujoco.MjModel, body: Body, task: int) -> None:
    """Raises `UserError` for the first number of a task's model that no robot can have."""
    for array, (quantity, kind, law) in _LIMITS.items():
        new, old = getattr(own, array), getattr(model, array)
        low = (old > 0) & (new <= 0) if law == "positive" else new < 0
        wrong = low | ~np.isfinite(new)
        if wrong.any():
            place = tuple(np.argwhere(wrong)[0])
            raise UserError(
                f"task {task} of the batch gives {kind} {place[0]} of {body.model} {quantity} "
                f"{new[place]:g}, which must be {law} and finite; correct its task parameters"
            )


def rest_state(model: mujoco.MjModel) -> State:
    """The model's own initial state: positions `qpos0`, no velocity."""
    return State(model.qpos0.copy(), np.zeros(model.nv))


def control(model: mujoco.MjModel, xp, action):
    """Maps actions [..., A] in [-1, 1] to the control range of each motor, [..., A]."""
    low, high = model.actuator_ctrlrange.T
    if np.all(low == -1) and np.all(high == 1):
        return action
    return xp.asarray((low + high) / 2) + xp.asarray((high - low) / 2) * action


def _of_gymnasium(name: str) -> Path:
    """A model file inside the installed gymnasium package."""
    package = importlib.util.find_spec("gymnasium")
    if package is None or package.origin is None:
        raise UserError(
            "the robots' model files come with gymnasium, which is not installed; "
            "run `pip install gymnasium`"
        )
    file = Path(package.origin).parent / "envs/mujoco/assets" / name
    if not file.is_file():
        raise UserError(
            f"the installed gymnasium has no model file {name!r}; "
            "install the version that requirements.lock names"
        )
    return file


def _ignore(message: str) -> None:
    """Drops MuJoCo's warnings: divergence is detected from states and reported with its step."""
