"""One update of implicit Q-learning against NumPy, and the agent around it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import FrozenConfigDict

from metastar.agents import iql as agents
from metastar.data.rows import Transitions
from metastar.models.nets.actor_forms import FORMS
from metastar.ops.optim import make_optimizer
from metastar.types import Learner, RowSpec

SIZE, ACTION, ROWS = 3, 2, 16
KEY = jax.random.key(0)
HP = {
    "gamma": 0.9,
    "expectile": 0.8,
    "inverse_temperature": 3.0,
    "clip": 4.0,
    "tau": 0.1,
    "value_lr": 1e-2,
    "critic_lr": 2e-2,
    "actor_lr": 3e-2,
    "actor_average": 0.6,
}


def make_rows(seed=0, dtype=jnp.float32):
    rng = np.random.default_rng(seed)
    return Transitions(
        obs_code=jnp.array(rng.normal(size=(ROWS, SIZE)), dtype),
        action=jnp.array(rng.uniform(-1, 1, (ROWS, ACTION)), dtype),
        reward=jnp.array(rng.normal(size=ROWS), dtype),
        next_obs_code=jnp.array(rng.normal(size=(ROWS, SIZE)), dtype),
        done=jnp.array(rng.uniform(size=ROWS) < 0.3),
        real=jnp.ones(ROWS, bool),
    )


# Linear networks, whose gradients can be written down: V = w s, Q_i = w_i (s, a), and a Gaussian
# of unit deviation around W s.
LINEAR = agents.Nets(
    value=lambda w, s: s @ w,
    critic=lambda w, s, a: w @ jnp.concatenate([s, a], -1).T,
    log_prob=lambda w, s, a: (
        -0.5 * jnp.sum((a - s @ w) ** 2, -1) - 0.5 * ACTION * np.log(2 * np.pi)
    ),
)


def linear_learner():
    rng = np.random.default_rng(1)
    shapes = {"value": (SIZE,), "critic": (2, SIZE + ACTION), "actor": (SIZE, ACTION)}
    params = {name: jnp.array(rng.normal(size=shape)) for name, shape in shapes.items()}
    optimizer = make_optimizer()
    return Learner(
        params=params,
        target={"critic": jnp.array(rng.normal(size=shapes["critic"]))},
        opt_state={name: optimizer.init(x) for name, x in params.items()},
        extra={"actor": jnp.array(rng.normal(size=shapes["actor"]))},
    )


def adam(x, grad, lr):
    """Adam's first step from a state of zeros."""
    return x - lr * grad / (np.sqrt(grad**2) + 1e-8)


def by_hand(learner, rows, advantage_value="updated", mistake=""):
    """The update in NumPy, in the order of the paper; `mistake` names what is done wrong."""
    wrong = lambda name: mistake == name  # noqa: E731
    p = {name: np.array(x) for name, x in learner.params.items()}
    q_bar = np.array(learner.target["critic"])
    s, a, r, s2, done = (np.array(x) for x in rows[:5])
    sa = np.concatenate([s, a], 1)
    q = ((p["critic"] if wrong("online critics") else q_bar) @ sa.T).min(0)
    if wrong("mean of critics"):
        q = (q_bar @ sa.T).mean(0)

    u = q - s @ p["value"]
    weight = np.where(u > 0, HP["expectile"], 1 - HP["expectile"])
    if wrong("expectile reversed"):
        weight = 1 - weight
    value = adam(p["value"], -2 * (weight * u) @ s / ROWS, HP["value_lr"])

    next_value = s2 @ (p["value"] if wrong("bootstrap of old value") else value)
    follow = np.ones(ROWS) if wrong("terminals ignored") else 1 - done
    error = p["critic"] @ sa.T - (r + HP["gamma"] * follow * next_value)
    critic = adam(p["critic"], 2 * error @ sa / (2 * ROWS), HP["critic_lr"])
    online = p["critic"] if wrong("Polyak of old critics") else critic
    target = (1 - HP["tau"]) * q_bar + HP["tau"] * online

    if wrong("advantage of new target"):
        q = (target @ sa.T).min(0)
    v = s @ {"updated": value, "previous": p["value"]}[advantage_value]
    weight = np.exp(HP["inverse_temperature"] * (q - v))
    if not wrong("no clip"):
        weight = np.minimum(weight, HP["clip"])
    grad = -s.T @ (weight[:, None] * (a - s @ p["actor"])) / ROWS
    actor = adam(p["actor"], grad, HP["actor_lr"])
    keep = HP["actor_average"]
    average = keep * np.array(learner.extra["actor"]) + (1 - keep) * actor
    return {"value": value, "critic": critic, "actor": actor, "target": target, "average": average}


linear_update = jax.jit(agents.update, static_argnums=(3, 4))


def check(advantage_value="updated", mistake=""):
    """All that an update carries on, to ten digits; rows on both sides of every branch."""
    learner, rows = linear_learner(), make_rows(dtype=jnp.float64)
    expected = by_hand(learner, rows, advantage_value, mistake)
    learner, metrics = linear_update(learner, rows, HP, LINEAR, advantage_value)
    actual = dict(learner.params, target=learner.target["critic"], average=learner.extra["actor"])
    assert 0 < metrics["weight_clipped"] < 1
    for name, x in expected.items():
        np.testing.assert_allclose(actual[name], x, rtol=1e-10, atol=1e-12, err_msg=name)


