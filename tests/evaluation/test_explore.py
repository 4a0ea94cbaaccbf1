"""Purposeful exploration on a stub: a row of buttons, one of which pays; pressing button k is all
that acting on code k does."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metastar import registry
from metastar.errors import UserError
from metastar.evaluation import belief
from metastar.evaluation.exploration import information
from metastar.evaluation.protocols import explored
from metastar.types import Adaptation, Context, EnvSpec, Method, Policy, StepIn, TaskModel
from synthetic import point_robot_data

LENGTH, EPISODE = 4, 30
SPEC = EnvSpec("buttons", obs_dim=1, action_dim=1, max_episode_steps=EPISODE)
BUTTONS = [0, 1, 3, 6, 10, 15, 21, 28, 36, 45]  # no two neighbours of one are equally far
BANK = jnp.array(BUTTONS, float)[:, None]
KEY = jax.random.key(0)
STRATEGIES = registry.names(explored.STRATEGY)
SURE = 6.0  # a reward that is off by 1 is this many standard deviations off


def infer(params, view, task, key):
    """The code is the button that paid, within the window; -1 if none did."""
    paid = (view.reward > 0) & view.valid
    button = jnp.max(jnp.where(paid, view.action[..., 0], -1))
    return Adaptation(jnp.where(paid.any(), button, -1)[None])


def press(params, adaptation, carry, step, key, greedy):
    return adaptation.code, carry


MODEL = TaskModel(
    next_obs=lambda params, obs, action, code: jnp.tile(obs[None], (code.shape[0], 1)),
    reward=lambda params, obs, action, next_obs, code: (code[:, 0] == action[0]).astype(float),
    likelihood_std=1 / SURE,
)
POLICY = Policy(lambda params, a: (), press)
METHOD = Method(None, (), None, infer, POLICY, Context(LENGTH), task_model=MODEL)
BLIND = METHOD._replace(task_model=None)
PROTOCOLS = {name: explored.exploring(METHOD, name, SPEC) for name in STRATEGIES}
JITTED = {
    name: jax.jit(
        lambda *args, p=p: p.act(None, explored.Explorer(jnp.zeros(1), args[0]), *args[1:])
    )
    for name, p in PROTOCOLS.items()
}


def begin(name="posterior", bank=BANK):
    return PROTOCOLS[name].init(None, explored.Explorer(jnp.zeros(1), bank))


def play(pays, steps, bank=BANK, seed=0, name="posterior", episode=10**6, act=None):
    """The buttons pressed, and the memory at the end."""
    memory, act = begin(name, bank), act or JITTED[name]
    action, reward, pressed = jnp.zeros(1), jnp.zeros(()), []
    for t in range(steps):
        obs = jnp.zeros(1)
        step = StepIn(obs, action, reward, obs, jnp.asarray(t % episode == 0))
        key = jax.random.fold_in(jax.random.key(seed), t)
        action, memory = act(bank, memory, step, key, True)
        pressed.append(int(action[0]))
        reward = (action[0] == pays).astype(float)
    return pressed, memory


def test_it_sweeps_what_is_plausible_and_stays_with_what_pays():
    pressed, memory = play(pays=45, steps=15)
    found = pressed.index(45)
    left = set(BUTTONS)
    for now, after in itertools.pairwise(pressed[: found + 1]):
        left.remove(now)  # nothing is tried twice
        assert after == min(left, key=lambda button: abs(button - now))
    assert pressed[found:] == [45] * (15 - found)
    assert BUTTONS[jnp.argmax(memory.log_posterior)] == 45


@pytest.mark.parametrize("name", ["posterior", "information"])
def test_the_order_of_the_bank_does_not_matter(name):
    shuffled = jax.random.permutation(jax.random.key(1), BANK)
    found = {}
    for bank in (BANK, shuffled):
        for seed in range(12):
            pressed, _ = play(pays=6, steps=12, bank=bank, seed=seed, name=name)
            assert pressed[-1] == 6
            found.setdefault(pressed[0], set()).add(tuple(pressed))
    assert len(found) > 3
    if name == "posterior":  # the other one draws its candidates
        assert all(len(ways) == 1 for ways in found.values())


def test_the_informative_segment_is_kept_after_the_window_has_moved_on():
    memory, obs = begin(), jnp.zeros(1)
    step = StepIn(obs, obs, jnp.zeros(()), obs, jnp.asarray(True))
    _, memory = JITTED["posterior"](BANK, memory, step, KEY, True)
    told = [(6.0, 1.0)] + 8 * [(-7.0, 0.0)]  # a press that pays, then some that tell nothing
    for button, reward in told:
        step = StepIn(obs, jnp.array([button]), jnp.array(reward), obs, jnp.asarray(False))
        action, memory = JITTED["posterior"](BANK, memory, step, KEY, True)
    assert (memory.window.action == -7).all()
    assert (memory.best.action[memory.best.valid] == 6).any()
    assert action[0] == 6
    now = belief.informative(memory.window, memory.likelihood)
    assert memory.score > 0.9 and now < 1e-6


def test_one_step_rules_out_so_much_and_no_more():
    """A wrong model may be as sure as it likes."""
    sure = METHOD._replace(task_model=MODEL._replace(likelihood_std=1e-3))
    protocol = explored.exploring(sure, "posterior", SPEC)
    explorer = explored.Explorer(jnp.zeros(1), BANK)
    act = jax.jit(lambda bank, *args: protocol.act(None, explorer, *args))
    _, memory = play(pays=-1, steps=2, act=act)
    spread = memory.log_posterior.max() - memory.log_posterior.min()
    np.testing.assert_allclose(spread, belief.MAX_EVIDENCE, rtol=1e-5)


@pytest.mark.parametrize("name", STRATEGIES)
def test_every_strategy_acts_on_codes_of_the_bank_and_repeats_itself(name):
    pressed, memory = play(pays=-1, steps=8, name=name)
    assert set(pressed) <= set(BUTTONS)
    again, same = play(pays=-1, steps=8, name=name)
    assert pressed == again
    jax.tree.map(np.testing.assert_array_equal, memory, same)
    assert memory.num_steps == 8


def test_the_sweep_gives_every_code_its_share_of_the_first_episode():
    pressed, _ = play(pays=-1, steps=EPISODE, name="bank_swept")
    tried = [button for button, _ in itertools.groupby(pressed)]
    assert sorted(tried) == BUTTONS and len(pressed) == 3 * len(tried)
    left = set(BUTTONS)
    for now, after in itertools.pairwise(tried):
        left.remove(now)
        assert after == min(left, key=lambda button: abs(button - now))


def test_sampled_codes_are_uniform_and_held():
    firsts = []
    for seed in range(40):
        pressed, _ = play(pays=-1, steps=7, name="bank_sampled", seed=seed)
        assert len(set(pressed[:6])) == 1  # 30 steps, five codes
        firsts.append(pressed[0])
    assert len(set(firsts)) >= 8


def test_idaq_tries_codes_that_differ():
    """Each new try is farther from those before than most of the bank is."""
    tried, gaps = [], []
    for seed in range(5):
        pressed, _ = play(pays=-1, steps=EPISODE, name="idaq", seed=seed)
        tried = [button for button, _ in itertools.groupby(pressed)]
        assert len(tried) == len(set(tried)) == 5
        for i in range(1, 5):
            apart = [min(abs(b - t) for t in tried[:i]) for b in BUTTONS]
            gaps.append(np.mean(np.array(apart) <= apart[BUTTONS.index(tried[i])]))
    assert np.mean(gaps) > 0.75


@pytest.mark.parametrize("name", ["bank_swept", "bank_sampled", "idaq"])
def test_the_second_episode_acts_on_what_the_first_found(name):
    """Also without a model, by the returns of what was seen."""
    protocol = explored.exploring(BLIND, name, SPEC)
    act = jax.jit(
        lambda bank, *args: protocol.act(None, explored.Explorer(jnp.zeros(1), bank), *args)
    )
    pays = play(0, EPISODE, name=name, act=act)[0][10]  # a button that this seed tries
    pressed, memory = play(pays, EPISODE + 5, name=name, episode=EPISODE, act=act)
    assert pays in pressed[:EPISODE] and set(pressed[EPISODE:]) == {pays}
    assert memory.score == LENGTH  # every step of the best window paid
    np.testing.assert_allclose(memory.log_posterior, -np.log(len(BUTTONS)), rtol=1e-6)


def test_a_segment_as_expected_scores_higher_than_a_surprise():
    """Of three windows: promised and paid, promised and not paid, not yet full."""
    window = jax.tree.map(lambda x: x, begin().window)
    full = window._replace(valid=jnp.ones(LENGTH, bool))
    paid = jnp.zeros((LENGTH, 11)).at[:, :10].set(-9)
    surprised = jnp.zeros((LENGTH, 11)).at[:, -1].set(-(SURE**2) / 2)
    scores = [belief.expected(*x) for x in ((full, paid), (full, surprised), (window, paid))]
    assert scores == [0, -(SURE**2) / 2, -jnp.inf]


def test_expected_information_by_hand():
    """Three tasks of which the rewards tell the first from the others by one unit: E = 1/2."""
    p = np.array([0.5, 0.25, 0.25])
    found = information.expected_information(jnp.log(p), jnp.array([[1.0, 0.0, 0.0]]))
    down = np.exp(-0.5)

    def entropy(weight):
        weight = weight / weight.sum()
        return -(weight * np.log(weight)).sum()

    after = 0.5 * entropy(p * [1, down, down]) + 0.5 * entropy(p * [down, 1, 1])
    np.testing.assert_allclose(found, entropy(p) - after, rtol=1e-5)


def test_information_goes_where_tasks_would_pay_differently():
    """Button 0 pays in no task, whatever the bank says: only the other candidates promise."""
    model = MODEL._replace(
        reward=lambda params, obs, action, next_obs, code: jnp.where(
            action[0] == 0, 0.0, (code[:, 0] == action[0]).astype(float)
        )
    )
    protocol = explored.exploring(METHOD._replace(task_model=model), "information", SPEC)
    act = jax.jit(
        lambda bank, *args: protocol.act(None, explored.Explorer(jnp.zeros(1), bank), *args)
    )
    firsts = [play(6, 1, name="information", seed=seed, act=act)[0][0] for seed in range(20)]
    assert 0 not in firsts and len(set(firsts)) > 3
    drawn = [play(6, 1, seed=seed)[0][0] for seed in range(20)]
    assert 0 in drawn  # posterior sampling does not look ahead


def test_the_bank_holds_the_best_window_of_each_task():
    data = point_robot_data(num_tasks=3)
    method = METHOD._replace(
        context=Context(6),
        infer=lambda params, view, task, key: Adaptation(view.reward.sum()[None]),
    )
    bank = belief.make_bank(method)(None, data, KEY)
    assert bank.shape == (3, 1)
    reward = np.asarray(data.reward)
    best = [max(row[i : i + 6].sum() for i in range(row.size - 5)) for row in reward]
    assert (bank[:, 0] >= np.array(best) - 1).all()


def test_a_strategy_that_needs_a_model_names_those_that_do_not():
    with pytest.raises(UserError, match=r"task_losses\.reconstruction above 0") as error:
        explored.exploring(BLIND, "posterior", SPEC)
    assert "bank_sampled, bank_swept, idaq, which need none" in str(error.value)


def test_an_unknown_strategy_is_met_with_a_suggestion():
    with pytest.raises(UserError, match="did you mean 'posterior'"):
        explored.expect_fit(METHOD, "posteriour")
