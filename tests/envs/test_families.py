"""Golden numbers worked by hand, and a contract that every file of `envs/families` must meet."""

import re
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import make_config
from metastar import main as cli
from metastar import registry
from metastar.envs import half_circle, make, speed_tasks
from metastar.envs.backends.physics import State
from metastar.envs.bodies import half_cheetah
from metastar.envs.families import (
    cheetah_dir,
    cheetah_vel,
    cheetah_vel_sparse,
    point_robot,
    point_robot_sparse,
    point_robot_wind,
)
from metastar.envs.intervals import draw
from metastar.errors import UserError

GOAL = {"goal": np.array([0.6, 0.8])}


def make_env(name, **env_fields):
    values = {f"env.{field}": value for field, value in env_fields.items()}
    return make.make_env(make_config.base(family=name, **values))


def play(env, start, actions, task):
    """Positions, rewards and done flags of a fixed action sequence."""
    position, outs = jnp.array(start), []
    plane = jax.tree.map(lambda x: x[0], env.prepare(jax.tree.map(lambda x: x[None], task)))
    for action in actions:
        position, out = env.step(position, jnp.array(action), task, plane)
        outs.append(out)
    return [np.array(leaf) for leaf in jax.tree.map(lambda *x: jnp.stack(x), *outs)][:3]


def test_a_step_moves_a_tenth_of_the_clipped_action():
    env = make_env("point_robot")
    actions = [[1.0, -0.5], [3.0, -7.0], [0.0, 0.0]]
    obs, _, done = play(env, [0.25, -0.5], actions, {"goal": jnp.zeros(2)})
    np.testing.assert_allclose(obs, [[0.35, -0.55], [0.45, -0.65], [0.45, -0.65]], rtol=1e-6)
    assert not done.any()


def test_dense_reward_is_the_negative_distance_of_the_next_position():
    env = make_env("point_robot")
    # From (0.3, 0.4) to the goal (0.6, 0.8): 0.5. One step of (1, 1) leads to (0.4, 0.5):
    # sqrt(0.04 + 0.09); a step of (0.5, 0) on from there to (0.45, 0.5): sqrt(0.0225 + 0.09).
    _, reward, _ = play(env, [0.3, 0.4], [[0.0, 0.0], [1.0, 1.0], [0.5, 0.0]], GOAL)
    np.testing.assert_allclose(reward, [-0.5, -np.sqrt(0.13), -np.sqrt(0.1125)], rtol=1e-6)


def test_sparse_reward_pays_within_a_fifth_of_the_goal():
    # Along the first axis at the goal's height: distances 0.25, 0.15, 0.05 on the way
    # there, then 0.05, 0.15, 0.25 beyond it.
    actions = [[1.0, 0.0]] * 6
    start = [0.6 - 0.35, 0.8]
    _, reward, done = play(make_env("point_robot_sparse"), start, actions, GOAL)
    np.testing.assert_array_equal(reward, [0, 1, 1, 1, 1, 0])
    assert not done.any()
    _, reward, done = play(
        make_env("point_robot_sparse", terminal_at_goal=True), start, actions, GOAL
    )
    np.testing.assert_array_equal(reward, [0, 1, 1, 1, 1, 0])
    np.testing.assert_array_equal(done, [False, True, True, True, True, False])


def test_starts_fill_the_documented_boxes():
    corners = np.array([[0.0, 0.0], [0.5, 0.5], [1.0, 1.0]])
    origin = np.zeros(2)
    np.testing.assert_allclose(
        point_robot.start(np, corners, origin, GOAL), [[-1, -1], [0, 0], [1, 1]], atol=1e-12
    )
    np.testing.assert_allclose(
        point_robot_sparse.start(np, corners, origin, GOAL), [[-1.5, -0.5], [0, 0.5], [1.5, 1.5]]
    )
    assert not point_robot_wind.start(np, corners, origin, None).any()


