"""Tasks that differ in their physics, worked by hand: a mass on a rail, on the C engine and on MJX.

The mass of 2 kg slides without friction from -1 to 1 m and is pushed by 8 N; a task multiplies it
by its `scale`. An action is four steps of 0.01 s.
"""

from pathlib import Path

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest

import make_config
from metastar.envs.backends import mjx, mujoco_c
from metastar.envs.family import Body, Family
from metastar.envs.rollout import make_rollout, no_adaptation
from metastar.envs.state import State
from metastar.errors import Diverged, UserError
from metastar.types import EnvSpec, Policy

MASS, FORCE, STEP = 2.0, 8.0, 0.01  # kg, N, s
TASKS = {"scale": np.array([1.0, 2.0, 0.5, 4.0])}
TARGET = 0.3  # m


def scale_mass(model, task):
    """Mass and inertia times the task's number."""
    model.body_mass[:] *= task["scale"]
    model.body_inertia[:] *= task["scale"]
    return model


BODY = Body(
    draw_reset=lambda key: State(jax.random.uniform(key, (1,)), jnp.zeros(1)),
    model=str(Path(__file__).parent / "slider.xml"),
    frame_skip=4,
    dt=4 * STEP,
    edit=scale_mass,
)
FAMILY = Family(
    name="slider",
    specs={"default": EnvSpec("slider", 2, 1, 10, done_ends_episode=True)},
    law={"own": lambda rng, num: {"scale": rng.uniform(0.5, 4, num)}},
    label=lambda tasks: ("scale", np.asarray(tasks["scale"])),
    start=lambda xp, noise, rest, task: State(rest.qpos + 0.1 * noise.qpos, rest.qvel + noise.qvel),
    observe=lambda xp, state, profile: xp.concatenate([state.qpos, state.qvel], -1),
    reward=lambda xp, before, after, action, task: after.qvel[..., 0],
    body=BODY,
    done=lambda xp, before, after, action, task: after.qpos[..., 0] >= TARGET,
    success=lambda xp, before, after, action, task: after.qvel[..., 0] > 1.0,
)
BACKENDS = {"c": mujoco_c, "mjx": mjx}


def make_env(backend, **changes):
    family = FAMILY._replace(body=BODY._replace(**changes))
    return BACKENDS[backend].make_env(family, "default", make_config.base())


def at(backend, qpos, qvel=0.0):
    """A batch of states, one for each task, all alike."""
    state = State(np.full((4, 1), float(qpos)), np.full((4, 1), qvel))
    return mujoco_c.Batch(np.zeros(4), *state, np.zeros(4, bool)) if backend == "c" else state


def pushed(backend, qpos, **changes):
    """Positions and velocities [4] after one full push of each task's mass."""
    env = make_env(backend, **changes)
    step = env.step if env.on_host else jax.jit(jax.vmap(env.step))
    state, out = step(at(backend, qpos), np.ones((4, 1)), TASKS, env.prepare(TASKS))
    np.testing.assert_allclose(out.obs, np.concatenate([state.qpos, state.qvel], 1), atol=1e-6)
    return np.array(state.qpos)[:, 0], np.array(state.qvel)[:, 0]


def check_free(backend, **changes):
    """Acceleration is force over mass: v = 4 h F/m, and x = h^2 F/m (1 + 2 + 3 + 4)."""
    acceleration = FORCE / (MASS * TASKS["scale"])
    qpos, qvel = pushed(backend, 0.0, **changes)
    np.testing.assert_allclose(qvel, 4 * STEP * acceleration, rtol=1e-5)
    np.testing.assert_allclose(qpos, 10 * STEP**2 * acceleration, rtol=1e-5)


def check_limit(backend):
    """Behind the limit MuJoCo accelerates by (1 - d) a0 + d aref, whatever the mass.

    d = 0.5 is the limit's impedance, a0 = F/m, and 0.1 m behind it, at rest,
    aref = -K d 0.1 = -500 with K = 1 / (d 0.02)^2 (MuJoCo's documentation, "Constraint model").
    The engine needs the inverse weight of the joint for it, which only `mj_setConst` renews.
    """
    acceleration = 0.5 * FORCE / (MASS * TASKS["scale"]) - 0.5 * 500
    _, qvel = pushed(backend, 1.1, frame_skip=1, dt=STEP)
    np.testing.assert_allclose(qvel, STEP * acceleration, rtol=1e-4)


@pytest.mark.parametrize("backend", BACKENDS)
def test_each_task_of_a_batch_has_its_own_mass(backend):
    check_free(backend)


@pytest.mark.parametrize("backend", BACKENDS)
def test_limits_are_as_stiff_for_every_mass(backend):
    check_limit(backend)


@pytest.mark.parametrize("backend", BACKENDS)
def test_an_edit_that_is_left_out_is_found(backend):
    with pytest.raises(AssertionError):
        check_free(backend, edit=lambda model, task: model)


