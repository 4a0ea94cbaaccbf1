"""Pictures of robots in their states: MuJoCo's renderer, or a plot of the plane for point robots.

MuJoCo is imported inside functions: at its first import it chooses the drawing library by the
environment variable MUJOCO_GL, which `find_family` has to set before that.
"""

import math
import os
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import NamedTuple

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Circle

from metastar.envs.family import Family
from metastar.envs.make import family_of
from metastar.errors import UserError

ROBOT_ASPECT = 9 / 14  # height of a picture of a simulated robot over its width
CAMERA = {"azimuth": 90.0, "elevation": -8.0}  # degrees; from the side
DISTANCE = 2.2  # metres of the camera, or more for what is tall
MARGIN = 0.1  # length units around everything that a plot of point robots shows
DPI = 100
BLUE, ORANGE, GREEN, GREY = "#2066a8", "#e07b24", "#2f9e6b", "#8c8c8c"


class Recording(NamedTuple):
    """One episode of one task, ready to be drawn."""

    title: str  # the task
    note: str  # what acted
    state: np.ndarray  # [T+1, P] qpos of a simulated robot, position of a point robot
    reward: np.ndarray  # [T]
    task: dict  # parameters of the task


def find_family(name: str, profile: str = "default") -> Family:
    """Finds a family that will be drawn; on Linux chooses EGL unless MUJOCO_GL says otherwise.

    Raises:
        UserError: there is no such family, or MuJoCo does not start with this MUJOCO_GL.
    """
    if sys.platform == "linux":
        os.environ.setdefault("MUJOCO_GL", "egl")
    try:
        return family_of(name, profile)
    except (AttributeError, ImportError, RuntimeError) as error:  # of MuJoCo without its library
        raise _no_renderer(error) from error


@contextmanager
def studio(family: Family, width: int) -> Iterator[Callable]:
    """Opens what draws a family, for as long as the context lasts.

    Args:
        family: from `find_family`.
        width: of a picture in pixels.

    Yields:
        `(recordings) -> painters`: for each `Recording` a function `(t) -> picture`, uint8
        [H, width, 3], of its state t; after the recording's end, of its last state.

    Raises:
        UserError: MuJoCo cannot draw on this machine; point robots need no MuJoCo.
    """
    if not family.body.model:
        yield partial(_point_painters, family, width)
        return
    import mujoco

    from metastar.envs.backends import physics

    model = physics.load_model(family.body)
    try:
        with warnings.catch_warnings(action="ignore"):  # GLFW warns before it fails
            renderer = mujoco.Renderer(model, round(width * ROBOT_ASPECT), width)
    except Exception as error:  # a back end that does not work raises anything
        raise _no_renderer(error) from error
    try:
        yield partial(_robot_painters, renderer, mujoco.MjData(model))
    finally:
        renderer.close()


def _robot_painters(renderer, data, recordings: Sequence[Recording]) -> list[Callable]:
    """See `studio`: a camera at the robot's side that moves with its torso."""
    import mujoco

    camera = mujoco.MjvCamera()
    camera.type = mujoco.mjtCamera.mjCAMERA_TRACKING
    camera.trackbodyid = 1  # 0 is the world
    camera.distance = _distance(renderer.model, data)
    for name, value in CAMERA.items():
        setattr(camera, name, value)

    def paint(recording, t):
        data.qpos[:] = recording.state[min(t, len(recording.reward))]
        mujoco.mj_forward(renderer.model, data)
        renderer.update_scene(data, camera)
        # Without an accelerator shadows and reflections take most of the time.
        renderer.scene.flags[mujoco.mjtRndFlag.mjRND_SHADOW] = False
        renderer.scene.flags[mujoco.mjtRndFlag.mjRND_REFLECTION] = False
        return renderer.render().copy()

    return [partial(paint, recording) for recording in recordings]


def _distance(model, data) -> float:
    """From where the camera, which looks at the centre of mass, has a robot at rest in view."""
    import mujoco

    mujoco.mj_forward(model, data)
    own = model.geom_bodyid > 0
    top = (data.geom_xpos[own, 2] + model.geom_rbound[own]).max() - data.subtree_com[1, 2]
    return max(DISTANCE, 1.2 * top / math.tan(math.radians(model.vis.global_.fovy) / 2))


def _point_painters(family: Family, width: int, recordings: Sequence[Recording]) -> list[Callable]:
    """See `studio`: path so far, start, robot and goal; all recordings on the same axes."""
    radius = family.goal_radius or 0.0
    goals = [family.goal and family.goal(recording.task) for recording in recordings]
    seen = [recording.state for recording in recordings]
    seen += [goal + radius * np.array([[-1.0], [1.0]]) for goal in goals if goal is not None]
    low, high = np.concatenate(seen).min(0), np.concatenate(seen).max(0)
    centre, reach = (low + high) / 2, (high - low).max() / 2 + MARGIN
    limits = np.stack([centre - reach, centre + reach], 1)

    def painter(recording, goal):
        figure = Figure(figsize=(width / DPI, width / DPI), dpi=DPI)
        canvas = FigureCanvasAgg(figure)
        axis = figure.add_axes((0.15, 0.1, 0.82, 0.85), xlim=limits[0], ylim=limits[1])
        axis.tick_params(labelsize=7)
        if goal is not None:
            axis.add_patch(Circle(goal, radius, color=GREEN, alpha=0.35, lw=0))
        axis.plot(*recording.state[0], "x", color=GREY, ms=6)
        (path,) = axis.plot([], [], color=BLUE, lw=1, animated=True)
        (robot,) = axis.plot([], [], "o", color=ORANGE, ms=6, animated=True)
        canvas.draw()
        background = canvas.copy_from_bbox(figure.bbox)  # drawn once: it takes most of the time

        def paint(t):
            t = min(t, len(recording.reward))
            path.set_data(*recording.state[: t + 1].T)
            robot.set_data(*recording.state[t : t + 1].T)
            canvas.restore_region(background)
            axis.draw_artist(path)
            axis.draw_artist(robot)
            return np.array(canvas.buffer_rgba())[..., :3]

        return paint

    return [painter(recording, goal) for recording, goal in zip(recordings, goals)]


def _no_renderer(error: Exception) -> UserError:
    reason = traceback.format_exception_only(error)[0].splitlines()[0]
    return UserError(
        f"MuJoCo cannot draw with MUJOCO_GL={os.environ.get('MUJOCO_GL', '')} ({reason}); install "
        "the system packages libegl1 and libgl1 for MUJOCO_GL=egl, or libosmesa6 for "
        "MUJOCO_GL=osmesa; `metastar doctor` tries each"
    )