def test_tasks_follow_their_laws():
    dense = point_robot.draw_tasks(np.random.default_rng(0), 4000)["goal"]
    assert dense.dtype == np.float64 and np.abs(dense).max() <= 1
    np.testing.assert_allclose(dense.mean(0), 0, atol=0.03)
    np.testing.assert_allclose(dense.var(0), 1 / 3, atol=0.02)
    sparse = half_circle.draw_tasks(np.random.default_rng(0), 4000)
    name, angle = half_circle.label(sparse)
    np.testing.assert_allclose(np.linalg.norm(sparse["goal"], axis=1), 1)
    assert angle.min() >= 0 and angle.max() <= np.pi and "[rad]" in name
    np.testing.assert_allclose(
        np.quantile(angle, [0.25, 0.5, 0.75]) / np.pi, [0.25, 0.5, 0.75], atol=0.03
    )


def test_sparse_optimum_by_hand():
    # Goal (1, 0). From (0.35, 0): gap 0.65, in reach (0.2) after 5 steps (0.5): 60 - 5 + 1 = 56.
    # From (1, 0): pays at once: 60. From (0.35, 0.75): after k steps the gaps are 0.65 - 0.1 k and
    # 0.75 - 0.1 k; k = 5: |(0.15, 0.25)| = 0.29, k = 6: |(0.05, 0.15)| = 0.16: 55.
    # From (9, 0): the gap of 8 minus 6 never gets within 0.2: 0.
    start = np.array([[0.35, 0.0], [1.0, 0.0], [0.35, 0.75], [9.0, 0.0]])
    best = point_robot_sparse.optimum(start, {"goal": np.array([1.0, 0.0])})
    np.testing.assert_array_equal(best, [56, 60, 55, 0])


def test_dense_optimum_by_hand():
    # One axis, gap 0.35: distances 0.25, 0.15, 0.05, 0, ...: -0.45.
    # Two axes, gaps 0.3 and 0.1: |(0.2, 0)|, |(0.1, 0)|, 0, ...: -0.3.
    start = np.array([[0.35, 0.0], [-0.3, 0.1]])
    best = point_robot.optimum(start, {"goal": np.zeros(2)})
    np.testing.assert_allclose(best, [-0.45, -0.3], atol=1e-12)


@pytest.mark.parametrize("law", ["own", "ood_extreme"])
@pytest.mark.parametrize("name", ["point_robot", "point_robot_sparse", "point_robot_wind"])
def test_the_optimum_is_attained_and_never_exceeded(name, law, x64):
    family, env = make.family_of(name), make_env(name)
    tasks = jax.tree.map(jnp.array, family.law[law](np.random.default_rng(1), 50))
    goals, planes = jnp.array(family.goal(tasks)), env.prepare(tasks)
    noise = jax.random.uniform(jax.random.key(0), (50, 2))
    num_steps = env.spec.max_episode_steps
    noises = jax.random.uniform(jax.random.key(1), (50, num_steps, 2), minval=-1.0)

    def returns(noise, task, goal, plane, noises, greed):
        drift = 0.0 if plane.wind is None else plane.wind

        def step(position, noise):
            direct = (goal - position - drift) / 0.1
            action = greed * direct + (1 - greed) * noise
            position, out = env.step(position, action, task, plane)
            return position, out.reward

        return jax.lax.scan(step, env.reset(noise, task, plane)[0], noises)[1].sum()

    play = jax.jit(jax.vmap(returns, (0, 0, 0, 0, 0, None)))
    given = noise, tasks, goals, planes, noises
    best = family.optimum(family.start(np, np.array(noise), np.zeros(2), None), tasks)
    np.testing.assert_allclose(play(*given, 1.0), best, rtol=1e-9, atol=1e-9)
    assert (play(*given, 0.3) <= best + 1e-9).all()


def test_a_wind_by_hand():
    # p' = p + 0.1 a + w: (0.1, 0) + (0.03, -0.02), then (0, 0.1) + w; the goal is (1, 0).
    task = {"wind": np.array([0.03, -0.02])}
    obs, reward, _ = play(make_env("point_robot_wind"), [0.0, 0.0], [[1.0, 0], [0, 2.0]], task)
    np.testing.assert_allclose(obs, [[0.13, -0.02], [0.16, 0.06]], atol=1e-6)
    expected = [-np.hypot(0.87, 0.02), -np.hypot(0.84, 0.06)]
    np.testing.assert_allclose(reward, expected, rtol=1e-6)
    # From (0.74, 0.5): x comes nearer by 0.1 + 0.03 a step, y by 0.1 - (-0.02), against the wind
    # by 0.1 - 0.03 and 0.1 - 0.02 from beyond the goal.
    start = np.array([[0.74, 0.5], [1.1, -0.1]])
    gaps = [[(0.13, 0.38), (0, 0.26), (0, 0.14), (0, 0.02)], [(0.03, 0.02)]]
    expected = [-np.linalg.norm(gap, axis=-1).sum() for gap in gaps]
    np.testing.assert_allclose(point_robot_wind.optimum(start, task), expected, atol=1e-12)


