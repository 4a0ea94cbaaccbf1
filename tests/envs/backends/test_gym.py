"""Environments of gymnasium as a family: what a rollout records is what they showed and paid."""

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete

import make_config
from metastar.envs.backends import gym
from metastar.envs.rollout import make_rollout, no_adaptation
from metastar.errors import Diverged, UserError
from metastar.tools.render import recordings
from metastar.types import EnvSpec, Policy

SPEC = EnvSpec("walk", obs_dim=2, action_dim=1, max_episode_steps=5, done_ends_episode=True)
TASKS = {"speed": jnp.array([1.0, 2.0])}
POLICY = Policy(
    lambda params, adaptation: (),
    lambda params, adaptation, carry, step, key, greedy: (jnp.tanh(step.obs[:1]), carry),
)


class Walk(gymnasium.Env):
    """Shows place and push so far; terminates beyond `end`."""

    observation_space = Box(-np.inf, np.inf, (2,))
    action_space = Box(np.float32(1), np.float32(5), (1,))

    def __init__(self, speed, end=np.inf):
        self.speed, self.end, self.closed = speed, end, 0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.place, self.pushed = self.np_random.uniform(-1, 1), 0.0
        return np.array([self.place, 0.0]), {}

    def step(self, action):
        assert action.dtype == np.float32 and self.action_space.contains(action)
        assert self.place <= self.end and not self.closed
        self.place, self.pushed = self.place + 0.1 * self.speed, action[0]
        return self.seen(), self.paid(), self.place > self.end, self.cut(), {}

    def seen(self):
        return np.array([self.place, self.pushed])

    def paid(self):
        return self.place

    def cut(self):
        return False

    def close(self):
        self.closed += 1


def simulator(build, spec=SPEC):
    family = gym.family(spec, build, lambda tasks: ("speed", tasks["speed"]))
    return gym.make_env(family, "default", None)


def player(build):
    """Plays two episodes in two streams of each task; leaves [N, 2, 2, T, ...]."""
    run = make_rollout(simulator(build), POLICY, episodes=2)
    return lambda: run(None, no_adaptation(2, 2), TASKS, jax.random.key(0))


def test_a_rollout_is_what_the_environments_show_and_pay():
    built = []

    def build(task):
        built.append(Walk(task["speed"]))
        return built[-1]

    play_once = player(build)
    play = play_once()
    assert play.valid.all() and not play.done.any()
    assert len(np.unique(play.obs[..., 0, 0])) == 8  # every stream and episode starts elsewhere
    moved = play.next_obs[..., 0] - play.obs[..., 0]
    np.testing.assert_allclose(moved[0], 0.1, atol=1e-6)
    np.testing.assert_allclose(moved[1], 0.2, atol=1e-6)
    np.testing.assert_array_equal(play.reward, play.next_obs[..., 0])
    # Actions in [-1, 1] reach the environment in [1, 5].
    np.testing.assert_allclose(play.next_obs[..., 1:], 3 + 2 * play.action, atol=1e-5)
    np.testing.assert_allclose(play.action, np.tanh(play.obs[..., :1]), atol=1e-6)
    assert [env.closed for env in built] == [1] * (2 + 8)  # tried once a task, then one an episode
    np.testing.assert_array_equal(play_once().obs, play.obs)


def test_a_stream_that_terminated_is_left_alone():
    play = player(lambda task: Walk(task["speed"], end=1.0))()
    assert play.done.any() and not play.valid.all()
    valid, done = play.valid, play.done & play.valid
    np.testing.assert_array_equal(done[valid], play.next_obs[valid][:, 0] > 1)
    np.testing.assert_array_equal(valid, np.cumsum(done, -1) - done == 0)


def broken(**parts):
    """Builds walks of which some part is another one."""
    kind = type("Broken", (Walk,), parts)
    return lambda task: kind(task["speed"])


def fail(self, *args, **kwargs):
    raise RuntimeError("no\nbattery")


