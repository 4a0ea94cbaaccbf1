"""Ants, hoppers, walkers and humanoids: rewards, ends, tasks and physics worked by hand."""

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest

import make_config
from metastar import config
from metastar import main as cli
from metastar.collection import collect
from metastar.data import store
from metastar.envs import make, numbered_tasks
from metastar.envs.backends import physics
from metastar.envs.bodies import humanoid
from metastar.envs.rollout import make_rollout, no_adaptation
from metastar.envs.state import State
from metastar.errors import UserError
from metastar.evaluation import episodes as play
from metastar.evaluation.protocol import Given
from metastar.types import Adaptation, Context, Method, Policy

SIZES = {"ant": (15, 14), "hopper": (6, 6), "walker": (9, 9), "humanoid": (24, 23)}


def make_env(family, profile="default"):
    values = {"env.profile": profile, "simulator.threads": 1}
    return make.make_env(make_config.base(family=family, **values))


def at(body, *first, height=None):
    """A state at rest whose first positions are given."""
    num_positions, num_velocities = SIZES[body]
    qpos = np.zeros(num_positions)
    qpos[: len(first)] = first
    return State(qpos, np.zeros(num_velocities))


# Speeds: 0.1 m along x and 0.05 m along y in 0.05 s are 2 and 1 m/s; all |a| of the ant are 0.5.
ANT = at("ant", 1.0, 1.0, 0.7), at("ant", 1.1, 1.05, 0.7), np.full(8, 0.5)
FLAT = ANT[0], at("ant", 1.1, 1.05, 0.1), ANT[2]
# 0.016 m in an action: of 0.016 s are 1 m/s, of 0.008 s 2 m/s, of 0.01 s 1.6 m/s. |a|^2 = 1.25.
HOP = at("hopper", 0.0, 1.2), at("hopper", 0.016, 1.2), np.array([1.0, -0.5, 0.0])
FALL = HOP[0], at("hopper", 0.016, 0.7), HOP[2]
WALK = at("walker", 0.0, 1.2), at("walker", 0.016, 1.2), np.array([1.0, -0.5, 0, 0, 0, 0])
STOOP = WALK[0], at("walker", 0.016, 0.6), WALK[2]
SOUTH = {"angle": -np.pi / 2}
EAST = {"angle": 0.0}
NEAR = {"goal": np.array([1.0, 1.2])}
FAR = {"goal": np.array([0.0, 2.05])}


@pytest.mark.parametrize(
    "family, profile, transition, task, reward, done",
    [
        ("ant_dir", "default", ANT, EAST, 2.0, None),
        ("ant_dir", "default", ANT, SOUTH, -1.0, None),
        ("ant_dir", "default", ANT, {"angle": np.arctan2(3, 4)}, 2 * 0.8 + 0.6, None),
        ("ant_dir", "er_trl", ANT, EAST, 2.0 - 0.5 * 2 + 1, False),
        ("ant_dir", "er_trl", FLAT, EAST, 2.0 - 1 + 1, True),
        ("ant_dir", "spc", ANT, EAST, 2.0 - 1 + 1, False),
        ("ant_dir", "spc", FLAT, EAST, 2.0 - 1, True),
        ("ant_dir", "meta_dt", FLAT, SOUTH, -1.0 - 1 + 1, None),
        ("ant_goal", "default", ANT, FAR, -2.1 - 0.2, None),
        ("ant_semicircle", "default", ANT, NEAR, -0.25 - 0.2, None),
        ("ant_semicircle_sparse", "default", ANT, NEAR, 1 - 0.2, None),
        ("ant_semicircle_sparse", "default", ANT, FAR, -0.2, None),
        ("hopper_param", "default", FALL, None, 1.0 - 0.00125, None),
        ("hopper_param", "csro", HOP, None, 1.0 + 1 - 0.00125, False),
        ("hopper_param", "csro", FALL, None, 1.0 + 1 - 0.00125, True),
        # Of 1 m/s: 0.5 from the target of 1.5.
        ("hopper_param_sparse", "default", FALL, None, 0.8 - 0.5 - 0.00125, None),
        ("hopper_mass", "default", HOP, None, 2.0 + 1 - 0.00125, False),
        ("hopper_mass", "default", FALL, None, 2.0 + 1 - 0.00125, True),
        ("hopper_friction", "spc", FALL, None, 2.0 - 0.00125, True),
        ("walker_param", "default", STOOP, None, 1.0 + 1 - 0.00125, False),
        ("walker_param", "focal", STOOP, None, 1.0 + 1 - 0.00125, True),
        ("walker_param_sparse", "default", STOOP, None, 0.8 - 0.5 - 0.00125, None),
        ("walker_mass", "default", WALK, None, 1.6 + 1 - 0.00125, False),
        ("walker_friction", "default", STOOP, None, 1.6 + 1 - 0.00125, True),
        ("walker_friction", "spc", WALK, None, 2.0 + 1 - 0.00125, False),
        ("walker_friction", "spc", STOOP, None, 2.0 - 0.00125, True),
    ],
)
def test_rewards_and_ends_by_hand(family, profile, transition, task, reward, done):
    found = make.family_of(family, profile)
    for xp in (np, jnp):
        assert float(found.reward(xp, *transition, task)) == pytest.approx(reward, abs=2e-5)
        assert (found.done is None) == (done is None)
        assert done is None or bool(found.done(xp, *transition, task)) == done
    assert make.spec_of(family, profile).done_ends_episode == (done is not None)
    if found.success:
        assert bool(found.success(np, *transition, task)) == (task is NEAR)


