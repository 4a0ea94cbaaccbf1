import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from metastar.losses import cloning
from metastar.models import world_model
from metastar.models.nets.actor_critic import Actor, init_actor
from metastar.types import Batch
from model_helpers import ACTION, LENGTH, OBS, SPEC, random_view, scramble, scrambled, tiny_cfg

CFG = tiny_cfg()
KEY = jax.random.key(0)
ACTOR = Actor((8,), ACTION)
TASKS, ROWS = 3, 5


def make_params():
    key_model, key_actor = jax.random.split(KEY)
    model = scrambled(world_model.init, key_model, CFG, SPEC)
    encoder = {name: model[name] for name in ("encoder", "posterior", "core")}
    actor = scramble(init_actor(key_actor, ACTOR, OBS + CFG.world_model.code_dim), key_actor)
    return {"encoder": encoder, "actor": actor}


PARAMS = make_params()
VIEWS = {
    "context": random_view(jax.random.key(1), TASKS, LENGTH),
    "real": random_view(jax.random.key(2), TASKS, ROWS),
}
NOISE = world_model.draw_encode_noise(KEY, (TASKS, LENGTH), CFG)


def loss_of(params, obs, views):
    views = {**views, "context": views["context"]._replace(obs=obs)}
    batch = Batch(jnp.arange(TASKS), None, views)
    return cloning.loss(params, batch, NOISE, CFG, ACTOR)


# Of parameters and of the observations in the context; compiled once for all tests.
value_and_grads = jax.jit(jax.value_and_grad(loss_of, argnums=(0, 1), has_aux=True))
encode = jax.jit(lambda encoder, view: world_model.encode_task(encoder, view, NOISE, CFG))


def run(params=PARAMS, views=VIEWS):
    return value_and_grads(params, views["context"].obs, views)


def check(views):
    """Against plain loops over tasks, transitions and action dimensions."""
    (total, metrics), _ = run(views=views)
    code = encode(PARAMS["encoder"], VIEWS["context"])
    nll, error = [], []
    for m in range(TASKS):
        for b in range(ROWS):
            obs_code = jnp.concatenate([VIEWS["real"].obs[m, b], code[m]])
            mean, log_std = ACTOR.apply({"params": PARAMS["actor"]}, obs_code)
            action = np.asarray(VIEWS["real"].action[m, b])
            log_prob = stats.norm.logpdf(np.arctanh(action), mean, np.exp(log_std))
            nll.append(-np.sum(log_prob - np.log(1 - action**2)))
            error.append((np.tanh(mean) - action) ** 2)
    np.testing.assert_allclose(total, np.mean(nll), rtol=1e-3)
    np.testing.assert_allclose(metrics["cloning_loss"], total)
    np.testing.assert_allclose(metrics["action_error"], np.mean(error), rtol=1e-3)


def test_against_loops():
    check(VIEWS)


def test_the_code_of_another_task_is_found():
    rolled = jax.tree.map(lambda x: jnp.roll(x, 1, 0), VIEWS["context"])
    with pytest.raises(AssertionError):
        check({**VIEWS, "context": rolled})


def test_by_hand():
    """An actor of zeros is N(0, 1) before tanh; tanh(log 2) = 0.6."""
    params = {**PARAMS, "actor": jax.tree.map(jnp.zeros_like, PARAMS["actor"])}
    real = VIEWS["real"]._replace(action=jnp.full_like(VIEWS["real"].action, 0.6))
    (total, metrics), _ = run(params, {**VIEWS, "real": real})
    one = 0.5 * np.log(2) ** 2 + 0.5 * np.log(2 * np.pi) + np.log(0.64)
    np.testing.assert_allclose(total, 2 * one, rtol=1e-4)
    np.testing.assert_allclose(metrics["action_error"], 0.36, rtol=1e-5)


def test_the_gradient_reaches_the_actor_and_every_network_of_the_encoder():
    _, (grads, _) = run()
    for networks in (grads["encoder"], grads["actor"]):
        for name, network in networks.items():
            assert any(leaf.any() for leaf in jax.tree.leaves(network)), name


def test_a_transition_shapes_the_code_of_its_own_task_alone():
    changed = VIEWS["real"].action.at[1].multiply(-1)
    _, (_, before) = run()
    _, (_, after) = run(views={**VIEWS, "real": VIEWS["real"]._replace(action=changed)})
    assert (before[1] != after[1]).any() and before[0].any()
    np.testing.assert_array_equal(before[::2], after[::2])


def test_deterministic_actions_on_the_bound_keep_loss_and_gradient_small():
    """The density is capped: a deviation that has collapsed costs no more than e^-5."""
    params = jax.tree.map(jnp.zeros_like, PARAMS["actor"])
    params["log_std"]["bias"] = params["log_std"]["bias"] - 50
    params["mean"]["bias"] = params["mean"]["bias"] + 7
    real = VIEWS["real"]._replace(action=jnp.ones_like(VIEWS["real"].action))
    (total, _), (grads, _) = run({**PARAMS, "actor": params}, {**VIEWS, "real": real})
    assert np.abs(total) < 1e4
    assert all(np.abs(leaf).max() < 1e5 for leaf in jax.tree.leaves(grads))
