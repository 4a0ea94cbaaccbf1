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
    assert (model.jnt_qposadr[1:] == 7 + np.arange(model.njnt - 1)).all()
    mass = model.body_mass / model.body_mass.sum()
    crossed = np.cross(np.eye(3), model.jnt_axis[1:, None])  # [J, 3, 3]: u -> axis x u
    fixed = np.stack([_matrix(np, quat) for quat in model.body_quat])

    def center(xp, qpos):
        def constant(x):
            return xp.asarray(x, qpos.dtype).reshape(*np.shape(x), *[1] * (qpos.ndim - 1))

        # Axes of states come last, where long ones are fast. The turns of all hinges at once
        # (Rodrigues); only their products go along the tree.
        qpos = xp.moveaxis(qpos, -1, 0)
        angle = (qpos[7:] - constant(model.qpos0[7:]))[:, None, None]
        turns = constant(np.eye(3)[None]) + xp.sin(angle) * constant(crossed)
        turns = turns + (1 - xp.cos(angle)) * constant(crossed @ crossed)
        frames = [None, (qpos[:3], _matrix(xp, qpos[3:7]))]
        total = mass[1] * _moved(*frames[1], constant(model.body_ipos[1]))
        for b in range(2, model.nbody):
            place, turn = frames[model.body_parentid[b]]
            place = _moved(place, turn, constant(model.body_pos[b]))
            turn = _product(turn, constant(fixed[b]))
            start = model.body_jntadr[b]
            for j in range(start, start + model.body_jntnum[b]):
                anchor = constant(model.jnt_pos[j])
                place = _moved(place, turn, anchor)
                turn = _product(turn, turns[j - 1])
                place = _moved(place, turn, -anchor)
            frames.append((place, turn))
            total = total + mass[b] * _moved(place, turn, constant(model.body_ipos[b]))
        return xp.moveaxis(total, 0, -1)

    return center


def _matrix(xp, quat):
    """Rotation matrices [3, 3, ...] of quaternions [4, ...] of any length."""
    w, x, y, z = quat / xp.sqrt(xp.square(quat).sum(0, keepdims=True))
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    return xp.stack([xp.stack(row) for row in rows])


# Sums of products, since a matrix product on an accelerator may round to fewer digits.


def _product(a, b):
    """Products [3, 3, ...] of matrices."""
    return (a[:, :, None] * b[None]).sum(1)


def _moved(place, turn, vector):
    """Places [3, ...] after a way [3, ...] in turned axes [3, 3, ...]."""
    return place + (turn * vector[None]).sum(1)