@pytest.mark.parametrize(
    "family, profile, place, fallen",
    [
        ("hopper_mass", "default", [0, 1.2, 0.19], False),
        ("hopper_mass", "default", [0, 1.2, -0.21], True),
        ("hopper_mass", "default", [0, 1.2, 0, 101], True),
        ("walker_mass", "default", [0, 1.9, 0.99], False),
        ("walker_mass", "default", [0, 2.1, 0], True),
        ("walker_mass", "default", [0, 1.2, -1.01], True),
        ("walker_param", "default", [0, 0.51, 3.0], False),
        ("walker_param", "default", [0, 0.5, 0], True),
        ("ant_dir", "er_trl", [0, 0, 1.01], True),
        ("ant_dir", "er_trl", [0, 0, 0.21], False),
        ("humanoid_dir", "default", [0, 0, 0.99], True),
        ("humanoid_dir", "default", [0, 0, 1.4], False),
        ("humanoid_dir", "default", [0, 0, 2.01], True),
    ],
)
def test_who_has_fallen(family, profile, place, fallen):
    after = at(family.partition("_")[0], *place)
    assert bool(make.family_of(family, profile).done(np, None, after, None, None)) == fallen


def test_the_humanoid_is_paid_for_its_center_of_mass():
    rng = np.random.default_rng(0)
    model = physics.load_model(humanoid.BODY)
    data, qpos = mujoco.MjData(model), model.qpos0 + rng.normal(size=(2, 24))
    centers = []
    for place in qpos:
        data.qpos[:] = place
        mujoco.mj_forward(model, data)
        centers.append(model.body_mass @ data.xipos / model.body_mass.sum())
    before, after = (State(place, np.zeros(23)) for place in qpos)
    action, moved = rng.uniform(-1, 1, 17), (centers[1] - centers[0])[:2]
    # The code bases: 0.25 times the way over one of the five steps of 0.003 s; control 0.4 a.
    expected = 0.25 * moved @ [0.8, 0.6] / 0.003 - 0.1 * 0.16 * (action**2).sum() + 5
    for xp, tolerance in ((np, 1e-9), (jnp, 1e-2)):
        reward = make.family_of("humanoid_dir").reward(
            xp, before, after, action, {"angle": np.arctan2(3, 4)}
        )
        assert float(reward) == pytest.approx(expected, abs=tolerance)


def test_observations_by_hand():
    def seen(family, state, profile="default"):
        return make.family_of(family, profile).observe(np, state, profile)

    ant = State(np.arange(15.0), 20 + np.arange(14.0))
    np.testing.assert_array_equal(seen("ant_dir", ant), [*range(2, 15), *range(20, 34)])
    np.testing.assert_array_equal(seen("ant_goal", ant), [*range(15), *range(20, 34)])
    hopper = State(np.arange(6.0), np.array([-11.0, -3, 0, 9, 10, 30]))
    np.testing.assert_array_equal(
        seen("hopper_mass", hopper), [1, 2, 3, 4, 5, -10, -3, 0, 9, 10, 10]
    )
    np.testing.assert_array_equal(
        seen("hopper_param", hopper, "reference"), [0, 1, 2, 3, 4, 5, *hopper.qvel]
    )
    np.testing.assert_array_equal(seen("hopper_param", hopper), [1, 2, 3, 4, 5, *hopper.qvel])


