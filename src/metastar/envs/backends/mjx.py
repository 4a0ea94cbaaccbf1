"""MuJoCo in JAX (MJX) behind the `Env` record: one task, one episode, for accelerators.

The twin of `mujoco_c.py`: the same model file, solver and number of simulation steps per action,
the same functions of the family, and a solver that starts cold at every action. A state is
therefore positions and velocities, nothing else: all other fields of MJX's data are constants of
the compiled program, and a batch holds 18 numbers for each cheetah.
"""

import contextlib
import copy

import jax
import jax.numpy as jnp
import mujoco
from ml_collections import ConfigDict

from metastar.envs.backends import physics
from metastar.envs.state import State
from metastar.errors import UserError
from metastar.types import Env, EnvSpec, StepOut

with contextlib.redirect_stdout(None):  # else it prints there that NVIDIA's Warp is missing
    from mujoco import mjx

# Under vmap MJX runs every line search to its cap, MuJoCo's default of 50, which made a step of the
# cheetah take four times as long. A search that is cut short costs Newton's method no more than an
# iteration, and none needs as many: in 40 000 steps the C engine evaluated 8 points at most (here
# an iteration evaluates 3), and in float64 a cap of 8 left 64 000 steps equal to the last bit.
LINE_SEARCH_ITERATIONS = 10


def make_env(family, spec: EnvSpec, cfg: ConfigDict) -> Env:
    """Builds the simulator of a family that has a `BODY`.

    It computes in the precision that JAX has when this is called: float32, or float64 under
    `jax.enable_x64`.

    Args:
        family: the module.
        spec: sizes, of the profile `cfg.env.profile`.
        cfg: the config.

    Returns:
        An `Env` for one task and one episode. A jitted function cannot raise, so where the C engine
        raises `Diverged` this `step` returns a NaN reward and a state and observation of NaNs: for
        an action that is not finite or not in [-1, 1], and from the moment that a position,
        velocity or acceleration leaves ±1e10 (the C engine's bound) or is not a number. A NaN never
        heals within an episode, and no data set or result accepts one.

    Raises:
        UserError: as `physics.load_model`; or MJX has no counterpart of something in the model.
    """
    body, profile = family.BODY, cfg.env.profile
    model = physics.load_model(body)
    rest = physics.rest_state(model)
    simulate = _simulator(model, body)

    def reset(noise, task):
        state = body.start(jnp, State(*map(jnp.asarray, noise)), rest, task)
        return state, body.observe(jnp, state, profile)

    def step(state, action, task):
        legal = (jnp.abs(action) <= 1).all()  # False for a NaN
        after = simulate(_nan_unless(legal, state), physics.control(model, jnp, action))
        # A sparse reward compares speeds, so a NaN in the state need not reach it.
        sound = jnp.isfinite(after.qpos).all()
        out = StepOut(
            obs=body.observe(jnp, after, profile),
            reward=_nan_unless(sound, family.reward(jnp, state, after, action, task)),
            done=family.done(jnp, state, after, action, task),
        )
        return after, out

    return Env(spec, body.draw_reset, reset, step)


def _simulator(model: mujoco.MjModel, body):
    """Returns `(State, control [U]) -> State`, `body.FRAME_SKIP` simulation steps later."""
    constants = _put_model(model, body.MODEL)
    template = mjx.make_data(model, impl="jax")

    def simulate(state, control):
        def advance(_, carry):
            qpos, qvel, warm_start = carry
            data = template.replace(qpos=qpos, qvel=qvel, qacc_warmstart=warm_start, ctrl=control)
            with jax.numpy_rank_promotion("allow"):  # MJX needs it, whatever the caller's setting
                data = mjx.step(constants, data)
            moved = data.qpos, data.qvel, data.qacc
            bounded = (jnp.abs(jnp.concatenate(moved)) <= mujoco.mjMAXVAL).all()
            return _nan_unless(bounded, moved)

        start = (*state, jnp.zeros_like(state.qvel))
        return State(*jax.lax.fori_loop(0, body.FRAME_SKIP, advance, start)[:2])

    return simulate


def _put_model(model: mujoco.MjModel, name: str) -> mjx.Model:
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
            f"MJX cannot simulate {name}, since it does not support {error}; "
            "set simulator.backend to 'c'"
        ) from None


def _nan_unless(condition, tree):
    """`tree` where a scalar condition holds, else NaN in every entry of every leaf."""
    return jax.tree.map(lambda x: jnp.where(condition, x, jnp.nan), tree)
