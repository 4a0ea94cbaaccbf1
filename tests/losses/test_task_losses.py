import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metastar.losses.task import distance, infonce
from metastar.ops.contrastive import distance_terms
from metastar.types import Batch
from model_helpers import SPEC, as_codes, make_loss, tiny_cfg

CFG = tiny_cfg()
CODE, OTHER = jax.random.normal(jax.random.key(0), (2, 4, 3))


def run(module, codes, task_id):
    batch = Batch(jnp.array(task_id), None, {})
    return make_loss(module, CFG, SPEC).loss({}, as_codes(**codes), batch, None, {})


def test_distance_by_hand():
    # ids 7, 7, 3: q = 1, 2, 1
    code = jnp.array([[0.0, 0.0], [1.0, 1.0], [0.0, 2.0]])
    total, _ = run(distance, {"context": code}, [7, 7, 3])
    np.testing.assert_allclose(
        total, np.sqrt(1.001) / 1.001 + (1 / 2.1 + 1 / 1.1) / 2.001, rtol=1e-6
    )
    with pytest.raises(AssertionError):  # the same codes under other ids
        np.testing.assert_allclose(run(distance, {"context": code}, [7, 3, 7])[0], total)


def test_distance_takes_the_codes_of_both_windows():
    ids = jnp.arange(4)
    total, metrics = run(distance, {"context": CODE, "positive": OTHER}, [0, 1, 2, 3])
    pos, neg, n_pos, n_neg = distance_terms(
        jnp.concatenate([CODE, OTHER]), jnp.concatenate([ids, ids])
    )
    assert (n_pos, n_neg) == (4, 24)
    np.testing.assert_allclose(total, pos + neg, rtol=1e-6)
    np.testing.assert_allclose(metrics["distance_pos"], pos, rtol=1e-6)


def test_infonce_prefers_matching_windows():
    assert make_loss(infonce, CFG, SPEC).views == ("context", "positive")
    match, metrics = run(infonce, {"context": CODE, "positive": CODE}, [0, 1, 2, 3])
    shuffled, _ = run(infonce, {"context": CODE, "positive": jnp.roll(CODE, 1, 0)}, [0, 1, 2, 3])
    assert match < shuffled
    np.testing.assert_allclose(metrics["infonce_bound"], np.log(4) - match, rtol=1e-5)


def test_rows_of_the_own_task_are_no_negatives():
    codes = {"context": jnp.eye(2)[jnp.array([0, 0, 1, 1])]}
    codes["positive"] = codes["context"]
    assert run(infonce, codes, [5, 5, 8, 8])[0] < 0.01
    with pytest.raises(AssertionError):  # every row a task of its own
        assert run(infonce, codes, [0, 1, 2, 3])[0] < 0.01


def test_infonce_reaches_both_windows():
    def loss(context, positive):
        return run(infonce, {"context": context, "positive": positive}, [0, 1, 2, 3])[0]

    for grad in jax.grad(loss, argnums=(0, 1))(CODE, OTHER):
        assert (np.abs(grad).sum(-1) > 0).all()