@pytest.mark.parametrize("family", ["ant_dir", "ant_goal", "hopper_param", "humanoid_dir"])
def test_positions_of_a_recording_are_those_that_were_observed(family):
    """A robot that moves at a constant speed: x is its integral."""
    found = make.family_of(family)
    num = SIZES[family.partition("_")[0]]
    qpos = np.random.default_rng(0).normal(size=(5, num[0]))
    qvel = np.full((5, num[1]), 2.0)
    qpos[:, 0] = 2 * found.body.dt * np.arange(5)
    if num[0] > 9:
        qpos[:, 1] = qpos[:, 0]
    obs = found.observe(np, State(qpos, qvel), "default")
    np.testing.assert_allclose(found.body.positions(obs, "default"), qpos, atol=1e-12)


# Tasks and splits.


def test_the_numbers_of_er_trl_and_spc():
    train = numbered_tasks.ER_TRL["id"][:20]
    assert train == tuple(range(10, 30))
    assert numbered_tasks.ER_TRL["ood_moderate"] == (5, 6, 7, 8, 9, 30, 31, 32, 33, 34)
    assert numbered_tasks.ER_TRL["ood_extreme"] == (0, 1, 2, 3, 4, 35, 36, 37, 38, 39)
    test = (6, 9, 12, 15, 18, 21, 24, 27, 30, 33)
    assert numbered_tasks.SPC["id"][20:] == test
    assert sorted(numbered_tasks.SPC["id"]) == list(range(5, 35))
    assert numbered_tasks.SPC["ood_extreme"] == numbered_tasks.ER_TRL["ood_extreme"]


def drawn(family, profile="default", ood=10):
    values = {"data.train_tasks": 20, "data.test_tasks": 10, "data.ood_tasks": ood}
    tasks, split = collect.draw_tasks(
        make_config.base(family=family, **{"env.profile": profile}, **values)
    )
    return {name: jax.tree.map(lambda x, ids=ids: x[ids], tasks) for name, ids in split.items()}


def test_a_data_set_has_the_splits_of_er_trl():
    angle = {name: np.degrees(task["angle"]) for name, task in drawn("ant_dir").items()}
    np.testing.assert_allclose(angle["train"], np.arange(90, 262, 9))
    np.testing.assert_allclose(angle["test"], np.arange(94.5, 260, 18))
    np.testing.assert_allclose(angle["ood_moderate"], [*range(45, 82, 9), *range(270, 307, 9)])
    np.testing.assert_allclose(angle["ood_extreme"], [*range(0, 37, 9), *range(315, 352, 9)])
    scale = {name: task["scale"].round(3) for name, task in drawn("hopper_mass").items()}
    ends = {name: (s.min(), s.max()) for name, s in scale.items()}
    assert ends["train"] == (0.674, 1.484) and ends["ood_extreme"] == (0.444, 2.25)
    moderate = scale["ood_moderate"][[0, 4, 5, 9]]
    np.testing.assert_array_equal(moderate, [0.547, 0.646, 1.548, 1.828])
    goals = {name: task["goal"] for name, task in drawn("ant_goal").items()}
    radius = {name: np.linalg.norm(goal, axis=1) for name, goal in goals.items()}
    np.testing.assert_allclose(radius["train"], np.repeat([0.8, 1.2], 10))
    np.testing.assert_allclose(radius["ood_moderate"], 1.6)
    rear = np.degrees(np.arctan2(*goals["ood_extreme"].T[::-1]))
    np.testing.assert_allclose(rear, 90 + 180 / 49 * np.arange(10))


def test_a_data_set_has_the_splits_of_spc():
    found = drawn("walker_mass", "spc")
    assert set(found) == {"train", "test", "ood_extreme"}
    number = {n: 39 / 4 * (np.log(t["scale"]) / np.log(1.5) + 2) for n, t in found.items()}
    np.testing.assert_allclose(number["test"], range(6, 34, 3))
    rest = [k for k in range(5, 35) if k not in range(6, 34, 3)]
    np.testing.assert_allclose(number["train"], rest)
    np.testing.assert_allclose(
        number["ood_extreme"], [0, 1, 2, 3, 4, 35, 36, 37, 38, 39], atol=1e-9
    )
    goals = drawn("ant_goal", "spc")
    assert np.linalg.norm(goals["test"]["goal"], axis=1) == pytest.approx(np.ones(10))


