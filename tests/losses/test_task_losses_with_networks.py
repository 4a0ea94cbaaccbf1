"""What is particular to each loss that has networks of its own or looks at behaviour.

Each comes with a twin that is broken on purpose and must fail the same check.
"""

from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from metastar import registry
from metastar.errors import UserError
from metastar.losses import objective
from metastar.losses.task import (
    adversary,
    classification,
    club,
    conditional_entropy,
    mmd,
    reconstruction,
    spread,
)
from metastar.ops.contrastive import behavior_mmd
from metastar.types import Batch, Opponent, TaskLoss
from model_helpers import SPEC, as_codes, make_loss, random_batch, random_view, tiny_cfg

CFG = tiny_cfg()
KEY = jax.random.key(0)
SPEC2 = SPEC._replace(num_policies=2, num_behaviors=2, num_tasks=3)
VIEWS = ("context", "positive")


def value_fn(task_loss, batch, params):
    noise = task_loss.draw_noise(KEY, batch)
    return jax.jit(lambda codes: task_loss.loss(params, as_codes(**codes), batch, noise, {})[0])


def fit(task_loss, codes, batch):
    """Trains a loss's networks or its opponent, the codes held; returns them and all metrics."""
    return fitter(task_loss)(as_codes(**codes), batch)


@cache
def fitter(task_loss):
    """That as one program of (codes, batch)."""
    optimizer, opponent = optax.adam(1e-2), task_loss.opponent

    @jax.jit
    def run(codes, batch):
        noise = task_loss.draw_noise(KEY, batch)

        def own_loss(params):
            if opponent:
                return opponent.loss(params, codes, batch, noise)
            return task_loss.loss(params, codes, batch, noise, {})

        def step(state, _):
            params, opt_state = state
            grads = jax.grad(own_loss, has_aux=True)(params)[0]
            updates, opt_state = optimizer.update(grads, opt_state)
            return (optax.apply_updates(params, updates), opt_state), None

        params = (opponent or task_loss).init(KEY)
        start = params, optimizer.init(params)
        (params, _), _ = jax.lax.scan(step, start, None, 300)
        return params, {
            **own_loss(params)[1],
            **task_loss.loss(params, codes, batch, noise, {})[1],
        }

    return run


def one_hot_codes(task_id):
    code = 2 * jax.nn.one_hot(jnp.array(task_id), 3)
    return {"context": code, "positive": code}


def tagged(batch, policy, other):
    views = batch.views
    context = views["context"]._replace(policy=jnp.array(policy))
    positive = views["positive"]._replace(policy=jnp.array(other))
    return batch._replace(views={"context": context, "positive": positive})


BATCH = random_batch(KEY, [0, 1, 2], VIEWS)


def test_classification_of_codes_that_name_the_task():
    task_loss = make_loss(classification, CFG, SPEC2)
    _, metrics = fit(task_loss, one_hot_codes([0, 1, 2]), BATCH)
    assert metrics["classification_bound"] > 0.8 * np.log(3)
    with pytest.raises(AssertionError):  # one code for all tasks
        _, metrics = fit(task_loss, one_hot_codes([0, 0, 0]), BATCH)
        assert metrics["classification_bound"] > 0.8 * np.log(3)


def rewards_of_the_task(batch, task_reward):
    views = {
        n: v._replace(reward=v.reward * 0 + task_reward[:, None]) for n, v in batch.views.items()
    }
    return batch._replace(views=views)


def test_reconstruction_gains_by_codes_that_tell_the_reward():
    task_loss = make_loss(reconstruction, CFG, SPEC2)
    batch = rewards_of_the_task(BATCH, jnp.array([-1.0, 0.0, 1.0]))

    def nll(codes):
        return fit(task_loss, codes, batch)[1]["reconstruction_reward"]

    assert nll(one_hot_codes([0, 1, 2])) < nll(one_hot_codes([0, 0, 0])) - 1
    with pytest.raises(AssertionError):
        assert nll(one_hot_codes([1, 1, 1])) < nll(one_hot_codes([0, 0, 0])) - 1


def test_reconstruction_predicts_each_window_from_the_code_of_the_other():
    task_loss = make_loss(reconstruction, CFG, SPEC2)
    params = jax.tree.map(lambda x: x + 0.3, task_loss.init(KEY))
    codes = dict(zip(VIEWS, jax.random.normal(KEY, (2, 3, 3))))

    def positive_rewards(reward):
        view = BATCH.views["positive"]._replace(reward=reward)
        batch = BATCH._replace(views={**BATCH.views, "positive": view})
        return lambda codes: task_loss.loss(params, as_codes(**codes), batch, None, {})[0]

    def mixed(name):  # how the code's gradient depends on the rewards of the second window
        def grad(reward):
            return jax.grad(positive_rewards(reward))(codes)[name].sum()

        return np.abs(jax.grad(grad)(BATCH.views["positive"].reward)).max()

    assert mixed("context") > 1e-6 and mixed("positive") == 0


