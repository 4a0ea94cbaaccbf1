"""The contract of every file of `behaviors`, and what is particular to soft actor-critic."""

import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental import io_callback

import make_config
from metastar import config, registry
from metastar.collection import online
from metastar.collection.behavior import Behavior
from metastar.data.rows import Transitions
from metastar.envs.families import point_robot as family
from metastar.envs.make import make_env
from metastar.errors import UserError
from metastar.losses import td3
from metastar.models.nets.actor_critic import Actor, init_actor
from metastar.types import Agent, Learner, Trajectory

TASKS = jax.tree.map(jnp.asarray, family.draw_tasks(np.random.default_rng(0), 3))
LEARNERS = ("sac", "td3")


def make_cfg(name="sac", **fields):
    """`fields` of the section `collect`, or of a learner's own."""
    small = {
        "random_episodes": 4,
        "random_action_scale": 0.5,
        "iterations": 20,
        "episodes_per_iteration": 2,
        "updates_per_iteration": 50,
        "batch_size": 64,
        "lr": 1e-3,
        "tau": 0.02,
        "policy_delay": 1,
        "behaviors": "random,td3",
    }
    chosen = {"family": "point_robot", "collect.behavior": name}
    if name == "mixture":
        chosen["collect.mixture.behaviors"] = fields.get("behaviors", small["behaviors"])
    known = config.flatten(make_config.base(**chosen))
    values = {
        path: value
        for field, value in {**small, **fields}.items()
        for path in known
        if path.startswith("collect.") and path.endswith(f".{field}")
    }
    return make_config.base(**{**chosen, **values})


def make(name, env=None, **fields):
    cfg = make_cfg(name, **fields)
    return config.make(cfg, "behavior", name, env or make_env(cfg))


def quiet(line):
    pass


def check_learning(trajectory, policy, stage, collector):
    """The dense task is nearly solved after 1000 updates, and the stages tell."""
    np.testing.assert_array_equal(policy[0], [0] * 4 + [1] * 40)
    for row in stage:
        np.testing.assert_array_equal(np.bincount(row), [4, 20, 20])
    returns = trajectory.reward.sum(-1)
    start, goal = trajectory.obs[:, -10:, 0], np.asarray(TASKS["goal"])[:, None]
    best = family.optimum(start, {"goal": goal}).mean()
    assert returns[:, :4].mean() < 5 * best
    assert returns[:, -10:].mean() > 3.5 * best
    assert returns[stage == 1].mean() < returns[stage == 2].mean()
    np.testing.assert_array_equal(collector, np.broadcast_to([[0], [1], [2]], collector.shape))


@pytest.fixture
def log_compiles():
    """In every thread; `jax.log_compiles` is of one."""
    jax.config.update("jax_log_compiles", True)
    yield
    jax.config.update("jax_log_compiles", False)


@pytest.mark.parametrize("name", registry.names("behavior"))
def test_contract_of_a_behavior(name, caplog, log_compiles):
    lines = []
    behavior = make(name, iterations=20 if name in LEARNERS else 4)
    episodes = behavior.run(TASKS, jax.random.key(0), lines.append)
    again = behavior.run(TASKS, jax.random.key(0), quiet)
    other = behavior.run(TASKS, jax.random.key(1), quiet)
    compiled = [r.getMessage().split(" with ")[0] for r in caplog.records]
    assert compiled.count("Compiling jit(_learn_each)") == (name != "random")
    trajectory, policy, stage, collector = episodes
    num = policy.shape[1]
    assert policy.shape == stage.shape == collector.shape == (3, num) and lines
    assert trajectory.obs.shape == trajectory.next_obs.shape == (3, num, 60, 2)
    assert trajectory.action.shape == (3, num, 60, 2) and np.abs(trajectory.action).max() <= 1
    assert trajectory.reward.shape == trajectory.done.shape == (3, num, 60)
    assert policy.min() >= 0 and policy.max() < len(behavior.policies)
    assert stage.min() >= 0 and stage.max() < len(behavior.stages)
    for leaf in jax.tree.leaves(trajectory):
        assert isinstance(leaf, np.ndarray) and np.isfinite(leaf).all()
    goal = np.asarray(TASKS["goal"])[:, None, None]
    distance = np.linalg.norm(trajectory.next_obs - goal, axis=-1)
    np.testing.assert_allclose(trajectory.reward, -distance, atol=1e-5)
    np.testing.assert_array_equal(trajectory.obs[:, :, 1:], trajectory.next_obs[:, :, :-1])
    assert len(np.unique(trajectory.obs[:, :, 0, 0])) == 3 * num
    # Uniform actions are of the configured scale.
    uniform = trajectory.action[policy == behavior.policies.index("random")]
    assert 0.49 < np.abs(uniform).max() <= 0.5
    jax.tree.map(np.testing.assert_array_equal, episodes, again)
    assert not np.array_equal(trajectory.obs, other.trajectory.obs)
    if name in LEARNERS:
        check_learning(*episodes)