def test_more_tasks_than_a_split_has_are_refused():
    with pytest.raises(
        UserError, match="'ood_moderate' of this family has 10 tasks, not 11; lower"
    ):
        drawn("humanoid_dir", "default", 11)
    few = make.family_of("ant_dir").law["id"](np.random.default_rng(0), 6)["angle"]
    np.testing.assert_allclose(np.degrees(few[[0, -1]]), [90, 256.5])


def test_scales_of_every_entry_follow_their_laws():
    family = make.family_of("walker_param", "focal")
    exponent = {}
    for name, law in family.law.items():
        tasks = law(np.random.default_rng(0), 300)
        assert {k: v.shape[1:] for k, v in tasks.items()} == make.task_shapes(
            "walker_param", "focal"
        )
        logs = {k: np.log(v) / np.log(1.3 if k == "damping" else 1.5) for k, v in tasks.items()}
        exponent[name] = np.concatenate([np.abs(x).ravel() for x in logs.values()])
    low, high = ({n: f(x).round(2) for n, x in exponent.items()} for f in (np.min, np.max))
    assert low == {"own": 0, "id": 1, "ood_moderate": 0, "ood_extreme": 3.3}
    assert high == {"own": 3, "id": 3, "ood_moderate": 1, "ood_extreme": 4}
    assert exponent["own"].mean() == pytest.approx(1.5, abs=0.02)
    shapes = make.task_shapes("hopper_param", "default")
    assert sum(int(np.prod(shape)) for shape in shapes.values()) == 41
    shapes = make.task_shapes("walker_param", "default")
    assert sum(int(np.prod(shape)) for shape in shapes.values()) == 32


# The physics of tasks. Hopper: four capsules of 1000 kg/m^3 with these radii and lengths in metres.

CAPSULES = [(0.05, 0.4), (0.05, 0.45), (0.04, 0.5), (0.06, 0.39)]
HOPPER_MASS = sum(1000 * np.pi * r**2 * (length + 4 / 3 * r) for r, length in CAPSULES)


def edited(family, task, profile="default"):
    body = make.family_of(family, profile).body
    batch = {name: np.asarray(value, float)[None] for name, value in task.items()}
    return physics.edited_models(physics.load_model(body), body, batch)[0]


def ones(family, profile="default", **changed):
    """A task of `*_param` that scales nothing but what is given."""
    shapes = make.task_shapes(family, profile)
    return {name: np.ones(shape) for name, shape in shapes.items()} | changed


def test_masses_by_hand():
    model = edited("hopper_mass", {"scale": 1.7})
    # All that the engine derives follows: the slider at the root moves the whole mass, and the
    # inverse weight of the torso, from which contacts take their stiffness, shrinks.
    assert model.dof_M0[0] == pytest.approx(1.7 * HOPPER_MASS)
    assert model.body_subtreemass[1] == pytest.approx(1.7 * HOPPER_MASS)
    plain = edited("hopper_mass", {"scale": 1.0})
    assert plain.dof_invweight0[0] == pytest.approx(1.7 * model.dof_invweight0[0], rel=0.05)
    np.testing.assert_allclose(model.body_inertia, 1.7 * plain.body_inertia)
    # One leg of three times its mass, and nothing else: 2 times its capsule more.
    heavy = edited("hopper_param", ones("hopper_param", mass=[1, 1, 1, 3, 1]))
    leg = 1000 * np.pi * 0.04**2 * (0.5 + 4 / 3 * 0.04)
    assert heavy.dof_M0[0] == pytest.approx(HOPPER_MASS + 2 * leg)


def test_inertias_by_hand():
    inertia = np.ones((5, 3))
    inertia[4] = 3.0
    plain = edited("hopper_param", ones("hopper_param"))
    model = edited("hopper_param", ones("hopper_param", inertia=inertia))
    # The foot turns around its joint and has two of the equal, larger moments of a long capsule.
    assert model.dof_M0[5] - plain.dof_M0[5] == pytest.approx(2 * plain.body_inertia[4].max())


