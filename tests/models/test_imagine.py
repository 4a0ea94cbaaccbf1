import jax
import jax.numpy as jnp
import numpy as np

from metastar.models.imagine import ImagineNoise, imagine
from metastar.types import StepOut


def step_fn(carry, action, noise):
    """The known world x' = 2 x + a + noise, reward x', an end beyond 20."""
    state = 2 * carry + action + noise
    return StepOut(state, state.sum(), (state > 20).all()), state


def policy_fn(obs, noise):
    return 1 - obs + noise


def noise(step, action):
    return ImagineNoise(jnp.array(step)[:, None], jnp.array(action)[:, None])


def test_linear_world_by_hand():
    start = jnp.array([3.0])
    # x=3: a=-2 x'=4; x=4: a=-3+1 x'=6; x=6: a=-5 x'=7+.5
    path = imagine(step_fn, policy_fn, start, start, noise([0, 0, 0.5], [0, 1.0, 0]), 3)
    np.testing.assert_allclose(path.obs[:, 0], [3, 4, 6])
    np.testing.assert_allclose(path.action[:, 0], [-2, -2, -5])
    np.testing.assert_allclose(path.next_obs[:, 0], [4, 6, 7.5])
    np.testing.assert_allclose(path.reward, [4, 6, 7.5])
    assert not path.done.any()
    assert path.valid.all()


def test_steps_after_the_end_are_not_valid_but_go_on():
    start = jnp.array([3.0])
    path = imagine(step_fn, policy_fn, start, start, noise([0, 30.0, 0, 0], [0.0] * 4), 4)
    assert path.done.tolist() == [False, True, True, True]
    assert path.valid.tolist() == [True, True, False, False]
    np.testing.assert_allclose(path.next_obs[:-1], path.obs[1:])


def test_a_restart_begins_again_at_the_first_state():
    start = jnp.array([3.0])
    draws = noise([0, 30.0, 0.5, 0], [0.0, 0, 1.0, 0])
    path = imagine(step_fn, policy_fn, start, start, draws, 4, restart=True)
    assert path.done.tolist() == [False, True, False, False]
    assert path.valid.all()
    # x=3: a=-2 x'=4; a=-3 x'=35, the end; x=3: a=-2+1 x'=5.5; a=-4.5 x'=6.5
    np.testing.assert_allclose(path.obs[:, 0], [3, 4, 3, 5.5])
    np.testing.assert_allclose(path.next_obs[:, 0], [4, 35, 5.5, 6.5])


def test_one_rollout_alone_equals_one_among_many():
    starts = jnp.array([[3.0], [-1.0], [0.5]])
    noises = ImagineNoise(*jax.random.normal(jax.random.key(0), (2, 3, 5, 1)))
    run = lambda start, noise: imagine(step_fn, policy_fn, start, start, noise, 5)  # noqa: E731
    many = jax.jit(jax.vmap(run))(starts, noises)
    one = run(starts[1], jax.tree.map(lambda x: x[1], noises))
    assert many.obs.shape == (3, 5, 1)
    np.testing.assert_allclose(many.next_obs[1], one.next_obs, rtol=1e-6)
