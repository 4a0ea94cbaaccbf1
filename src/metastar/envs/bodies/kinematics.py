"""Where a robot's centre of mass is: forward kinematics in NumPy and in `jax.numpy`.

A family's functions see positions and velocities only, so that both back ends run the same ones. A
family that is paid for the motion of the whole robot needs more, and gets it here.
"""

from collections.abc import Callable

import mujoco
import numpy as np


def center_of_mass(model: mujoco.MjModel) -> Callable:
    """Returns `(xp, qpos [..., P]) -> [..., 3]`, the centre of mass in metres.

    For robots of one tree of bodies whose joints are a free one at the root and hinges.
    """
    free, hinge = mujoco.mjtJoint.mjJNT_FREE, mujoco.mjtJoint.mjJNT_HINGE
    assert model.jnt_type[0] == free and (model.jnt_type[1:] == hinge).all()
    mass = model.body_mass / model.body_mass.sum()

    def center(xp, qpos):
        root = xp.asarray(qpos[..., 3:7])
        root = root / xp.linalg.norm(root, axis=-1, keepdims=True)
        frames = [None, (qpos[..., :3], root)]
        total = mass[1] * _moved(xp, *frames[1], model.body_ipos[1])
        for b in range(2, model.nbody):
            place, turn = frames[model.body_parentid[b]]
            place = _moved(xp, place, turn, model.body_pos[b])
            turn = _product(xp, turn, xp.asarray(model.body_quat[b], turn.dtype))
            start = model.body_jntadr[b]
            for j in range(start, start + model.body_jntnum[b]):
                anchor = _moved(xp, place, turn, model.jnt_pos[j])
                address = model.jnt_qposadr[j]
                angle = qpos[..., address] - model.qpos0[address]
                turn = _product(xp, turn, _rotation(xp, model.jnt_axis[j], angle))
                place = anchor - _rotated(xp, turn, model.jnt_pos[j])
            frames.append((place, turn))
            total = total + mass[b] * _moved(xp, place, turn, model.body_ipos[b])
        return total

    return center


def _rotation(xp, axis: np.ndarray, angle):
    """Unit quaternions [..., 4] of turns by angles [...] around a unit axis [3]."""
    half = angle / 2
    return xp.stack([xp.cos(half), *(float(a) * xp.sin(half) for a in axis)], -1)


def _product(xp, a, b):
    """Products [..., 4] of quaternions."""
    aw, ax, ay, az = (a[..., i] for i in range(4))
    bw, bx, by, bz = (b[..., i] for i in range(4))
    parts = [
        aw * bw - ax * bx - ay * by - az * bz,
        aw * bx + ax * bw + ay * bz - az * by,
        aw * by - ax * bz + ay * bw + az * bx,
        aw * bz + ax * by - ay * bx + az * bw,
    ]
    return xp.stack(parts, -1)


def _rotated(xp, turn, vector: np.ndarray):
    """A vector [3], turned by unit quaternions [..., 4]: [..., 3]."""
    w, x, y, z = (turn[..., i] for i in range(4))
    a, b, c = map(float, vector)
    parts = [
        (1 - 2 * (y * y + z * z)) * a + 2 * (x * y - w * z) * b + 2 * (x * z + w * y) * c,
        2 * (x * y + w * z) * a + (1 - 2 * (x * x + z * z)) * b + 2 * (y * z - w * x) * c,
        2 * (x * z - w * y) * a + 2 * (y * z + w * x) * b + (1 - 2 * (x * x + y * y)) * c,
    ]
    return xp.stack(parts, -1)


def _moved(xp, place, turn, vector: np.ndarray):
    return place + _rotated(xp, turn, vector)