def test_damping_by_hand():
    damping = np.array([1, 1, 1, 2.0, 1, 0.5])
    model = edited("hopper_param", ones("hopper_param", damping=damping))
    data = mujoco.MjData(model)
    data.qvel[:] = 3.0
    mujoco.mj_forward(model, data)
    # The three joints have a damping of 1, the root none.
    np.testing.assert_allclose(data.qfrc_passive, [0, 0, 0, -6, -3, -1.5])


@pytest.mark.parametrize(
    "family, task, expected",
    [
        ("hopper_friction", {"scale": 1.5}, 3.0),
        ("walker_friction", {"scale": 0.5}, 0.95),
        # A contact takes the larger friction of its two geoms, the floor's 1 and the foot's 2.
        ("hopper_param", ones("hopper_param", friction=np.full((5, 3), 0.25)), 0.5),
        (
            "hopper_param",
            ones("hopper_param", friction=np.concatenate([np.ones((4, 3)), np.full((1, 3), 0.4)])),
            1.0,
        ),
    ],
)
def test_friction_by_hand(family, task, expected):
    model = edited(family, task)
    data = mujoco.MjData(model)
    data.qpos[:] = model.qpos0
    data.qpos[1] -= 0.05  # the feet in the ground
    mujoco.mj_forward(model, data)
    assert data.ncon and data.contact.friction[:, 0].max() == pytest.approx(expected)


@pytest.mark.parametrize(
    "family, task, words",
    [
        ("hopper_mass", {"scale": 0.0}, "body 1 of hopper.xml mass 0, which must be positive"),
        ("hopper_mass", {"scale": -1.0}, "body 1 of hopper.xml mass -"),
        ("walker_friction", {"scale": -0.1}, "geom 0 of walker2d.xml friction -0.07"),
        ("walker_mass", {"scale": np.nan}, "mass nan, .* and finite; correct its task"),
        (
            "hopper_param",
            ones("hopper_param", damping=[0, 0, 0, -1, 1, 1]),
            "degree of freedom 3 of hopper.xml damping -1, which must be at least 0",
        ),
        (
            "hopper_param",
            ones("hopper_param", inertia=np.zeros((5, 3))),
            "body 1 of hopper.xml inertia 0",
        ),
    ],
)
def test_what_no_robot_can_bear_is_one_sentence(family, task, words):
    with pytest.raises(UserError, match=f"^task 0 of the batch gives .*{words}"):
        edited(family, task)


def test_a_robot_that_breaks_down_names_task_and_step():
    env = make_env("hopper_mass")

    def wild(*args):
        state, obs = env.reset(*args)
        state.qvel[1] = 1e12
        return state, obs

    run = make_rollout(env._replace(reset=wild), still(3), 1)
    with pytest.raises(
        UserError, match="broke down in task 1 of the batch, episode 0, step 0 of h"
    ):
        run(None, no_adaptation(2, 1), {"scale": np.ones(2)}, jax.random.key(0))


# Episodes: agents whose score is known.


def constant(*action):
    return Policy(lambda params, a: (), lambda *args: (jnp.array(action), ()))


def still(num_motors):
    return constant(*[0.0] * num_motors)


# Actions that make the robot fall.
TOPPLE = {"hopper_mass": (1.0, -0.5, 1.0), "walker_mass": (1.0, 0.5, 0.0, -1.0, 0.5, 0.0)}


def fallen_score(family, scale, start):
    """Steps and return until the robot falls, by MuJoCo's steps and laws as published."""
    model = edited(family, {"scale": scale})
    data, skip = mujoco.MjData(model), 4 if family == "hopper_mass" else 5
    data.qpos[:], data.qvel[:] = start
    data.ctrl[:] = TOPPLE[family]
    score, up, steps = 0.0, True, 0
    while up:
        x = data.qpos[0]
        for _ in range(skip):
            mujoco.mj_step(model, data)
        score += (data.qpos[0] - x) / (0.002 * skip) + 1 - 0.001 * (data.ctrl**2).sum()
        height, angle = data.qpos[1:3]
        up = height > 0.7 and abs(angle) < 0.2
        if family == "walker_mass":
            up = 0.8 < height < 2 and abs(angle) < 1
        steps += 1
    return steps, score