@pytest.mark.parametrize("power, pull", [(0.0, 4.0), (0.5, 2.0), (1.0, 1.0)])
def test_the_pull_of_a_certain_head_by_hand(power, pull):
    """With log-variance -log 4 the mean is pulled by 4 times its error, or exp(power v) of that."""
    cfg = tiny_cfg()
    cfg.reconstruction.variance_power = power
    task_loss = make_loss(reconstruction, cfg, SPEC2)
    params = jax.tree.map(jnp.zeros_like, task_loss.init(KEY))
    for head in params.values():
        head["max_logvar"], head["min_logvar"] = head["max_logvar"] + 9, head["min_logvar"] - 99
    params["reward"]["output"]["bias"] = jnp.array([0.0, -np.log(4)])  # of mean and log-variance

    def scalar(params):
        codes = as_codes(**one_hot_codes([0, 1, 2]))
        return task_loss.loss(params, codes, BATCH, None, {})[0]

    own = jax.grad(scalar)(params)["reward"]["output"]["bias"][0]
    error = -2 * jnp.concatenate([BATCH.views[name].reward for name in VIEWS]).mean()
    np.testing.assert_allclose(own, pull * error, rtol=1e-3)


def test_a_single_window_is_reconstructed_from_its_own_code():
    view, code = reconstruction.crossed(as_codes(context=jnp.ones((3, 3))), BATCH)
    np.testing.assert_array_equal(view.obs, BATCH.views["context"].obs)
    assert code.shape == (3, 3)


def test_adversary_estimates_the_leak():
    """Codes that show a fair coin leak log 2; codes that show the task only leak nothing."""
    task_loss = make_loss(adversary, CFG, SPEC2)
    batch = tagged(random_batch(KEY, [0, 0, 1, 1], VIEWS), [0, 1, 0, 1], [1, 0, 1, 0])
    flag = jnp.array([0.0, 1, 0, 1])[:, None] * jnp.ones((1, 3))
    leak = {"context": flag, "positive": 1 - flag}
    task = jnp.array([0.0, 0, 1, 1])[:, None] * jnp.ones((1, 3))
    params, leaking = fit(task_loss, leak, batch)
    _, clean = fit(task_loss, {"context": task, "positive": task}, batch)
    assert abs(leaking["adversary_information"] - np.log(2)) < 0.1
    assert abs(clean["adversary_information"]) < 0.02 and clean["adversary_kl"] < 0.02
    # Against the trained adversary the codes move towards telling nothing.
    value = value_fn(task_loss, batch, params)
    grads = jax.grad(value)(leak)
    moved = jax.tree.map(lambda c, g: c - 0.1 * g / jnp.abs(g).max(), leak, grads)
    assert value(moved) < value(leak)


def test_adversary_minds_only_what_the_task_does_not_tell():
    """Where each task has one behaviour, the code may show it: the task does."""
    task_loss = make_loss(adversary, CFG, SPEC2)
    batch = tagged(random_batch(KEY, [0, 1, 2], VIEWS), [0, 1, 1], [0, 1, 1])
    _, metrics = fit(task_loss, one_hot_codes([0, 1, 2]), batch)
    assert abs(metrics["adversary_information"]) < 0.05
    with pytest.raises(AssertionError):  # an adversary that is not told which task it is
        blind = batch._replace(task_id=jnp.zeros(3, int))
        _, metrics = fit(task_loss, one_hot_codes([0, 1, 2]), blind)
        assert abs(metrics["adversary_information"]) < 0.05


def test_losses_of_behavior_need_two_behaviors():
    named = SPEC2._replace(num_behaviors=1)  # names do not count, only episodes in use
    for module, name in ((adversary, "adversary"), (mmd, "mmd")):
        with pytest.raises(UserError, match=f"task_losses.{name} needs windows of two sources"):
            make_loss(module, CFG, named)


def test_mmd_sees_a_shift_that_tasks_share():
    task_loss = make_loss(mmd, CFG, SPEC2)
    num = 16
    batch = tagged(random_batch(KEY, range(num), VIEWS), [0] * num, [1] * num)
    code, noise = jax.random.normal(KEY, (2, num, 3))

    def value(shift):
        codes = {"context": code, "positive": code + 0.3 * noise + shift}
        return value_fn(task_loss, batch, {})(codes)

    assert abs(value(0.0)) < 0.2 < value(1.0)
    with pytest.raises(AssertionError):  # without tags that tell the behaviours apart
        batch = tagged(batch, [0] * num, [0] * num)
        assert value(1.0) > 0.2


