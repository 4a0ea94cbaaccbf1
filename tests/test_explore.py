"""Purposeful exploration on a stub: a row of buttons, one of which pays; pressing button k is all
that acting on code k does."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metastar import config, explore
from metastar.errors import UserError
from metastar.types import Adaptation, EnvSpec, Method, Policy, StepIn
from synthetic import point_robot_data

LENGTH = 4
SPEC = EnvSpec("buttons", obs_dim=1, action_dim=1, max_episode_steps=30)
BUTTONS = [0, 1, 3, 6, 10, 15, 21, 28, 36, 45]  # no two neighbours of one are equally far
BANK = jnp.array(BUTTONS, float)[:, None]
KEY = jax.random.key(0)


def infer(params, view, task, key):
    """The code is the button that paid, within the window; -1 if none did."""
    paid = (view.reward > 0) & view.valid
    button = jnp.max(jnp.where(paid, view.action[:, 0], -1))
    return Adaptation(jnp.where(paid.any(), button, -1)[None])


def evidence(params, obs, action, reward, next_obs, code):
    """`params` is how sure the model is."""
    expected = (code[:, 0] == action[0]).astype(float)
    return -params * (reward - expected) ** 2


def press(params, adaptation, carry, step, key, greedy):
    return adaptation.code, carry


POLICY = Policy(lambda params, a: (), press)
METHOD = Method((), None, (), None, infer, POLICY, evidence=evidence)
PROTOCOL = explore.posterior_sampling(METHOD, LENGTH, SPEC)


@jax.jit
def one_step(sure, bank, memory, step, key):
    return PROTOCOL.act(sure, explore.Explorer(jnp.zeros(1), bank), memory, step, key, True)


def play(pays, steps, bank=BANK, seed=0, sure=20.0):
    """The buttons pressed, and the memory at the end."""
    memory = PROTOCOL.init(sure, explore.Explorer(jnp.zeros(1), bank))
    action, reward, pressed = jnp.zeros(1), jnp.zeros(()), []
    for t in range(steps):
        obs = jnp.zeros(1)
        step = StepIn(obs, action, reward, obs, jnp.asarray(t == 0))
        key = jax.random.fold_in(jax.random.key(seed), t)
        action, memory = one_step(sure, bank, memory, step, key)
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


def test_the_order_of_the_bank_does_not_matter():
    shuffled = jax.random.permutation(jax.random.key(1), BANK)
    found = {}
    for bank in (BANK, shuffled):
        for seed in range(12):
            pressed, _ = play(pays=6, steps=12, bank=bank, seed=seed)
            assert pressed[-1] == 6
            found.setdefault(pressed[0], set()).add(tuple(pressed))
    assert len(found) > 3 and all(len(ways) == 1 for ways in found.values())


def test_the_informative_stretch_is_kept_after_the_window_has_moved_on():
    memory, obs = PROTOCOL.init(20.0, explore.Explorer(jnp.zeros(1), BANK)), jnp.zeros(1)
    step = StepIn(obs, obs, jnp.zeros(()), obs, jnp.asarray(True))
    _, memory = one_step(20.0, BANK, memory, step, KEY)
    told = [(6.0, 1.0)] + 8 * [(-7.0, 0.0)]  # a press that pays, then some that tell nothing
    for button, reward in told:
        step = StepIn(obs, jnp.array([button]), jnp.array(reward), obs, jnp.asarray(False))
        action, memory = one_step(20.0, BANK, memory, step, KEY)
    assert (memory.window.action == -7).all()
    assert (memory.best.action[memory.best.valid] == 6).any()
    assert action[0] == 6
    assert memory.best_information > 0.9 and explore.information(memory.evidence) < 1e-6


def test_one_step_rules_out_so_much_and_no_more():
    """A wrong model may be as sure as it likes."""
    _, memory = play(pays=-1, steps=2, sure=1e6)
    spread = memory.log_posterior.max() - memory.log_posterior.min()
    np.testing.assert_allclose(spread, explore.MAX_EVIDENCE, rtol=1e-5)


def test_the_bank_holds_the_best_window_of_each_task():
    cfg = config.base()
    cfg.world_model.context_len = 6
    data = point_robot_data(num_tasks=3)
    method = METHOD._replace(
        infer=lambda params, view, task, key: Adaptation(view.reward.sum()[None])
    )
    bank = explore.make_bank(cfg, method)(None, data, KEY)
    assert bank.shape == (3, 1)
    reward = np.asarray(data.reward).reshape(3, -1)
    best = [max(row[i : i + 6].sum() for i in range(row.size - 5)) for row in reward]
    assert (bank[:, 0] >= np.array(best) - 1).all()


def test_a_method_without_a_model_cannot_explore():
    with pytest.raises(UserError, match=r"task_losses\.reconstruction above 0"):
        explore.posterior_sampling(METHOD._replace(evidence=None), LENGTH, SPEC)