@pytest.mark.parametrize("family", TOPPLE)
def test_an_episode_ends_when_the_robot_falls(family):
    tasks = {"scale": np.array([0.5, 1.0, 2.25])}
    run = make_rollout(make_env(family), constant(*TOPPLE[family]), 2)
    played = run(None, no_adaptation(3, 2), tasks, jax.random.key(0))
    length = played.valid.sum(-1)
    assert len(np.unique(length)) > 1 and length.min() > 3
    for place in np.ndindex(*length.shape):
        obs, valid = played.obs[place][0].astype(float), played.valid[place]
        start = np.split(np.concatenate([[0], obs]), 2)
        steps, score = fallen_score(family, tasks["scale"][place[0]], start)
        assert steps == length[place] and score == pytest.approx(
            played.reward[place][valid].sum(), abs=1e-3
        )
        np.testing.assert_array_equal(np.flatnonzero(played.done[place] & valid), [steps - 1])


def test_zero_shot_scores_an_agent_whose_episodes_end_early():
    """Without noise at the start all episodes of an agent that does not adapt are alike."""
    policy = constant(*TOPPLE["hopper_mass"])
    code = Adaptation(jnp.zeros(1))
    method = Method(None, (), None, lambda *args: code, policy, Context(12))
    env = make_env("hopper_mass")
    env = env._replace(
        spec=env.spec._replace(max_episode_steps=40),
        draw_reset=lambda key: State(jnp.zeros(6), jnp.zeros(6)),
    )
    protocol = config.make(make_config.base(), "protocol", "zero_shot", method, env.spec)
    tasks = {"scale": np.array([1.0, 2.0])}
    evaluation = play.evaluation(protocol, env, 2)
    found = evaluation(None, None, Given(tasks), jax.random.key(0), jax.random.key(1)).played
    rest = np.array([0, 1.25, 0, 0, 0, 0]), np.zeros(6)
    for scale, returns, scored in zip(tasks["scale"], found.episode_return, found.scored):
        steps, score = fallen_score("hopper_mass", scale, rest)
        assert steps < 40 and scored.any(-1).all()
        np.testing.assert_allclose(returns[scored], score, atol=1e-3)
    assert not found.reached.any()


def test_one_and_two_threads_agree_bitwise():
    tasks = {"scale": np.array([0.5, 2.0])}
    played = []
    for threads in (1, 2):
        cfg = make_config.base(family="walker_friction", **{"simulator.threads": threads})
        env = make.make_env(cfg)
        env = env._replace(spec=env.spec._replace(max_episode_steps=20))
        run = make_rollout(env, still(6), 1)
        played.append(run(None, no_adaptation(2, 3), tasks, jax.random.key(0)))
    jax.tree.map(np.testing.assert_array_equal, *played)


def test_success_is_being_near_the_goal():
    """Ants start at the origin and stay there: goals 0.1 m away are met, others are not."""
    env = make_env("ant_semicircle_sparse")
    env = env._replace(spec=env.spec._replace(max_episode_steps=10))
    tasks = {"goal": np.array([[0.1, 0.0], [1.0, 0.0]])}
    run = make_rollout(env, still(8), 1)
    played = run(None, no_adaptation(2, 1), tasks, jax.random.key(0))
    assert played.success[0].all() and not played.success[1].any()
    np.testing.assert_array_equal(played.reward[:, 0, 0].sum(-1), [10, 0])
    assert not played.obs[:, :, :, 0, :2].any()


def collected(folder, family, *changes):
    source = f"--config={make_config.CONFIGS}/bc.py:{family},debug"
    folder = folder / family
    assert cli.main(["collect", source, f"--config.data.dir={folder}", *changes]) == 0
    return store.verify(folder)


def test_data_hold_episodes_that_end_early(tmp_path):
    random = "--config.collect.behavior=random", "--config.collect.random_episodes=4"
    data = collected(tmp_path, "hopper_mass", *random)
    length, done = np.asarray(data.fields["length"]), np.asarray(data.fields["done"])
    assert len(length) == 8 * 4 and length.min() > 3 and length.max() < 200
    assert done.sum() == len(length) == len(np.unique(length.cumsum()))
    assert data.manifest.split["ood_extreme"] == [7]
    assert data.manifest.tasks["scale"][7] == pytest.approx(1.5**-2)


@pytest.mark.slow
@pytest.mark.parametrize("family", ["ant_dir", "walker_param", "humanoid_dir"])
def test_debug_data_of_learners(family, tmp_path):
    data = collected(tmp_path, family)
    assert data.manifest.env_spec == make.spec_of(family, "default")
    assert np.isfinite(np.asarray(data.fields["reward"])).all()
