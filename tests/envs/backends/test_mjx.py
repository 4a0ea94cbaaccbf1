"""MJX against MuJoCo's C engine on the cheetah: the same numbers, up to rounding and chaos.

Full-range random actions make the cheetah chaotic: on the C engine itself a change of 1e-7 in a
start grows to order 1 within 22 actions. So float32 is compared action by action, each from the C
engine's own state, and over 50 actions where these are gentle; float64 over 50 actions of any size.
"""

import subprocess
import sys
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import make_config
from metastar.envs.backends import mjx, mujoco_c, physics
from metastar.envs.bodies import half_cheetah
from metastar.envs.families import cheetah_dir, cheetah_vel, cheetah_vel_sparse
from metastar.envs.make import make_env
from metastar.envs.rollout import make_rollout, no_adaptation, uniform_policy
from metastar.envs.state import State
from metastar.errors import Diverged, UserError

BATCH = 16
TASKS = {
    "velocity": np.linspace(0, 3, BATCH),
    "direction": np.where(np.arange(BATCH) % 2, -1.0, 1.0),
}
FAMILIES = (cheetah_vel.FAMILY, cheetah_vel_sparse.FAMILY, cheetah_dir.FAMILY)
# Pays the rewards of all three families, so that one compilation serves them all.
EVERY_FAMILY = FAMILIES[0]._replace(
    done=lambda xp, before, *rest: xp.zeros_like(before.qpos[..., 0], bool),
    reward=lambda xp, *transition: xp.stack([f.reward(xp, *transition) for f in FAMILIES], -1),
)


def build(backend):
    return backend.make_env(EVERY_FAMILY, "reference", make_config.base(family="cheetah_vel"))


@pytest.fixture(scope="module")
def float32():
    """The simulator, its compiled batch step, and a list that grows with every trace."""
    traces, env = [], build(mjx)

    def step(state, action, task):
        traces.append(1)
        return env.step(state, action, task, env.prepare(task))

    return env, jax.jit(jax.vmap(step)), traces


def start(env, noise_scale):
    """Reset noise of the scale's ±0.1, and the states and observations of a batch on `env`."""
    noise = jax.vmap(env.draw_reset)(jax.random.split(jax.random.key(0), BATCH))
    noise = jax.tree.map(lambda x: noise_scale * x, noise)
    return jax.tree.map(np.asarray, noise), *jax.vmap(env.reset)(noise, TASKS, {})


def actions(scale, num=50):
    real = jnp.zeros(()).dtype
    return scale * np.random.default_rng(0).uniform(-1, 1, (num, BATCH, 6)).astype(real)


def worst(ours, theirs):
    return np.abs(np.array(ours, float) - np.array(theirs, float)).max()


@pytest.mark.parametrize("profile", ["default", "reference"])
@pytest.mark.parametrize("family", FAMILIES)
def test_both_engines_reset_alike(family, profile):
    cfg, spec = make_config.base(family="cheetah_vel"), family.specs[profile]
    noise, state, obs = start(mjx.make_env(family, profile, cfg), 1.0)
    batch, expected = mujoco_c.make_env(family, profile, cfg).reset(noise, TASKS, ())
    assert obs.shape == (BATCH, spec.obs_dim) and obs.dtype == jnp.float32
    np.testing.assert_allclose(obs, expected, atol=1e-6)
    np.testing.assert_allclose(state.qpos, batch.qpos, atol=1e-6)
    np.testing.assert_allclose(state.qvel, batch.qvel, atol=1e-6)


@pytest.mark.slow
def test_float32_agrees_with_the_c_engine_action_by_action(float32):
    env, step, _ = float32
    host = build(mujoco_c)
    noise, state, _ = start(env, 0.05)
    batch, _ = host.reset(noise, TASKS, ())
    for action in actions(1.0):
        batch, theirs = host.step(batch, action, TASKS, ())
        moved, ours = step(state, action, TASKS)
        # Measured: 5e-6 in positions, 7e-6 in rewards, 7e-4 in velocities of up to 20 rad/s.
        assert worst(moved.qpos, batch.qpos) < 3e-5
        assert worst(ours.reward, theirs.reward) < 5e-5
        assert worst(ours.obs, theirs.obs) < 5e-3
        assert not ours.done.any() and ours.done.dtype == bool
        state = State(*(jnp.asarray(x, jnp.float32) for x in (batch.qpos, batch.qvel)))
        batch = batch._replace(qpos=np.array(state.qpos, float), qvel=np.array(state.qvel, float))


