"""What the MuJoCo back ends share: a state as positions and velocities, and the model files.

A family of a simulated robot is a file of `envs/families` with a `BODY`, a module such as
`envs/bodies/half_cheetah.py` that names the model file and says how an episode starts and what is
seen; the family itself draws tasks and pays rewards. Both are functions of `(xp, ...)`, so that the
C engine and MJX run the very same definition.
"""

import importlib.util
from pathlib import Path

import mujoco
import numpy as np

from metastar.envs.state import State
from metastar.errors import UserError


def load_model(body) -> mujoco.MjModel:
    """Compiles the model of a body from the files inside the installed gymnasium package.

    Raises:
        UserError: gymnasium or the file is missing, or its time step is not the body's.
    """
    package = importlib.util.find_spec("gymnasium")
    if package is None or package.origin is None:
        raise UserError("the robots' model files come with gymnasium, which is not installed")
    file = Path(package.origin).parent / "envs/mujoco/assets" / body.MODEL
    if not file.is_file():
        raise UserError(
            f"the installed gymnasium has no model file {body.MODEL!r}; "
            "install the version that requirements.lock names"
        )
    mujoco.set_mju_user_warning(_ignore)  # else it writes a log file into the working directory
    model = mujoco.MjModel.from_xml_path(str(file))
    if not np.isclose(model.opt.timestep * body.FRAME_SKIP, body.DT):
        raise UserError(
            f"{body.MODEL} has a time step of {model.opt.timestep} s, which {body.FRAME_SKIP} "
            f"times does not make {body.DT} s; install the gymnasium that requirements.lock names"
        )
    return model


def rest_state(model: mujoco.MjModel) -> State:
    """The model's own initial state: positions `qpos0`, no velocity."""
    return State(model.qpos0.copy(), np.zeros(model.nv))


def control(model: mujoco.MjModel, xp, action):
    """Maps actions in [-1, 1] to the range of each motor."""
    low, high = model.actuator_ctrlrange.T
    if np.all(low == -1) and np.all(high == 1):
        return action
    return xp.asarray((low + high) / 2) + xp.asarray((high - low) / 2) * action


def _ignore(message: str) -> None:
    """Divergence is detected from the states and reported with task and step."""
