"""The C engine: same numbers whatever the threads, and no breakdown becomes data."""

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest

import make_config
from metastar.envs import make
from metastar.envs.backends import physics
from metastar.envs.bodies.half_cheetah import BODY
from metastar.envs.families import cheetah_vel
from metastar.envs.rollout import make_rollout, no_adaptation, uniform_policy
from metastar.errors import Diverged, UserError
from metastar.types import Policy

TASKS = {"velocity": np.array([0.5, 1.0, 2.0])}


def make_env(threads=1, profile="default", family="cheetah_vel", steps=None):
    values = {"env.profile": profile, "simulator.threads": threads}
    env = make.make_env(make_config.base(family=family, **values))
    return env if steps is None else env._replace(
        spec=env.spec._replace(max_episode_steps=steps)
    )  # fmt: skip


def started(env, num=3, seed=0):
    noise = jax.vmap(env.draw_reset)(jax.random.split(jax.random.key(seed), num))
    return env.reset(jax.device_get(noise), TASKS, ())


def test_a_step_is_the_engines_own():
    env, model = make_env(), physics.load_model(BODY)
    state, obs = started(env)
    action = np.random.default_rng(0).uniform(-1, 1, (3, 6))
    after, out = env.step(state, action, TASKS, ())
    for b in range(3):
        data = mujoco.MjData(model)
        data.qpos[:], data.qvel[:], data.ctrl[:] = state.qpos[b], state.qvel[b], action[b]
        for _ in range(BODY.frame_skip):
            mujoco.mj_step(model, data)
        np.testing.assert_array_equal(after.qpos[b], data.qpos)
        np.testing.assert_array_equal(after.qvel[b], data.qvel)
        moved = (data.qpos[0] - state.qpos[b, 0]) / 0.05
        cost = 0.05 * (action[b] ** 2).sum()
        assert out.reward[b] == pytest.approx(-abs(moved - TASKS["velocity"][b]) - cost)
        np.testing.assert_array_equal(out.obs[b], [*data.qpos[1:], *data.qvel])
    np.testing.assert_array_equal(obs, np.concatenate([state.qpos[:, 1:], state.qvel], 1))
    np.testing.assert_allclose(after.time, 0.05)
    assert not out.done.any()


def test_the_reference_profile_sees_where_the_torso_is():
    env = make_env(profile="reference")
    state, obs = started(env)
    assert env.spec.obs_dim == obs.shape[1] == 20
    data = mujoco.MjData(physics.load_model(BODY))
    data.qpos[:] = state.qpos[1]
    mujoco.mj_forward(physics.load_model(BODY), data)
    np.testing.assert_allclose(obs[1, -3:], data.body("torso").xpos, atol=1e-12)


def played(env, key=0, episodes=2, params=None, policy=None):
    policy = policy or uniform_policy(6)
    run = make_rollout(env, policy, episodes, greedy=False)
    return run(params, no_adaptation(3, 2), TASKS, jax.random.key(key))


def test_one_and_two_threads_agree_bitwise():
    one, two = (played(make_env(threads, steps=40)) for threads in (1, 2))
    jax.tree.map(np.testing.assert_array_equal, one, two)
    assert one.obs.shape == (3, 2, 2, 40, 17) and one.valid.all() and not one.done.any()
    np.testing.assert_array_equal(one.obs[..., 1:, :], one.next_obs[..., :-1, :])
    assert len(np.unique(one.obs[..., 0, 0])) == len(np.unique(one.action[..., 0, 0])) == 12
    assert np.abs(one.obs[..., 0, :8]).max() <= 0.1 < np.abs(one.obs).max()


def constant_policy(action):
    return Policy(lambda params, adaptation: (), lambda params, *rest: (jnp.full(6, action), ()))


@pytest.mark.parametrize(
    ("action", "reason"), [(np.nan, "not finite"), (1.5, "leaves"), (-np.inf, "not finite")]
)
def test_a_bad_action_is_an_error_of_its_stream(action, reason):
    env = make_env()
    state, _ = started(env)
    actions = np.zeros((3, 6))
    actions[1, 4] = action
    with pytest.raises(Diverged, match=reason) as caught:
        env.step(state, actions, TASKS, ())
    assert caught.value.stream == 1


def test_a_nan_of_the_policy_names_task_and_step():
    with pytest.raises(UserError, match=r"not finite in task 0 of the batch, episode 0, step 0"):
        played(make_env(steps=5), policy=constant_policy(jnp.nan))


def test_a_breakdown_of_the_simulation_names_task_and_step():
    env = make_env(steps=5)

    def wild_reset(*args):
        state, obs = env.reset(*args)
        state.qvel[5] = 1e12  # the second stream of task 2
        return state, obs

    with pytest.raises(UserError, match=r"broke down in task 2 of the batch, episode 0, step 0"):
        played(env._replace(reset=wild_reset))


def test_bad_names_and_missing_files_are_one_sentence(monkeypatch):
    with pytest.raises(UserError, match="no profile 'refrence'; did you mean"):
        make_env(profile="refrence")
    with pytest.raises(UserError, match="unknown family 'cheetah_vell'; did you mean"):
        make_env(family="cheetah_vell")
    gone = cheetah_vel.FAMILY._replace(body=BODY._replace(model="no_cheetah.xml"))
    monkeypatch.setattr(cheetah_vel, "FAMILY", gone)
    with pytest.raises(UserError, match=r"no model file 'no_cheetah.xml'; install"):
        make_env()
    with pytest.raises(UserError, match=r"there is no model file '/no/cheetah.xml'"):
        physics.load_model(BODY._replace(model="/no/cheetah.xml"))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match="gymnasium, which is not installed"):
        make_env()


def test_motors_get_their_own_range():
    model = physics.load_model(BODY)
    model.actuator_ctrlrange[:] = [-3, 1]
    action = np.array([[-1.0, 0.0, 1.0, 0.5, 0.0, 0.0]])
    np.testing.assert_allclose(physics.control(model, np, action)[0], [-3, -1, 1, 0, -1, -1])