@pytest.mark.parametrize(
    "build, spec, message",
    [
        (lambda task: Walk(task["mass"]), SPEC, r"task 0 of the batch \(KeyError: 'mass'\); mend"),
        (lambda task: None, SPEC, "makes a NoneType of task 0"),
        (broken(), SPEC._replace(obs_dim=3), r"observation_space .* must be a Box of shape \(3,\)"),
        (broken(), SPEC._replace(action_dim=2), r"action_space .* must be a Box of shape \(2,\)"),
        (broken(action_space=Discrete(2)), SPEC, r"action_space .* is Discrete\(2\)"),
        (broken(action_space=Box(-np.inf, np.inf, (1,))), SPEC, "without bounds"),
        (lambda task: Walk([1.0][int(task["speed"]) - 1]), SPEC, r"task 1 of .*\(IndexError"),
    ],
)
def test_an_environment_that_does_not_fit_its_family_shows_before_it_is_played(
    build, spec, message
):
    with pytest.raises(UserError, match=message):
        simulator(build, spec).prepare(TASKS)


@pytest.mark.parametrize("reset", [fail, lambda self, **options: (np.zeros(3), {})])
def test_a_reset_that_fails_is_told(reset):
    with pytest.raises(UserError, match=r"fails in reset \((RuntimeError: no battery|ValueError)"):
        begun(broken(reset=reset))


def begun(build):
    """The simulator and the state of one stream of each task."""
    env = simulator(build)
    return env, env.reset(np.arange(2, dtype=np.uint32), TASKS, ())[0]


@pytest.mark.parametrize(
    "parts, message",
    [
        ({"step": fail}, r"fails in step \(RuntimeError: no battery\)"),
        ({"step": lambda self, action: None}, r"fails in step \(TypeError"),
        ({"seen": lambda self: [np.nan, 0]}, "fails in step .* finite numbers are due"),
        ({"seen": lambda self: np.zeros(3)}, r"\(2,\) finite numbers are due"),
        ({"paid": lambda self: np.inf}, "one finite number is due"),
        ({"paid": lambda self: np.zeros(1)}, "one finite number is due"),
        ({"cut": lambda self: True}, "cut its episode after 1 steps, .* max_episode_steps=5"),
    ],
)
def test_a_step_that_is_not_as_the_family_says_names_its_stream(parts, message):
    kind = type("Broken", (Walk,), parts)
    env, state = begun(lambda task: (kind if task["speed"] == 2 else Walk)(task["speed"]))
    with pytest.raises(Diverged, match=message) as error:
        env.step(state, np.zeros((2, 1)), TASKS, ())
    assert error.value.stream == 1 and "\n" not in error.value.reason


def test_a_terminal_that_the_family_does_not_know_is_told_with_task_and_step():
    spec = SPEC._replace(done_ends_episode=False)
    run = make_rollout(simulator(lambda task: Walk(task["speed"], end=1.0), spec), POLICY, 2)
    message = "terminated, but its EnvSpec lacks done_ends_episode=True, in task [01] of the batch"
    with pytest.raises(UserError, match=message):
        run(None, no_adaptation(2, 2), TASKS, jax.random.key(0))


def test_an_action_that_is_not_finite_names_its_stream():
    env, state = begun(broken())
    with pytest.raises(Diverged, match="the policy's action is not finite") as error:
        env.step(state, np.array([[0.0], [np.nan]]), TASKS, ())
    assert error.value.stream == 1


def test_a_film_of_it_is_refused_in_one_sentence(monkeypatch):
    env = simulator(broken())
    monkeypatch.setattr(recordings, "make_env", lambda cfg: env)
    family = gym.family(SPEC, broken(), lambda tasks: ("speed", tasks["speed"]))
    tasks = {"speed": np.array([1.0, 2.0])}
    cfg = make_config.base()
    subject = recordings.Subject(cfg, family, None, None, None, tasks, {"test": [0, 1]})
    _, play = recordings.of_random(subject, [0])
    with pytest.raises(UserError, match="cannot be drawn: its simulator has no model file"):
        play()