@pytest.mark.slow
def test_float32_agrees_over_50_gentle_actions(float32):
    env, step, _ = float32
    host = build(mujoco_c)
    noise, state, _ = start(env, 0.05)
    batch, _ = host.reset(noise, TASKS, ())
    for action in actions(0.1):
        batch, theirs = host.step(batch, action, TASKS, ())
        state, ours = step(state, action, TASKS)
        assert worst(ours.reward, theirs.reward) < 3e-5  # measured: 7e-6
    assert worst(state.qpos, batch.qpos) < 1e-5  # measured: 1.4e-6


@pytest.mark.slow
def test_float64_agrees_over_50_actions_of_any_size(x64):
    env, host = build(mjx), build(mujoco_c)
    noise, state, _ = start(env, 0.05)
    batch, _ = host.reset(noise, TASKS, ())
    step, errors = jax.jit(jax.vmap(partial(env.step, arrays={}))), []
    for action in actions(1.0):
        batch, theirs = host.step(batch, action, TASKS, ())
        state, ours = step(state, action, TASKS)
        errors.append(max(worst(ours.obs, theirs.obs), worst(ours.reward, theirs.reward)))
    assert ours.obs.dtype == ours.reward.dtype == jnp.float64
    # Measured: 3e-15, 7e-11, 2e-5.
    assert errors[0] < 1e-12 and errors[9] < 1e-8 and errors[49] < 1e-3


@pytest.mark.slow
def test_a_step_that_breaks_down_is_nan_and_stays_so(float32):
    env, step, traces = float32
    host = build(mujoco_c)
    noise, state, _ = start(env, 1.0)
    action = actions(1.0, 1)[0]
    _, sound = step(state, action, TASKS)
    assert np.isfinite(sound.obs).all() and np.isfinite(sound.reward).all()

    bad_action, bad_qvel = action.copy(), np.array(state.qvel)
    bad_action[1, 2], bad_action[2, 0], bad_qvel[3, 0] = np.nan, 1.5, 1e11
    bad = np.array([1, 2, 3])
    after, out = step(state._replace(qvel=bad_qvel), bad_action, TASKS)
    after, later = step(after, action, TASKS)
    for result in (out, later):
        assert np.isnan(result.reward[bad]).all()  # also where a sparse reward compares with NaN
        assert np.isnan(result.obs[bad, :17]).all()
    others = np.delete(np.arange(BATCH), bad)
    np.testing.assert_array_equal(out.obs[others], sound.obs[others])
    np.testing.assert_array_equal(out.reward[others], sound.reward[others])
    assert np.isfinite(later.reward[others]).all()
    assert len(traces) == 1

    batch, _ = host.reset(noise, TASKS, ())  # the C engine refuses the same three
    for row in bad:
        one = np.arange(BATCH) == row
        with pytest.raises(Diverged) as error:
            host.step(
                batch._replace(qvel=np.where(one[:, None], bad_qvel, batch.qvel)),
                np.where(one[:, None], bad_action, action),
                TASKS,
                (),
            )
        assert error.value.stream == row


@pytest.mark.slow
def test_a_rollout_plays_the_same_episodes_on_both_engines():
    tasks = {"velocity": np.array([0.5, 2.0])}
    played = []
    for backend in ("mjx", "c"):
        cfg = make_config.base(family="cheetah_vel", simulator__backend=backend)
        env = make_env(cfg)
        env = env._replace(spec=env.spec._replace(max_episode_steps=5))
        run = make_rollout(env, uniform_policy(6), episodes=2, greedy=False)
        played.append(run(None, no_adaptation(2, 3), tasks, jax.random.key(0)))
    ours, theirs = played
    assert ours.obs.shape == (2, 3, 2, 5, 17)
    np.testing.assert_allclose(ours.action, theirs.action, atol=1e-6)
    np.testing.assert_allclose(ours.next_obs, theirs.next_obs, atol=1e-2)
    np.testing.assert_allclose(ours.reward, theirs.reward, atol=1e-3)


@pytest.mark.parametrize("option, value", [("solver", 0), ("noslip_iterations", 3)])
def test_what_mjx_lacks_is_refused(monkeypatch, option, value):
    model = physics.load_model(half_cheetah.BODY)
    setattr(model.opt, option, value)
    monkeypatch.setattr(physics, "load_model", lambda body: model)
    with pytest.raises(UserError, match=r"half_cheetah\.xml.*set simulator\.backend to 'c'"):
        build(mjx)
    assert model.opt.ls_iterations == 50  # the caller's model is left alone


def test_imports_print_nothing():
    code = "import metastar.envs.backends.brax_adapter, metastar.envs.backends.mjx"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout == ""
