"""IDAQ over several episodes on a stub: acting on code k presses button k, and one button pays."""

from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import make_config
from metastar import config
from metastar.envs.rollout import make_rollout
from metastar.errors import UserError
from metastar.evaluation import episodes as play
from metastar.evaluation import history, predictions
from metastar.evaluation.protocols import idaq
from metastar.types import Adaptation, Context, Env, EnvSpec, Method, Policy, StepOut, TaskModel

STEPS, EXPLORE, BUDGET = 4, 3, 5
BANK = jnp.array([-1.0, -0.7, -0.2, 0.1, 0.5, 0.9])[:, None]
NOTHING = 0.3  # the code of a context in which nothing paid: no button


def world(early=False):
    """A button pays 1; with `early` an episode has two steps in place of four."""

    def step(state, action, task, physics):
        paid = jnp.isclose(action[0], task["pays"]).astype(float)
        return state + 1, StepOut(state[None] + 1, paid, early & (state >= 1))

    spec = EnvSpec("buttons", 1, 1, STEPS, done_ends_episode=early)
    start = lambda noise, task, physics: (noise, noise[None])  # noqa: E731
    return Env(spec, lambda key: jnp.zeros(()), start, step)


def infer(params, view, task, key):
    paid = ((view.reward > 0) & view.valid).reshape(-1)
    button = view.action.reshape(-1)[jnp.argmax(paid)]
    return Adaptation(jnp.where(paid.any(), button, NOTHING)[None])


MODEL = TaskModel(
    next_obs=lambda params, obs, action, code: jnp.tile(obs[None] + 1, (code.shape[0], 1)),
    reward=lambda params, obs, action, next_obs, code: jnp.isclose(code[:, 0], action[0]) * 1.0,
    likelihood_std=1.0,
)
POLICY = Policy(lambda params, a: (), lambda p, a, carry, *_: (a.code, carry))
METHOD = Method(None, (), None, infer, POLICY, Context(STEPS, ordered=False), task_model=MODEL)


def protocol(method=METHOD, early=False, **fields):
    values = {"idaq_budget": BUDGET, "idaq_explore": EXPLORE, "idaq_candidates": 12, **fields}
    values = {f"eval.{name}": x for name, x in values.items()}
    cfg = make_config.base(**{"eval.protocols": "idaq", **values})
    config.validate(cfg)
    return config.make(cfg, "protocol", "idaq", method, world(early).spec)


@cache
def runner(early, **fields):
    found = protocol(early=early, **fields)
    run = make_rollout(world(early), found.policy, found.episodes)
    return partial(run, None, idaq.Known(BANK[None, None])), found.budget


def pressed(pays, early=False, **fields):
    """The buttons [E] of one stream, always under the same key, and what is reported of it."""
    run, budget = runner(early, **fields)
    steps = run({"pays": jnp.array([pays], float)}, jax.random.key(1))
    action = np.asarray(steps.action)[0, 0, ..., 0]
    assert (action[:, :2] == action[:, :1]).all()  # codes change between episodes alone
    return action[:, 0], play._digest(budget, steps)


@pytest.fixture(scope="module")
def tried():
    """What is explored, in order; it depends on no reward."""
    explored = pressed(2.0)[0][:EXPLORE]
    assert len(set(explored)) == EXPLORE and set(explored) <= set(np.asarray(BANK)[:, 0])
    for i in range(1, EXPLORE):
        apart = np.abs(np.asarray(BANK) - explored[None, :i]).min(-1)
        gap = np.abs(explored[i] - explored[:i]).min()
        assert (apart <= gap).mean() > 0.6  # the farthest of those drawn
    return explored


@pytest.mark.parametrize("score", ["return", "error"])
def test_the_best_episode_is_the_context_whenever_it_was_played(tried, score):
    for pays in tried:
        buttons, digest = pressed(float(pays), idaq_score=score)
        assert buttons.tolist() == [*tried, *[pays] * (BUDGET + 1 - EXPLORE)]
        assert digest.scored[0, 0].tolist() == [False] * BUDGET + [True]


def test_a_worse_own_code_is_given_up(tried):
    """Nothing pays: the code of an empty-handed context is tried once, then the first one again."""
    nothing = np.float32(NOTHING)
    assert pressed(2.0)[0].tolist() == [*tried, nothing, tried[0], tried[0]]
    buttons, _ = pressed(2.0, idaq_explore=BUDGET, idaq_final="posterior")
    assert buttons[-1] == nothing


def test_where_episodes_end_early_as_many_explore_and_the_budget_is_of_steps(tried):
    buttons, digest = pressed(float(tried[1]), early=True)
    assert (buttons[:EXPLORE] == tried).all() and (buttons[EXPLORE:] == tried[1]).all()
    scored = np.asarray(digest.scored)[0, 0]
    assert scored.argmax() == BUDGET * STEPS // 2 and scored[BUDGET * STEPS // 2 :].all()


def rows(rewards, capacity):
    """A window of these steps, the rest of it padding."""
    view = history.empty_window(world().spec, capacity)
    num = len(rewards)
    reward = view.reward.at[:num].set(jnp.array(rewards, float))
    return view._replace(reward=reward, valid=jnp.arange(capacity) < num)


@pytest.mark.parametrize(
    "old, new, expected", [([], [1, 2], [1, 2]), ([7, 8], [1, 2], [7, 8, 1, 2])]
)
def test_a_context_grows_behind(old, new, expected):
    found = idaq.appended(rows(old, 5), rows(new, STEPS))
    assert found.valid.tolist() == [i < len(expected) for i in range(5)]
    assert found.reward[: len(expected)].tolist() == expected


def test_a_context_holds_the_newest_steps():
    found = idaq.appended(rows([7, 8, 9], 5), rows([1, 2, 3, 4], STEPS))
    assert found.valid.all() and found.reward.tolist() == [9, 1, 2, 3, 4]


def test_padding_of_an_episode_scores_nowhere():
    """The same episode with garbage behind its end."""
    padded = rows([1, 0], STEPS)._replace(reward=jnp.array([1.0, 0, 9, 9]))
    for name in predictions.SCORES:
        score = predictions.scorer(name, METHOD, "time")
        np.testing.assert_allclose(
            *(score(None, x, BANK[0]) for x in (padded, rows([1, 0], STEPS)))
        )


@pytest.mark.parametrize(
    "method, fields, sentence",
    [
        (METHOD, {"idaq_explore": 6}, "is 6, but the budget before the scored episode is"),
        (METHOD, {"idaq_explore": 0}, "must lie in [1, inf)"),  # no episode to infer from
        (METHOD._replace(task_model=None), {"idaq_score": "error"}, "this run's method has none"),
        (
            METHOD._replace(task_model=None),
            {"idaq_score": "spread"},
            "set eval.idaq_score='return'",
        ),
        (METHOD, {"idaq_score": "spread"}, "is over the members of an ensemble, and this run's"),
        (METHOD._replace(privileged=True), {}, "this run's method is told it"),
        (METHOD._replace(context=Context(4)), {"idaq_context": 8}, "takes 1 windows of 4 steps"),
    ],
)
def test_what_cannot_be_is_one_sentence(method, fields, sentence):
    with pytest.raises(UserError) as caught:
        protocol(method, **fields)
    assert sentence in str(caught.value) and "\n" not in str(caught.value)


def test_a_method_without_codes_is_refused():
    found = protocol(METHOD._replace(infer=lambda *args: {"place": jnp.zeros(1)}))
    with pytest.raises(UserError, match="protocol 'idaq' needs task codes"):
        found.prepare(None, None, None, 1, jax.random.key(0))