def test_a_mixture_tags_every_episode_with_its_policy_and_stage():
    behavior = make("mixture", behaviors="td3, random", iterations=2)
    assert behavior.policies == ("random", "td3") and behavior.stages == online.STAGES
    episodes = behavior.run(TASKS, jax.random.key(0), quiet)
    np.testing.assert_array_equal(episodes.policy[1], [0] * 4 + [1] * 4 + [0] * 4)
    np.testing.assert_array_equal(episodes.stage[1][[0, 3, 8, 11]], 0)
    assert set(episodes.stage[1][4:8]) == {1, 2}
    assert behavior.stages[episodes.stage[0, -1]] == behavior.policies[episodes.policy[0, -1]]


@pytest.mark.parametrize("names", ["sac,sac", "sac,mixture", "sac,,td3", "sac,tdd3"])
def test_bad_mixtures_are_refused(names):
    with pytest.raises(UserError, match=r"collect\.mixture\.behaviors is|unknown behavior"):
        make("mixture", behaviors=names)


def test_one_learner_of_all_tasks_is_told_which_it_plays():
    behavior = make("td3", shared_learner=True, iterations=30, cross_task_episodes=4)
    episodes = behavior.run(TASKS, jax.random.key(0), quiet)
    end, goal = episodes.trajectory.next_obs[:, :, -1], np.asarray(TASKS["goal"])
    distance = np.linalg.norm(end[:, :, None] - goal, axis=-1)  # [task, episode, goal]
    own = np.take_along_axis(distance, episodes.collector[..., None], -1)[..., 0]
    assert own[:, :4].mean() > 0.7  # random
    assert own[:, 54:].mean() < 0.3  # the last ten, and the cross-task ones
    assert (episodes.collector[:, 64:] != np.arange(3)[:, None]).all()


def test_cross_task_episodes_are_played_by_the_learner_of_another_task():
    behavior = make("sac", cross_task_episodes=6)
    assert behavior.policies == ("random", "sac", "cross_task")
    episodes = behavior.run(TASKS, jax.random.key(0), quiet)
    crossed = jax.tree.map(lambda x: x[:, 44:], episodes)
    assert (episodes.policy[:, :44] < 2).all()
    assert (crossed.policy == 2).all() and (crossed.stage == 2).all()
    task = np.arange(3)[:, None]
    assert (crossed.collector != task).all() and len(np.unique(crossed.collector[0])) == 2
    # A learner walks to the goal of its own task, so it ends nearer to that than to this one's.
    end, goal = crossed.trajectory.next_obs[:, :, -1], np.asarray(TASKS["goal"])
    to_collectors = np.linalg.norm(end - goal[crossed.collector], axis=-1)
    to_this = np.linalg.norm(end - goal[task], axis=-1)
    assert to_collectors.mean() < 0.5 * to_this.mean()
    distance = np.linalg.norm(crossed.trajectory.next_obs - goal[task][:, :, None], axis=-1)
    np.testing.assert_allclose(crossed.trajectory.reward, -distance, atol=1e-5)
    with pytest.raises(UserError, match="at least two tasks"):
        behavior.run({"goal": jnp.zeros((1, 2))}, jax.random.key(0), quiet)


def test_stages_split_the_smoothed_return_at_a_quantile():
    ramp = np.arange(40.0)
    flat = np.zeros(40)
    fall = ramp[::-1]
    stage = online.split_stages(np.stack([ramp, flat, fall]), 0.5)
    half = [1] * 20 + [2] * 20
    np.testing.assert_array_equal(stage, [half, half, half[::-1]])
    noisy = ramp + 15 * (-1) ** np.arange(40)
    assert (online.split_stages(noisy[None], 0.5)[0, :15] == 1).all()
    np.testing.assert_array_equal(online.split_stages(ramp[None], 0.75)[0], [1] * 30 + [2] * 10)


def short_env():
    """The point robot whose episodes end once it is within 0.5 of the goal."""
    env = make_env(make_cfg())

    def step(state, action, task, physics):
        state, out = env.step(state, action, task, physics)
        return state, out._replace(done=out.reward > -0.5)

    return env._replace(spec=env.spec._replace(done_ends_episode=True), step=step)


def test_episodes_of_different_lengths_are_exact():
    episodes = make("sac", env=short_env(), iterations=4).run(TASKS, jax.random.key(0), quiet)
    steps = episodes.trajectory
    length = steps.valid.sum(-1)
    assert len(np.unique(length)) > 3
    np.testing.assert_array_equal(steps.valid, np.arange(60) < length[..., None])
    ends = np.take_along_axis(steps.done, length[..., None] - 1, -1)[..., 0]
    np.testing.assert_array_equal(ends, length < 60)