def test_each_task_of_a_batch_has_its_own_wind():
    env, tasks = make_env("point_robot_wind"), {"wind": jnp.array([[0.05, 0], [0, -0.05], [0, 0]])}
    planes = env.prepare(tasks)
    step = jax.jit(jax.vmap(env.step))
    position, out = step(jnp.zeros((3, 2)), jnp.ones((3, 2)), tasks, planes)
    np.testing.assert_allclose(position, [[0.15, 0.1], [0.1, 0.05], [0.1, 0.1]], atol=1e-6)
    assert not out.success.any() and jax.tree.leaves(make_env("point_robot").prepare(GOAL)) == []
    swapped = jax.tree.map(lambda x: x[::-1], planes)  # a broken twin: the winds of other tasks
    assert not np.allclose(step(jnp.zeros((3, 2)), jnp.ones((3, 2)), tasks, swapped)[0], position)


@pytest.mark.parametrize(
    ("backend", "words"),
    [
        ("no_lab.world", "'no_lab.world' of family 'point_robot' is not installed: .* 'no_lab'; "),
        ("lab.word", "is not installed: there is no module 'lab.word'; install its package, or"),
        ("lab.world", "needs the module 'robots.arms', which is not installed; .*install robots`"),
        ("lab.old", r"'lab.old' of .* cannot be imported \(cannot import name 'goal' from"),
        ("point_mas", "there is no module 'metastar.envs.backends.point_mas'"),
        (None, "'mujoco_c' of .* needs the module 'mujoco', .*; run `pip install mujoco`"),
    ],
)
def test_a_back_end_that_is_not_installed_is_one_sentence(
    backend, words, tmp_path, monkeypatch, capsys
):
    (tmp_path / "lab").mkdir()
    (tmp_path / "lab/world.py").write_text("import robots.arms\n")
    (tmp_path / "lab/old.py").write_text("from math import goal\n")
    (tmp_path / "robots").mkdir()
    monkeypatch.syspath_prepend(str(tmp_path))
    if backend is None:
        monkeypatch.setitem(sys.modules, "mujoco", None)
        monkeypatch.delitem(sys.modules, "metastar.envs.backends.mujoco_c", raising=False)
    monkeypatch.setattr(point_robot, "FAMILY", point_robot.FAMILY._replace(backend=backend))
    source = f"--config={make_config.CONFIGS}/oracle.py:point_robot,debug"
    folder = tmp_path / "data"
    assert cli.main(["collect", source, f"--config.data.dir={folder}"]) == 2
    captured = capsys.readouterr()
    assert re.search(words, captured.err) and captured.err.count("\n") == 1
    assert not folder.exists()


def test_a_goal_that_is_terminal_needs_a_success(monkeypatch):
    lost = point_robot.FAMILY._replace(success=None)
    monkeypatch.setattr(point_robot, "FAMILY", lost)
    with pytest.raises(UserError, match="no goal that could be terminal; set"):
        make_env("point_robot", terminal_at_goal=True)


def cheetah(x, qvel=0.0, joints=0.0):
    """A state of the cheetah at a place on the track."""
    qpos = np.full(9, joints)
    qpos[0] = x
    return State(qpos, np.full(9, qvel))


ACTION = np.array([1.0, -1.0, 0.5, 0.0, 0.5, -0.5])  # |a|^2 = 2.75, control cost 0.1375