def test_mmd_without_two_kinds_of_pairs_is_zero():
    code = jax.random.normal(KEY, (2, 4, 3))
    assert behavior_mmd(code, jnp.zeros((2, 4), int)) == 0


def test_club_grows_with_what_the_code_tells_of_actions():
    task_loss = make_loss(club, CFG, SPEC2)
    task_id = list(range(8))
    context, positive = (random_view(k, 8, 6) for k in jax.random.split(KEY))
    habit = jax.random.normal(KEY, (2, 8, 2))  # each window has a mean action of its own
    views = {
        "context": context._replace(action=0.05 * context.action + habit[0][:, None]),
        "positive": positive._replace(action=0.05 * positive.action + habit[1][:, None]),
    }
    batch = Batch(jnp.array(task_id), None, views)
    pad = ((0, 0), (0, 1))
    leak = {n: jnp.pad(h, pad) for n, h in zip(VIEWS, habit)}
    clean = dict.fromkeys(VIEWS, jax.random.normal(KEY, (8, 3)))
    _, leaking = fit(task_loss, leak, batch)
    _, blind = fit(task_loss, clean, batch)
    assert leaking["club_bound"] > 0.5
    assert abs(blind["club_bound"]) < 1e-3  # both windows have one code
    with pytest.raises(AssertionError):  # the marginal sample is the window's own code
        _, metrics = fit(task_loss, dict.fromkeys(VIEWS, leak["context"]), batch)
        assert metrics["club_bound"] > 0.5


def test_spread_by_hand_and_its_minimum():
    task_loss = make_loss(spread, CFG, SPEC2)
    code = jnp.array([[1.0, 2.0], [-1.0, -2.0]])  # variances 2 and 8, covariance 4

    def spread_of(code):
        return task_loss.loss({}, as_codes(context=code), BATCH, None, {})

    value, _ = spread_of(code)
    scale = (np.sqrt(2.0001) - 1 + np.sqrt(8.0001) - 1) / 2
    np.testing.assert_allclose(value, scale + 16, rtol=1e-5)
    square = jnp.array([[1.0, 1], [1, -1], [-1, 1], [-1, -1]]) * np.sqrt(3 / 4)
    assert spread_of(square)[0] < 1e-3
    assert spread_of(0 * square)[0] > 0.9  # collapsed
    with pytest.raises(AssertionError):  # the covariance alone welcomes a collapse
        assert spread_of(0 * square)[1]["spread_covariance"] > 0.9


def test_conditional_entropy_is_of_what_the_generator_makes():
    task_loss = make_loss(conditional_entropy, CFG, SPEC2)
    noise = task_loss.draw_noise(KEY, BATCH)
    params = task_loss.opponent.init(KEY)

    def entropy(scale):
        layers = params["generator"]
        wide = {**layers, "output": jax.tree.map(lambda x: scale * x, layers["output"])}
        codes = as_codes(**one_hot_codes([0, 1, 2]))
        return task_loss.loss({**params, "generator": wide}, codes, BATCH, noise, {})[1]

    assert entropy(100.0)["generated_entropy"] > entropy(1.0)["generated_entropy"] + 2


def test_conditional_entropy_by_hand():
    action = jnp.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 2.0], [0.0, -2.0], [9.0, 9.0]])
    valid = jnp.arange(5) < 4  # covariance diag(2/3, 8/3)
    expected = 0.5 * np.log(16 / 9) + 1 + np.log(2 * np.pi)
    actual = conditional_entropy._entropy(action, valid)
    np.testing.assert_allclose(actual, expected, atol=1e-4)
    with pytest.raises(AssertionError):  # with the padding
        actual = conditional_entropy._entropy(action, jnp.ones(5, bool))
        np.testing.assert_allclose(actual, expected, atol=1e-4)


