"""MuJoCo in JAX (MJX) behind the `Env` record: one task, one episode, for accelerators.

The counterpart of `mujoco_c.py`: the same model file, solver and number of simulation steps per
action, the same functions of the family, and a solver that starts without a warm start at every
action. A state is therefore positions and velocities, nothing else: all other fields of MJX's data
are constants of the compiled program, and a batch holds 18 numbers for each cheetah. The arrays of
the model are constants too, except those in which tasks differ.
"""

import contextlib
import copy

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
from ml_collections import ConfigDict

from metastar.envs.backends import physics
from metastar.envs.family import Body, Family
from metastar.envs.outcome import outcome
from metastar.envs.state import State
from metastar.errors import UserError
from metastar.types import Array, Env

with contextlib.redirect_stdout(None):  # else it prints there that NVIDIA's Warp is missing
    import mujoco.mjx as mjx  # where it is missing, this form says which module is
    from mujoco.mjx._src import collision_driver

# Under vmap MJX runs every line search to its limit, MuJoCo's default of 50, with which a step of
# the cheetah took four times as long. A search that is cut short costs Newton's method at most one
# more iteration, and no search was seen to need 10: in 40 000 steps the C engine evaluated 8 points
# at most (here an iteration evaluates 3), and in float64 a limit of 8 left 64 000 steps equal to
# the last bit.
LINE_SEARCH_ITERATIONS = 10
_PLANE_CAPSULE = (mujoco.mjtGeom.mjGEOM_PLANE, mujoco.mjtGeom.mjGEOM_CAPSULE)


def _along_capsules(collide):
    """MJX's contacts of planes and capsules, with the frames that the C engine gives them.

    The first tangent follows the capsule's axis. MJX does so unless the capsule is steeper than 60
    degrees, where it takes a fixed direction: the friction pyramid is turned, and the legs of an
    ant are pushed elsewhere, by 1e-2 in an action.
    """

    def along(model, data, key, geom):
        dist, pos, frame = collide(model, data, key, geom)
        normal, axis = frame[:, 0], jnp.repeat(data.geom_xmat[geom[:, 1]][..., 2], 2, 0)
        tangent = axis - normal * (normal * axis).sum(-1, keepdims=True)
        size = jnp.linalg.norm(tangent, axis=-1, keepdims=True)
        upright = size < mujoco.mjMINVAL
        tangent = jnp.where(upright, frame[:, 1], tangent / jnp.where(upright, 1.0, size))
        return dist, pos, jnp.stack([normal, tangent, jnp.cross(normal, tangent)], 1)

    along.ncon = collide.ncon
    return along


_functions = collision_driver._COLLISION_FUNC
_functions[_PLANE_CAPSULE] = _along_capsules(_functions[_PLANE_CAPSULE])


def make_env(family: Family, profile: str, cfg: ConfigDict) -> Env:
    """Builds the simulator of a family whose body has a model file.

    It computes in the precision that JAX has when this is called: float32, or float64 under
    `jax.enable_x64`.

    Args:
        family: the record; its body's `edit` changes a `mujoco.MjModel`.
        profile: of the observation.
        cfg: the config.

    Returns:
        An `Env` for one task and one episode. Its `prepare` runs on the host and gives the arrays
        of the model that differ, [N, ...] by path. A jitted function cannot raise, so where the C
        engine raises `Diverged` this `step` returns a NaN reward and a state and observation of
        NaNs: for an action that is not finite or not in [-1, 1], and from the moment that a
        position, velocity or acceleration leaves ±1e10 (the C engine's bound) or is not a number. A
        NaN never heals within an episode, and no data set or result accepts one.

    Raises:
        UserError: as `physics.load_model`; or MJX has no counterpart of something in the model.
    """
    body = family.body
    model = physics.load_model(body)
    rest = physics.rest_state(model)
    constants = _put_model(model, body)
    simulate = _simulator(model, constants, body)

    def prepare(tasks):
        if body.edit is None:
            return {}
        edited = physics.edited_models(model, body, tasks)
        return _differences(constants, [_put_model(own, body) for own in edited], body)

    def reset(noise, task, arrays):
        origin = rest._replace(qpos=arrays.get(".qpos0", rest.qpos))
        state = family.start(jnp, State(*map(jnp.asarray, noise)), origin, task)
        return state, family.observe(jnp, state, profile)

    def step(state, action, task, arrays):
        legal = (jnp.abs(action) <= 1).all()  # False for a NaN
        after = simulate(_nan_unless(legal, state), physics.control(model, jnp, action), arrays)
        # A sparse reward compares speeds, so a NaN in the state need not reach it.
        sound = jnp.isfinite(after.qpos).all()
        out = outcome(jnp, family, profile, state, after, action, task)
        return after, out._replace(reward=_nan_unless(sound, out.reward))

    return Env(family.specs[profile], body.draw_reset, reset, step, prepare=prepare)