@pytest.mark.parametrize(
    ("family", "task", "before", "after", "expected"),
    [
        # From 1.0 m to 1.1 m in 0.05 s: 2 m/s.
        (cheetah_vel, {"velocity": 1.5}, 1.0, 1.1, -0.5 - 0.1375),
        (cheetah_vel, {"velocity": 3.0}, 1.0, 1.1, -1.0 - 0.1375),
        (cheetah_vel, {"velocity": 1.0}, 1.0, 0.95, -2.0 - 0.1375),
        (cheetah_vel_sparse, {"velocity": 1.75}, 1.0, 1.1, 1.75 - 0.1375),
        (cheetah_vel_sparse, {"velocity": 2.0}, 1.0, 1.1, 2.0 - 0.1375),
        (cheetah_vel_sparse, {"velocity": 2.51}, 1.0, 1.1, -0.1375),
        (cheetah_dir, {"direction": 1.0}, 1.0, 1.1, 2.0 - 0.1375),
        (cheetah_dir, {"direction": -1.0}, 1.0, 1.1, -2.0 - 0.1375),
        (cheetah_dir, {"direction": -0.5}, 1.0, 0.9, 1.0 - 0.1375),
    ],
)
def test_cheetah_rewards_by_hand(family, task, before, after, expected):
    for xp in (np, jnp):
        reward = family.reward(xp, cheetah(before), cheetah(after), ACTION, task)
        assert float(reward) == pytest.approx(expected, abs=1e-5)
    assert family.FAMILY.done is None and family.FAMILY.success is None


def test_cheetah_observations_by_hand():
    state = State(np.arange(9.0), 10 + np.arange(9.0))
    short = [1, 2, 3, 4, 5, 6, 7, 8, *range(10, 19)]
    np.testing.assert_array_equal(half_cheetah.observe(np, state, "default"), short)
    # The torso's frame hangs 0.7 m above the origin and moves with qpos[0] and qpos[1].
    long = half_cheetah.observe(np, state, "reference")
    np.testing.assert_allclose(long, [*short, 0.0, 0.0, 1.7])
    far = state._replace(qpos=state.qpos + np.eye(9)[0])
    np.testing.assert_array_equal(half_cheetah.observe(np, far, "default"), short)


def test_cheetah_starts_by_hand():
    rest = State(np.full(9, 2.0), np.zeros(9))
    noise = State(np.linspace(-1, 1, 9), np.full(9, 3.0))
    start = half_cheetah.start(np, noise, rest, None)
    np.testing.assert_allclose(start.qpos, 2 + np.linspace(-0.1, 0.1, 9))
    np.testing.assert_allclose(start.qvel, 0.3)
    drawn = jax.vmap(half_cheetah.draw_reset)(jax.random.split(jax.random.key(0), 2000))
    assert np.abs(drawn.qpos).max() <= 1 and np.abs(drawn.qvel).max() > 2
    np.testing.assert_allclose(drawn.qpos.var(), 1 / 3, atol=0.01)
    np.testing.assert_allclose(drawn.qvel.var(), 1, atol=0.03)


@pytest.mark.parametrize("name", ["point_robot", "point_robot_sparse", "point_robot_wind"])
def test_the_default_data_of_point_robots_fit_an_hour(name):
    """With 500 updates an iteration, the reference's, the collection alone takes longer."""
    updates = make_config.preset("metastar", name, "").collect.updates_per_iteration
    assert updates <= 100


def test_seeds_give_the_tasks_of_the_reference():
    # Seed 1 gives 1.251, 5 gives .666, 9 gives .031 m/s: the goals in the names of the folders
    # that the reference's collection makes, to three decimals.
    found = [speed_tasks.reference_task(seed)["velocity"][0] for seed in (1, 5, 9)]
    np.testing.assert_array_equal(np.round(found, 3), [1.251, 0.666, 0.031])


def test_draws_over_intervals_are_uniform_and_stay_inside():
    x = draw(np.random.default_rng(0), 20_000, [(0, 1), (2, 5)])
    first = x < 1.5
    assert x.min() >= 0 and x[first].max() < 1 and x[~first].min() >= 2 and x.max() < 5
    assert first.mean() == pytest.approx(0.25, abs=0.01)
    assert x[~first].mean() == pytest.approx(3.5, abs=0.03)


def gaps(train, other):
    """Distance of each number to the nearest number of the training tasks."""
    return np.abs(other[:, None] - train[None]).min(1)