@pytest.mark.parametrize("advantage_value", ["updated", "previous"])
def test_an_update_against_numpy(x64, advantage_value):
    check(advantage_value)


@pytest.mark.parametrize(
    "mistake",
    [
        "online critics",
        "mean of critics",
        "expectile reversed",
        "bootstrap of old value",
        "terminals ignored",
        "Polyak of old critics",
        "advantage of new target",
        "no clip",
    ],
)
def test_every_planted_mistake_is_found(x64, mistake):
    with pytest.raises(AssertionError):
        check(mistake=mistake)


def make_agent(**changes):
    fields = {name: field.value for name, field in agents.DEFAULTS.items()}
    made = agents.make(FrozenConfigDict(fields | {"hidden": (16,), **changes}), RowSpec(ACTION, 1))
    return made._replace(init=jax.jit(made.init, static_argnums=1))


def run(agent, learner, rows, **hp):
    return jax.jit(agent.update)(learner, rows, KEY, HP | hp, jnp.array(0))


def test_no_part_moves_by_the_loss_of_another():
    agent, rows = make_agent(), make_rows()
    learner = agent.init(KEY, SIZE)
    step = jax.jit(lambda hp: agent.update(learner, rows, KEY, hp, jnp.array(0))[0].params)
    start = jax.device_get(learner.params)
    for still in learner.params:
        params = jax.device_get(step(HP | {f"{still}_lr": 0.0}))
        for name in params:
            same = jax.tree.map(lambda a, b: bool((a == b).all()), params[name], start[name])
            moved = not all(jax.tree.leaves(same))
            assert moved == (name != still), (still, name)


@pytest.mark.parametrize("form", FORMS)
def test_actions_stay_in_their_range_and_the_greedy_one_ignores_noise(form):
    agent = make_agent(actor=form)
    learner = agent.init(KEY, SIZE)
    params, obs_code = agent.export(learner), make_rows().obs_code
    noise = 10 * jax.random.normal(KEY, (ROWS, ACTION))
    drawn = agent.act(params, obs_code, noise, False)
    greedy = agent.act(params, obs_code, noise, True)
    assert drawn.shape == greedy.shape == (ROWS, ACTION)
    assert np.abs(drawn).max() <= 1 and np.abs(drawn - greedy).max() > 0.1
    np.testing.assert_array_equal(greedy, agent.act(params, obs_code, 0 * noise, False))


def edge_rows():
    """Actions of exactly -1 and 1, as clipped behaviour has them."""
    rows = make_rows()
    return rows._replace(action=jnp.sign(rows.action))


@pytest.mark.parametrize("form", FORMS)
def test_actions_at_the_edge_leave_everything_finite(form):
    agent = make_agent(actor=form)
    learner, metrics = run(agent, agent.init(KEY, SIZE), edge_rows())
    assert all(np.isfinite(x).all() for x in jax.tree.leaves((learner, metrics)))


def test_a_reward_scale_is_a_scale_of_rewards_and_values_are_in_the_datas_unit():
    rows = make_rows()
    plain, scaled = make_agent(), make_agent(reward_scale=4.0)
    learner = plain.init(KEY, SIZE)
    a, _ = run(plain, learner, rows._replace(reward=4 * rows.reward))
    b, _ = run(scaled, learner, rows)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b)):
        np.testing.assert_array_equal(x, y)
    at = rows.obs_code, rows.action
    value = plain.value(plain.export(a), *at)
    assert value.shape == (ROWS,)
    np.testing.assert_allclose(scaled.value(scaled.export(b), *at), value / 4, rtol=1e-6)


def test_it_prefers_the_better_of_the_datas_actions():
    """One state; behaviour draws -0.5 and 0.5 alike, and only 0.5 pays: cloning would take 0."""
    agent = make_agent()
    rows = make_rows()
    good = jnp.arange(ROWS) % 2 == 0
    rows = rows._replace(
        obs_code=jnp.ones((ROWS, SIZE)),
        action=jnp.broadcast_to(jnp.where(good, 0.5, -0.5)[:, None], (ROWS, ACTION)),
        reward=good.astype(jnp.float32),
        done=jnp.ones(ROWS, bool),
    )

    def train(learner, inverse_temperature):
        hp = HP | {"inverse_temperature": inverse_temperature, "clip": 100.0}
        move = lambda learner, step: (agent.update(learner, rows, KEY, hp, step)[0], None)  # noqa: E731
        params = agent.export(jax.lax.scan(move, learner, jnp.arange(300))[0])
        return agent.act(params, rows.obs_code[0], jnp.zeros(ACTION), True)

    train, learner = jax.jit(train), agent.init(KEY, SIZE)
    np.testing.assert_allclose(train(learner, 10.0), 0.5, atol=0.05)
    np.testing.assert_allclose(train(learner, 0.0), 0.0, atol=0.05)
