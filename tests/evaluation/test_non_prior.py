"""The non-prior protocol on a stub: which steps make the context, and who acts when."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import make_config
from metastar.data.contexts import folded
from metastar.evaluation import history
from metastar.evaluation.protocols import non_prior
from metastar.types import Adaptation, Context, EnvSpec, Method, Policy, StepIn

SPEC = EnvSpec("stub", obs_dim=2, action_dim=1, max_episode_steps=5)
LENGTH = 4
GREEDY, DRAWN = 2.0, 3.0  # outside [-1, 1]: no uniform action


def stub(length=LENGTH, privileged=False):
    """Its code is the rewards of its context; its action tells whether it was to be greedy."""

    def infer(params, view, task, key):
        return Adaptation(jnp.where(view.valid, view.reward, 0).reshape(-1))

    def act(params, adaptation, carry, step, key, greedy):
        return jnp.where(greedy, GREEDY, DRAWN)[None], carry

    policy = Policy(lambda params, adaptation: (), act)
    return Method(None, (), None, infer, policy, Context(length), privileged=privileged)


def play(method, steps=9):
    """Rewards count the steps from 1; returns the actions and the codes acted on."""
    policy = non_prior.non_prior(method, SPEC)
    view = folded(history.empty_window(SPEC, LENGTH), method.context)
    start = method.infer(None, view, None, None)
    carry, actions, codes = policy.init(None, start), [], []
    act = jax.jit(lambda carry, step, key: policy.act(None, start, carry, step, key, True))
    for time in range(steps):
        step = StepIn(
            obs=jnp.array([0.0, time]),
            prev_action=jnp.zeros(1),
            prev_reward=jnp.array(float(time)),
            prev_next_obs=jnp.zeros(2),
            first=jnp.array(time % SPEC.max_episode_steps == 0),
            time=jnp.array(time),
        )
        action, carry = act(carry, step, jax.random.key(time))
        actions.append(float(action[0]))
        codes.append(np.asarray(carry.adaptation.code))
    return actions, codes


def test_half_uniform_half_drawn_and_then_greedy_on_the_full_context():
    actions, codes = play(stub())
    assert all(abs(a) < 1 for a in actions[:2])
    assert actions[2:4] == [DRAWN] * 2 and actions[4:] == [GREEDY] * 5
    np.testing.assert_array_equal(codes[1], [0, 0, 0, 0])
    np.testing.assert_array_equal(codes[2], [1, 2, 0, 0])
    np.testing.assert_array_equal(codes[3], [1, 2, 3, 0])
    for code in codes[4:]:  # over the reset, and never of later steps
        np.testing.assert_array_equal(code, [1, 2, 3, 4])


def test_a_privileged_method_keeps_what_it_was_given():
    _, codes = play(stub(privileged=True))
    assert not np.any(codes)


@pytest.mark.parametrize("length, budget, episodes", [(4, 5, 2), (5, 5, 2), (12, 12, 4)])
def test_episodes_are_scored_that_begin_after_the_context_is_full(length, budget, episodes):
    cfg = make_config.base(**{"eval.protocols": "non_prior"})
    found = non_prior.make(cfg, stub(length), SPEC)
    assert (found.budget, found.episodes) == (budget, episodes)
    assert found.inferences == 2 + length - length // 2