@pytest.mark.parametrize(
    "name",
    [
        *("point_robot", "point_robot_sparse", "point_robot_wind"),
        *("cheetah_vel", "cheetah_vel_sparse", "ant_semicircle", "ant_semicircle_sparse"),
    ],
)
def test_tasks_out_of_distribution_lie_apart_from_the_training_tasks(name):
    family = make.family_of(name)
    drawn = {
        split: family.law[split](np.random.default_rng(0), 400)
        for split in ("id", "ood_moderate", "ood_extreme")
    }
    train, moderate, extreme = (family.label(tasks)[1] for tasks in drawn.values())
    ring = name in ("point_robot", "point_robot_wind")
    if ring:  # plotted by angle, held apart by distance from the origin
        train, moderate, extreme = (np.abs(*t.values()).max(-1) for t in drawn.values())
    assert gaps(train, moderate).max() > 0 and gaps(train, extreme).min() > 0
    inside = (moderate > train.min()) & (moderate < train.max())
    outside = (extreme < train.min()) | (extreme > train.max())
    assert (ring or inside.all()) and outside.all()
    near = np.isclose(gaps(train, moderate), 0, atol=1e-3)
    assert not near.all()


def test_directions_alternate_and_keep_their_weight():
    rng = np.random.default_rng(0)
    np.testing.assert_array_equal(cheetah_dir.draw_tasks(rng, 3)["direction"], [1, -1, 1])
    extreme = cheetah_dir.FAMILY.law["ood_extreme"](rng, 2)["direction"]
    np.testing.assert_array_equal(extreme, [2, -2])


@pytest.mark.parametrize("name", registry.names("family"))
def test_contract_of_a_family(name):
    family, env = make.family_of(name), make_env(name)
    spec = make.spec_of(name, "default")
    assert env.spec == spec and spec.name == family.name == name
    assert {"own", "id", "ood_moderate", "ood_extreme"} == set(family.law)
    tasks = family.law["own"](np.random.default_rng(3), 5)
    for law, draw_law in family.law.items():
        drawn, again = (draw_law(np.random.default_rng(3), 5) for _ in range(2))
        assert {k: v.shape for k, v in drawn.items()} == {k: v.shape for k, v in tasks.items()}
        for field, value in drawn.items():
            assert value.dtype == np.float64 and len(value) == 5, law
            np.testing.assert_array_equal(value, again[field])
    text, values = family.label(tasks)
    assert isinstance(text, str) and np.shape(values) == (5,)

    noise = jax.vmap(env.draw_reset)(jax.random.split(jax.random.key(0), 5))
    action = np.linspace(-1, 1, 5 * spec.action_dim).reshape(5, spec.action_dim)
    physics = env.prepare(tasks)
    if env.on_host:
        noise = jax.device_get(noise)
        state, obs = env.reset(noise, tasks, physics)
        new_state, out = env.step(state, action, tasks, physics)
    else:
        state, obs = jax.vmap(env.reset)(noise, tasks, physics)
        new_state, out = jax.jit(jax.vmap(env.step))(state, jnp.asarray(action), tasks, physics)
    assert obs.shape == out.obs.shape == (5, spec.obs_dim)
    assert out.reward.shape == out.done.shape == (5,) and out.done.dtype == bool
    assert (out.success is None) == (family.success is None)
    assert out.success is None or (out.success.shape == (5,) and out.success.dtype == bool)
    assert family.optimum is None or family.optimum(np.array(obs), tasks).shape == (5,)
    assert family.goal is None or np.shape(family.goal(tasks)) == (5, 2)
    assert (family.goal is None) == (family.goal_radius is None)
    if not env.on_host:  # the same definition on NumPy, over a batch, gives the same numbers
        start = family.start(np, np.array(noise), np.zeros(2), tasks)
        np.testing.assert_allclose(start, state, atol=1e-6)
        transition = (np, np.array(state), np.array(new_state), action, tasks)
        observed = family.observe(np, np.array(new_state), "default")
        np.testing.assert_allclose(observed, out.obs, atol=1e-6)
        np.testing.assert_allclose(family.reward(*transition), out.reward, atol=1e-6)
        np.testing.assert_array_equal(family.success(*transition), out.success)