def test_updates_draw_every_valid_transition_and_no_other():
    # Two episodes of 3 and 1 valid steps and room for a third; each row is told by its reward.
    # The learner counts what it is shown.
    valid = jnp.array([[1, 1, 1, 0], [1, 0, 0, 0], [0, 0, 0, 0]], bool)
    reward = jnp.arange(12.0).reshape(3, 4)
    place = reward[..., None]
    replay = Trajectory(place, place, reward, place, valid, valid)

    def count(seen, rows, key, hp, step):
        return seen.at[rows.reward.astype(int)].add(1), {}

    algorithm = online.Algorithm("counter", Agent(None, count, None, None), {}, batch_size=64)
    collect = make_cfg(updates_per_iteration=50).collect
    code = jnp.zeros((3, 0))
    seen = online._learn(algorithm, collect, jnp.zeros(12), replay, code, 0, jax.random.key(0))
    assert set(np.flatnonzero(seen)) == {0, 1, 2, 4}
    np.testing.assert_allclose(seen[jnp.array([0, 1, 2, 4])] / 3200, 0.25, atol=0.04)


def test_simulator_and_learners_work_at_the_same_time():
    # An update waits for the simulator to play on: it would wait in vain if it came first.
    env, played, met = make_env(make_cfg()), threading.Event(), []
    reset, simulate = jax.jit(jax.vmap(env.reset)), jax.jit(jax.vmap(env.step))
    steps = iter(range(1000))

    def step(*args):
        if next(steps) > 60:  # the random episode is over
            played.set()
        return jax.device_get(simulate(*args))

    def update(learner, rows, key, hp, step):
        io_callback(lambda: met.append(played.wait(20)), None)
        return learner, {}

    agent = Agent(
        init=lambda key, size: Learner(jnp.zeros(2)),
        update=update,
        export=lambda learner: learner.params,
        act=lambda params, obs_code, noise, greedy: noise,
    )
    algorithm = online.Algorithm("waiter", agent, {}, 64)
    cfg = make_cfg(random_episodes=1, iterations=1, updates_per_iteration=1, shared_learner=True)
    host = env._replace(on_host=True, step=step, reset=lambda *args: jax.device_get(reset(*args)))
    online.make(algorithm, cfg.collect, host).run(TASKS, jax.random.key(0), quiet)
    assert met == [True]


def test_td3_smooths_the_target_and_delays_the_actor():
    own = {"smoothing_noise": 0.2, "smoothing_clip": 0.3}
    actor = Actor((8,), 2)
    params = jax.tree.map(jnp.zeros_like, init_actor(jax.random.key(0), actor, 3))
    noise = jnp.array([[1.0, -0.5], [9.0, -9.0]])
    action, entropy = td3.smoothed_action(own, actor, params, jnp.zeros((2, 3)), noise)
    np.testing.assert_allclose(action, [[0.2, -0.1], [0.3, -0.3]], atol=1e-6)
    assert not entropy.any()
    moved = []
    algorithm = captured("td3", make_cfg("td3", policy_delay=2))
    learner = algorithm.agent.init(jax.random.key(0), 2)
    rows = Transitions(
        obs_code=jnp.ones((4, 2)),
        action=jnp.zeros((4, 2)),
        reward=jnp.ones(4),
        next_obs_code=jnp.ones((4, 2)),
        done=jnp.zeros(4, bool),
        real=jnp.ones(4, bool),
    )
    update = jax.jit(algorithm.agent.update)
    for number in range(3):
        after, _ = update(learner, rows, jax.random.key(1), algorithm.hp, number)
        same = jax.tree.map(lambda a, b: bool((a == b).all()), after, learner)
        assert not all(jax.tree.leaves(same.params["critic"]))
        targets = (same.params["actor"], same.target["actor"], same.target["critic"])
        moved.append([not all(jax.tree.leaves(part)) for part in targets])
    np.testing.assert_array_equal(moved, [[True] * 3, [False] * 3, [True] * 3])


@pytest.mark.parametrize("name", LEARNERS)
def test_critics_have_layer_norm_where_that_is_asked_for_and_actors_never(name):
    def modules(**fields):
        agent = captured(name, make_cfg(name, **fields)).agent
        params = agent.init(jax.random.key(0), 2).params
        return {part: str(jax.tree.structure(params[part])) for part in ("actor", "critic")}

    plain, normed = modules(), modules(critic_layers="norm_mish")
    assert "norm" not in plain["critic"] and "hidden_0_norm" in normed["critic"]
    assert plain["actor"] == normed["actor"]


def captured(name, cfg):
    """The algorithm that a file of behaviours gives to the shared loop."""
    found = []
    with pytest.MonkeyPatch.context() as patch:
        made = Behavior((), (), None)
        patch.setattr(online, "make", lambda algorithm, *rest: found.append(algorithm) or made)
        config.make(cfg, "behavior", name, make_env(cfg))
    return found[0]
