import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metastar.ops import contrastive

distance_terms, infonce = jax.jit(contrastive.distance_terms), jax.jit(contrastive.infonce)


def slow_distance(code, task_id):
    pos, neg, n_pos, n_neg = 0, 0, 0, 0
    for i, j in itertools.combinations(range(len(code)), 2):
        q = np.mean((code[i] - code[j]) ** 2)
        if task_id[i] == task_id[j]:
            pos, n_pos = pos + np.sqrt(q + 1e-3), n_pos + 1
        else:
            neg, n_neg = neg + 1 / (q + 0.1), n_neg + 1
    return pos / (n_pos + 1e-3), neg / (n_neg + 1e-3), n_pos, n_neg


def slow_infonce(anchor, positive, task_id, temperature):
    unit = lambda x: x / np.linalg.norm(x)  # noqa: E731
    by_task = {}
    for i in range(len(anchor)):
        score = lambda j, i=i: np.exp(unit(anchor[i]) @ unit(positive[j]) / temperature)  # noqa: E731
        others = [
            np.mean([score(j) for j in range(len(anchor)) if task_id[j] == u])
            for u in set(task_id) - {task_id[i]}
        ]
        by_task.setdefault(task_id[i], []).append(-np.log(score(i) / (score(i) + sum(others))))
    return np.mean([np.mean(rows) for rows in by_task.values()])


@pytest.mark.parametrize("task_id", [[0, 1, 2, 3, 4, 5], [0, 0, 1, 1, 1, 2], [3, 3, 3, 3, 3, 3]])
def test_against_loops(x64, task_id):
    rng = np.random.default_rng(0)
    code, positive = rng.normal(size=(2, 6, 3))
    ids = jnp.array(task_id)
    np.testing.assert_allclose(
        distance_terms(jnp.array(code), ids), slow_distance(code, task_id), rtol=1e-10
    )
    loss, bound = infonce(jnp.array(code), jnp.array(positive), ids, 0.5)
    expected = slow_infonce(code, positive, task_id, 0.5)
    np.testing.assert_allclose(loss, expected, atol=1e-9)
    np.testing.assert_allclose(bound, np.log(len(set(task_id))) - expected, atol=1e-9)


def test_distance_pulls_one_task_together_and_pushes_others_apart():
    code = jnp.array([[0.0], [1.0]])
    total = lambda code, ids: sum(distance_terms(code, jnp.array(ids))[:2])  # noqa: E731
    same = jax.grad(total)(code, [0, 0])
    other = jax.grad(total)(code, [0, 1])
    assert same[1] > 0 > same[0]
    assert other[0] > 0 > other[1]


def test_coinciding_codes_have_gradient_zero():
    code = jnp.ones((3, 2))
    grad = jax.grad(lambda c: sum(distance_terms(c, jnp.array([0, 0, 1]))[:2]))(code)
    np.testing.assert_array_equal(grad, 0)


def test_infonce_of_perfect_codes_reaches_the_logarithm_of_the_number_of_tasks():
    code = jnp.eye(4)
    loss, bound = infonce(code, code, jnp.arange(4), 0.02)
    np.testing.assert_allclose(loss, 0, atol=1e-6)
    np.testing.assert_allclose(bound, np.log(4), rtol=1e-6)


def test_infonce_of_empty_codes_tells_nothing():
    loss, bound = infonce(jnp.ones((4, 3)), jnp.ones((4, 3)), jnp.arange(4), 0.1)
    np.testing.assert_allclose([loss, bound], [np.log(4), 0], atol=1e-5)


def test_infonce_never_exceeds_the_entropy_of_the_task_when_tasks_repeat():
    # Two tasks in eight rows: perfect codes give log 2, not log of a number of rows.
    ids = jnp.array([0, 1, 1, 1, 1, 1, 1, 1])
    code = jnp.eye(2)[ids]
    _, bound = infonce(code, code, ids, 0.02)
    np.testing.assert_allclose(bound, np.log(2), rtol=1e-5)


def test_infonce_bound_stays_below_the_information_of_noisy_codes():
    # Codes tell the task with an error rate of 0.1: I(task; code) = log 2 - H(0.1).
    error = 0.1
    exact = np.log(2) + error * np.log(error) + (1 - error) * np.log(1 - error)
    ids = jnp.arange(2)

    def draw(key, temperature):
        flips = jax.random.bernoulli(key, error, (2, 2))
        anchor, positive = jnp.eye(2)[jnp.where(flips, 1 - ids[None], ids[None])]
        return infonce(anchor, positive, ids, temperature)[1]

    keys, temperatures = jax.random.split(jax.random.key(0), 4000), jnp.array([0.25, 0.5, 1.0, 2.0])
    mean_of_draws = jax.vmap(lambda t: jax.vmap(lambda key: draw(key, t))(keys).mean())
    bounds = jax.jit(mean_of_draws)(temperatures)
    assert (bounds < exact + 0.02).all()
    assert bounds.max() > 0.5 * exact


def test_infonce_ignores_other_rows_of_the_own_task():
    anchor, positive = jax.random.normal(jax.random.key(0), (2, 3, 4))
    grad = jax.grad(lambda p: infonce(anchor[:2], p, jnp.array([0, 0]), 0.1)[0])(positive[:2])
    np.testing.assert_allclose(grad, 0, atol=1e-6)  # one task only: nothing to tell apart


def test_zero_code_has_a_finite_gradient():
    grad = jax.grad(lambda c: infonce(c, c, jnp.arange(2), 0.1)[0])(jnp.zeros((2, 3)))
    assert np.isfinite(grad).all()