@pytest.mark.parametrize("name", ["adversary", "club", "conditional_entropy"])
def test_an_opponent_descends_its_own_loss_by_its_own_rate(name):
    """As often as `inner_steps` says; what the code pays never reaches its parameters."""
    cfg = tiny_cfg()
    cfg[name].inner_steps = 3
    task_losses = {name: make_loss(registry.find("task loss", name), cfg, SPEC2)}
    opponent, batch = task_losses[name].opponent, tagged(BATCH, [0, 1, 0], [1, 0, 1])
    codes = as_codes(**dict(zip(VIEWS, jax.random.normal(KEY, (2, 3, 3)))))
    begun = objective.init_opponents(KEY, task_losses)
    train = jax.jit(partial(objective.train_opponents, task_losses=task_losses))
    moved, metrics = train(begun, codes, batch, KEY, {name: {"lr": 1e-2}})
    still, _ = train(begun, codes, batch, KEY, {name: {"lr": 0.0}})
    noise = opponent.draw_noise(KEY, batch)

    def own_loss(learner):
        return float(opponent.loss(learner.params[name], codes, batch, noise)[0])

    assert own_loss(moved) < own_loss(still) == own_loss(begun)
    counts = [x for x in jax.tree.leaves(moved.opt_state) if x.dtype == jnp.int32]
    assert counts and all(int(x) == 3 for x in counts)
    assert metrics and all(x.shape == () for x in metrics.values())
    paid = jax.grad(lambda p: objective.loss({}, {name: p}, *rest)[0])
    rest = codes, batch, {name: noise}, {"task_losses": {name: 1.0}}, task_losses
    assert all(not np.any(g) for g in jax.tree.leaves(paid(begun.params[name])))


def test_expected_rewards_by_hand():
    """A head that predicts the first entry of the code plus the first of the next observation."""
    task_loss = make_loss(reconstruction, CFG, SPEC2)
    params = jax.tree.map(jnp.zeros_like, task_loss.init(KEY))
    head = params["reward"]
    code_at = SPEC.obs_dim + SPEC.action_dim
    for row in (code_at, code_at + CFG.world_model.code_dim):
        head["hidden_0"]["kernel"] = head["hidden_0"]["kernel"].at[row, 0].set(1.0)
    head["hidden_1"]["kernel"] = head["hidden_1"]["kernel"].at[0, 0].set(1.0)
    head["output"]["kernel"] = head["output"]["kernel"].at[0, 0].set(1.0)
    code = jnp.array([[1.0, 0, 0], [1.6, 0, 0], [2.2, 5, 5]])
    obs, action = jnp.ones(SPEC.obs_dim), jnp.ones(SPEC.action_dim)
    after = jnp.zeros((3, SPEC.obs_dim)).at[1, 0].set(2.0)
    width = CFG.reconstruction.width
    reward = reconstruction.expected_reward(params, obs, action, after, code, width)
    np.testing.assert_allclose(reward, [1.0, 3.6, 2.2], rtol=1e-6)
    # The other head says nothing: no change is expected.
    next_obs = reconstruction.expected_next_obs(params, obs, action, code, width)
    np.testing.assert_allclose(next_obs, np.ones((3, SPEC.obs_dim)), rtol=1e-6)


def test_club_of_transitions_needs_their_codes():
    cfg = tiny_cfg()
    cfg.club.codes = "transition"
    task_loss = make_loss(club, cfg, SPEC2)
    params = task_loss.opponent.init(KEY)
    with pytest.raises(UserError, match="needs a code of every transition, which this encoder"):
        task_loss.loss(params, as_codes(context=jnp.zeros((3, 3))), BATCH, None, {})


def test_generated_actions_at_rows_of_an_agent_need_such_rows():
    cfg = tiny_cfg()
    cfg.conditional_entropy.rows = 2
    task_loss = make_loss(conditional_entropy, cfg, SPEC2)
    with pytest.raises(UserError, match="has no rows of an agent; set it to 0"):
        task_loss.draw_noise(KEY, BATCH)
    batch = BATCH._replace(views={**BATCH.views, "real": BATCH.views["positive"]})
    assert task_loss.draw_noise(KEY, batch).shape == (3, 2, 3)


def test_networks_take_turns_against_those_before_them():
    """Of the loss (a - 1)^2 + (b - a)^2 b sees a after its step, and each has its own optimiser."""

    def fit(params, codes, batch, noise):
        a, b = params["a"], params["b"]
        return (a - 1) ** 2 + (b - jax.lax.stop_gradient(a)) ** 2, {"a": a, "b": b}

    zeros = {"a": jnp.zeros(()), "b": jnp.zeros(())}
    together = Opponent(lambda key: zeros, fit)
    names = TaskLoss(("context",), None, opponent=together)
    for turns, moved in (((), False), (("a", "b"), True), (("b", "a"), False)):
        task_losses = {"game": names._replace(opponent=together._replace(turns=turns))}
        learner = objective.init_opponents(KEY, task_losses)
        codes = as_codes(context=jnp.zeros((3, 3)))
        hp = {"game": {"lr": 0.1}}
        end, _ = objective.train_opponents(learner, codes, BATCH, KEY, hp, task_losses)
        np.testing.assert_allclose(end.params["game"]["a"], 0.1, rtol=1e-5)
        assert (end.params["game"]["b"] > 0.05) == moved  # at a = 0 its gradient is 0