@pytest.mark.parametrize("backend", BACKENDS)
def test_constants_that_are_not_renewed_are_found(backend, monkeypatch):
    monkeypatch.setattr(mujoco, "mj_setConst", lambda model, data: None)
    with pytest.raises(AssertionError):
        check_limit(backend)


def test_mjx_carries_only_the_arrays_that_differ():
    arrays = make_env("mjx").prepare(TASKS)
    assert {".body_mass", ".body_subtreemass", ".dof_invweight0", ".dof_M0"} <= set(arrays)
    assert ".geom_size" not in arrays and ".qpos0" not in arrays
    np.testing.assert_allclose(arrays[".body_mass"][:, 1], MASS * TASKS["scale"])
    np.testing.assert_allclose(arrays[".dof_invweight0"][:, 0], 1 / (MASS * TASKS["scale"]))
    assert all(len(leaf) == 4 for leaf in arrays.values())
    for backend in BACKENDS:
        assert jax.tree.leaves(make_env(backend, edit=None).prepare(TASKS)) == []


def test_an_edit_that_changes_the_program_is_refused_by_mjx():
    def shorten(model, task):
        model.jnt_limited[:] = task["scale"] > 1
        return model

    with pytest.raises(UserError, match=r"changes what MJX compiles .* set simulator\.backend"):
        make_env("mjx", edit=shorten).prepare(TASKS)
    assert len(make_env("c", edit=shorten).prepare(TASKS)) == 4


def move_rest(model, task):
    model.qpos0[:] = task["scale"] / 10
    return model


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_start_is_around_the_rest_of_the_tasks_own_model(backend):
    env = make_env(backend, edit=move_rest)
    noise = State(np.full((4, 1), 0.5), np.zeros((4, 1)))
    reset = env.reset if env.on_host else jax.vmap(env.reset)
    state, _ = reset(noise, TASKS, env.prepare(TASKS))
    np.testing.assert_allclose(state.qpos[:, 0], TASKS["scale"] / 10 + 0.05, rtol=1e-6)


def test_both_engines_play_the_same_episodes_to_their_ends():
    """The lighter two masses reach the target within ten actions, the heavier do not."""
    push = Policy(lambda params, adaptation: (), lambda *args: (jnp.ones(1), ()))
    adaptation = no_adaptation(4, 2)
    ours, theirs = (
        make_rollout(make_env(backend), push, 2)(None, adaptation, TASKS, jax.random.key(0))
        for backend in ("mjx", "c")
    )
    for name in ours._fields:
        a, b = (np.asarray(getattr(played, name)) for played in (ours, theirs))
        keep = np.asarray(ours.valid)
        np.testing.assert_allclose(a[keep], b[keep], atol=1e-5, err_msg=name)
    np.testing.assert_array_equal(ours.valid, theirs.valid)
    length = theirs.valid.sum(-1)
    assert (length[2] < length[0]).all() and (length[[1, 3]] == 10).all()
    ended = np.take_along_axis(theirs.done, length[..., None] - 1, -1)[..., 0]
    assert ended[[0, 2]].all() and not ended[[1, 3]].any()
    # The lightest gains 8 / (2 0.5) 0.04 = 0.32 m/s in an action: 1 m/s after the fourth.
    np.testing.assert_array_equal(theirs.success[2, 0, 0, :4], [False, False, False, True])
    assert not theirs.success[3].any()


def test_robots_whose_episodes_have_ended_stay_as_they_are():
    env, push = make_env("c"), np.ones((4, 1))
    models = env.prepare(TASKS)
    batch = at("c", 0.2)._replace(over=np.array([True, False, True, False]))
    after, out = env.step(batch, push, TASKS, models)
    every, _ = env.step(at("c", 0.2), push, TASKS, models)
    np.testing.assert_array_equal(after.qpos[[0, 2]], batch.qpos[[0, 2]])
    np.testing.assert_array_equal(after.time[[0, 2]], 0)
    np.testing.assert_array_equal(after.qpos[[1, 3]], every.qpos[[1, 3]])
    assert np.isfinite(out.reward).all() and (after.over == batch.over).all()
    stayed, _ = env.step(batch._replace(over=np.ones(4, bool)), push, TASKS, models)
    np.testing.assert_array_equal(stayed.qpos, batch.qpos)
    ended, _ = env.step(at("c", TARGET), push, TASKS, models)
    assert ended.over.all()


def test_a_breakdown_is_said_of_the_right_robot():
    env = make_env("c")
    batch = at("c", 0.2)._replace(over=np.array([True, False, False, False]))
    batch.qvel[2] = np.inf
    with pytest.raises(Diverged) as error:
        env.step(batch, np.ones((4, 1)), TASKS, env.prepare(TASKS))
    assert error.value.stream == 2