def _simulator(model: mujoco.MjModel, constants: mjx.Model, body: Body):
    """Returns `(State, control [U], arrays) -> State`, `body.frame_skip` simulation steps later.

    `arrays` take the place of those of their paths in `constants`.
    """
    template = mjx.make_data(model, impl="jax")

    def simulate(state, control, arrays):
        own = _with(constants, arrays)

        def advance(_, carry):
            qpos, qvel, warm_start = carry
            data = template.replace(qpos=qpos, qvel=qvel, qacc_warmstart=warm_start, ctrl=control)
            with jax.numpy_rank_promotion("allow"):  # MJX needs it, whatever the caller's setting
                data = mjx.step(own, data)
            moved = data.qpos, data.qvel, data.qacc
            bounded = (jnp.abs(jnp.concatenate(moved)) <= mujoco.mjMAXVAL).all()
            return _nan_unless(bounded, moved)

        start = (*state, jnp.zeros_like(state.qvel))
        return State(*jax.lax.fori_loop(0, body.frame_skip, advance, start)[:2])

    return simulate


def _put_model(model: mujoco.MjModel, body: Body) -> mjx.Model:
    """Moves a model to the device with the solver, cone and tolerances that its file asks for.

    Raises:
        UserError: MJX does not implement something that the model uses.
    """
    model = copy.copy(model)
    model.opt.ls_iterations = min(model.opt.ls_iterations, LINE_SEARCH_ITERATIONS)
    try:
        if model.opt.noslip_iterations:
            raise NotImplementedError("noslip_iterations")  # MJX drops it without a word
        return mjx.put_model(model, impl="jax")
    except NotImplementedError as error:
        raise UserError(
            f"MJX cannot simulate {body.model}, since it does not support {error}; "
            "set simulator.backend to 'c'"
        ) from None


def _differences(constants: mjx.Model, edited: list[mjx.Model], body: Body) -> dict[str, Array]:
    """The arrays [N, ...], by path, in which any of N edited models differs from `constants`.

    Raises:
        UserError: they differ in what MJX compiles a program for, not in numbers.
    """
    if any(jax.tree.structure(own) != jax.tree.structure(constants) for own in edited):
        raise UserError(
            f"an edit of {body.model} changes what MJX compiles the model to; "
            "set simulator.backend to 'c'"
        )
    stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *edited)
    pairs = zip(jax.tree.leaves_with_path(stacked), jax.tree.leaves(constants))
    return {
        jax.tree_util.keystr(path): jnp.asarray(own)
        for (path, own), leaf in pairs
        if (own != np.asarray(leaf)).any()
    }


def _with(constants: mjx.Model, arrays: dict[str, Array]) -> mjx.Model:
    """The model with some of its arrays replaced, by path."""
    if not arrays:
        return constants
    return jax.tree.map_with_path(
        lambda path, leaf: arrays.get(jax.tree_util.keystr(path), leaf), constants
    )


def _nan_unless(condition, tree):
    """`tree` where a scalar condition holds, else NaN in every entry of every leaf."""
    return jax.tree.map(lambda x: jnp.where(condition, x, jnp.nan), tree)
