"""Codes exchanged between tasks: whose they are, and what stays as few-shot has it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import make_config
import synthetic
from metastar.errors import UserError
from metastar.evaluation.protocol import Given
from metastar.evaluation.protocols import few_shot, swapped
from metastar.types import Adaptation, Context, Method, Policy


def test_every_other_task_is_as_likely():
    num, streams = 5, 400
    code = jnp.broadcast_to(jnp.arange(num)[:, None], (num, streams))
    found = np.asarray(swapped.exchanged(Adaptation(code), jax.random.key(0)).code)
    for task in range(num):
        count = np.bincount(found[task], minlength=num)
        assert count[task] == 0
        np.testing.assert_allclose(count[count > 0] / streams, 1 / (num - 1), atol=0.08)
    assert all(len(set(column)) == num for column in found.T)  # no code is used twice


def test_contexts_and_starts_are_those_of_few_shot():
    data = synthetic.point_robot_data(num_tasks=3)
    method = Method(
        *(None, (), None, lambda params, view, task, key: Adaptation(view.obs.mean((0, 1)))),
        *(Policy(None, None), Context(4)),
    )
    cfg = make_config.base(**{"eval.protocols": "few_shot,swapped"})
    plain, other = (one.make(cfg, method, None) for one in (few_shot, swapped))
    key = jax.random.key(0)
    for one, two in zip(plain.keys(key), other.keys(key)):
        assert jnp.array_equal(jax.random.key_data(one), jax.random.key_data(two))
    given = Given(data.task, (data,))
    (own, drawn), (exchanged, same) = (
        one.prepare(None, data, given, 8, plain.keys(key)[0]) for one in (plain, other)
    )
    np.testing.assert_array_equal(drawn.present, same.present)
    for stream in range(8):
        codes = [{tuple(row) for row in np.asarray(x.code[:, stream])} for x in (own, exchanged)]
        assert codes[0] == codes[1]
        assert (np.asarray(own.code != exchanged.code)[:, stream]).any(-1).all()


def test_one_task_has_nothing_to_exchange():
    with pytest.raises(UserError, match="between tasks, and there is one"):
        swapped.exchanged(Adaptation(jnp.zeros((1, 4, 2))), jax.random.key(0))
