"""CORRO's phases, pooling and refusals; its numbers are in `test_corro_parity.py`."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import FrozenConfigDict

import make_config
from metastar import config, registry
from metastar.data.rows import Transitions
from metastar.errors import UserError
from metastar.evaluation import history
from metastar.models.nets.attention_pooling import AttentionPooling
from metastar.training import runs
from metastar.types import EnvSpec, RowSpec
from synthetic import one_window, point_robot_data, point_robot_spec

KEY = jax.random.key(0)
DATA = point_robot_data()


def made(**changes):
    changes = {path.replace("__", "."): value for path, value in changes.items()}
    cfg = config.change(make_config.preset("corro", "point_robot_sparse", "debug"), changes)
    config.validate(cfg)
    return runs.make_method(FrozenConfigDict(cfg), point_robot_spec())


def trained(method, phase, num):
    """The state after some updates of a phase, and all its metrics [num]."""

    def step(state, number):
        batch = phase.sample(DATA, KEY, number)
        return phase.update(state, batch, jax.random.fold_in(KEY, number), method.hp, number)

    run = jax.jit(lambda state: jax.lax.scan(step, state, jnp.arange(num)))
    return run(method.init(KEY))


@pytest.mark.parametrize(
    "negatives, phases",
    [
        ("generated", {"generator": "generator", "contrast": "encoder", "agent": "pooling"}),
        ("noised", {"contrast": "encoder", "agent": "pooling"}),
    ],
)
def test_noised_negatives_need_no_generator(negatives, phases):
    method = made(corro__negatives=negatives)
    start = jax.eval_shape(lambda: method.init(KEY))
    assert start.keys() == {*phases.values(), "agent"}
    assert [phase.name for phase in method.phases] == list(phases)


def test_the_encoder_learns_to_tell_negatives():
    """Noise on rewards of 0 and 1 is plain to see, but not before it has learned."""
    rates = {"corro.pairs": 32, "corro.encoder_lr": 1e-2, "corro.contrast_updates": 150}
    method = made(corro__negatives="noised", **rates)
    _, metrics = trained(method, method.phases[0], 150)
    loss, accuracy = metrics["contrast"], metrics["contrast_accuracy"]
    assert loss[:10].mean() > 1.2  # of four candidates: log 4
    assert loss[-10:].mean() < 0.8 and accuracy[-10:].mean() > accuracy[:10].mean() + 0.2


def test_a_context_without_a_step_has_the_code_zero():
    method = made()
    empty = history.empty_window(EnvSpec("point", 2, 2, 60), 12)

    @jax.jit
    def infer(key):
        return method.infer(method.export(method.init(key)), one_window(empty), None, key).code

    code = infer(KEY)
    assert code.shape == (3,) and not code.any()


def test_pooling_by_hand():
    each = jnp.array([[1.0, 0.0], [0.0, 1.0], [9.0, 9.0]])
    params = {"score": {"kernel": jnp.array([[np.log(3.0)], [0.0]]), "bias": jnp.ones(1)}}
    pool = jax.jit(lambda each, valid: AttentionPooling().apply({"params": params}, each, valid))
    code, weight = pool(each, jnp.array([True, True, False]))
    np.testing.assert_allclose(weight, [0.75, 0.25, 0], rtol=1e-6)
    np.testing.assert_allclose(code, [0.75, 0.25], rtol=1e-6)
    nothing = jnp.zeros(3, bool)
    grad = jax.grad(lambda each: pool(each, nothing)[0].sum())(each)
    assert np.isfinite(grad).all() and not pool(each, nothing)[0].any()


@pytest.mark.parametrize("name", ["iql", "sac"])
def test_targets_are_data_to_the_loss_of_a_code(name):
    values = make_config.base(method="corro", agent__name=name)
    agent = registry.make("agent", name, values.agent[name], RowSpec(2, 4))
    noise, yes = jax.random.normal(KEY, (4, 3)), jnp.ones(4, bool)
    rows = Transitions(noise, jnp.tanh(noise[:, :2]), noise[:, 0], noise + 1, ~yes, yes)

    def loss(now, after):
        given = rows._replace(obs_code=now, next_obs_code=after)
        return agent.code_loss(agent.init(KEY, 3), given, KEY, dict(values.agent[name]), 0)

    run = jax.jit(jax.value_and_grad(loss, (0, 1)))
    value, (now, after) = run(rows.obs_code, rows.next_obs_code)
    assert np.isfinite(value) and now.any() and not after.any()


@pytest.mark.parametrize(
    "changes, sentence",
    [
        ({"agent.name": "td3_bc"}, "agent 'td3_bc' does not tell its critics' loss as a function"),
        ({"agent.name": "brac"}, "agent 'brac' learns from 3 batches of rows in an update, but"),
        ({"encoder.name": "gru"}, "which encoder 'gru' does not make; set encoder.name='mean_mlp'"),
        ({"corro.num_negatives": 0}, "corro.num_negatives is 0 but must lie in [1, inf)"),
        ({"corro.negatives": "relabelled"}, "corro.negatives is 'relabelled'"),
        (
            {"sweep.corro.noise_std": (0.1, 0.2)},
            "changes nothing while corro.negatives='generated'",
        ),
    ],
)
def test_what_does_not_fit_is_one_sentence(changes, sentence):
    with pytest.raises(UserError) as caught:
        method = made(**changes)
        jax.eval_shape(lambda: trained(method, method.phases[1], 1))
    assert sentence in str(caught.value) and "\n" not in str(caught.value)
