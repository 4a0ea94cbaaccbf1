"""Open-loop error on a method whose model is known: the world is a counter, the code its step."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import make_config
from metastar.data import layout
from metastar.tools.audit import open_loop as audit_model
from metastar.types import Adaptation, Context, Method, Policy

KEY = jax.random.key(0)
TASKS, EPISODES, STEPS = 3, 2, 40


def counting_data():
    """In task n the observation grows by n + 1 a step, and the reward is n + 1."""
    rate = np.arange(1, TASKS + 1, dtype=np.float32)[:, None, None]
    shape = TASKS, EPISODES, STEPS
    blocks = {
        "obs": (rate * np.arange(STEPS + 1)).repeat(EPISODES, 1)[..., None],
        "action": np.zeros((*shape, 1)),
        "reward": np.broadcast_to(rate, shape),
        "done": np.zeros(shape, bool),
        "length": np.full(shape[:2], STEPS),
        "policy": np.zeros(shape[:2], int),
        "stage": np.zeros(shape[:2], int),
    }
    return layout.from_blocks(blocks, {"rate": np.arange(1.0, TASKS + 1)})


def infer(params, view, task, key):
    return Adaptation(view.reward[0, :1])


def predict(params, view, action, code, key):
    """Counts on from the last real step, whose end is one step of the task behind it."""
    steps = jnp.arange(1.0, action.shape[0] + 1)[:, None]
    end = view.obs[-1] + view.reward[-1]
    return end[None] + steps * code[None], jnp.broadcast_to(code, action.shape)[:, 0]


METHOD = Method(None, (), None, infer, Policy(None, None), predict=predict, context=Context(12))


def make_cfg():
    cfg = make_config.base()
    cfg.imagine.context_len = 8
    return cfg


def test_errors_by_hand():
    found = audit_model.open_loop(make_cfg(), METHOD, None, counting_data(), jnp.array([2.0]), KEY)
    assert found["horizon"] == [1, 2, 3, 4]
    np.testing.assert_allclose(found["obs"]["right"], 0, atol=1e-5)
    np.testing.assert_allclose(found["reward"]["right"], 0, atol=1e-5)
    # Rates 1, 2, 3 under the codes 3, 1, 2 are wrong by 2, 1, 1; under zero by 1, 2, 3.
    shares = counted_shares()
    wrong = np.sqrt(shares @ np.array([4.0, 1, 1]))
    none = np.sqrt(shares @ np.array([1.0, 4, 9]))
    np.testing.assert_allclose(found["reward"]["wrong"], [wrong] * 4, rtol=1e-4)
    np.testing.assert_allclose(found["reward"]["none"], [none] * 4, rtol=1e-4)
    np.testing.assert_allclose(found["obs"]["wrong"], wrong / 2 * np.arange(1, 5), rtol=1e-4)


def counted_shares():
    """Windows that join two episodes do not count, and tasks may lose different numbers."""
    unit = lambda n: METHOD._replace(  # noqa: E731
        predict=lambda params, view, action, code, key: (
            jnp.zeros((action.shape[0], 1)),
            view.reward[-1] + (view.reward[-1] == n) * jnp.ones(action.shape[0]),
        )
    )
    data = counting_data()
    runs = [
        audit_model.open_loop(make_cfg(), unit(n), None, data, jnp.ones(1), KEY) for n in (1, 2, 3)
    ]
    return np.array([run["reward"]["right"][0] ** 2 for run in runs])


def test_windows_over_a_joint_do_not_count():
    found = audit_model.open_loop(make_cfg(), METHOD, None, counting_data(), jnp.ones(1), KEY)
    assert 0 < found["windows"] < TASKS * audit_model.MOST
    np.testing.assert_allclose(counted_shares().sum(), 1, rtol=1e-5)


@pytest.mark.parametrize(
    "method, tasks, reason",
    [
        (METHOD._replace(predict=None), 3, "no world model"),
        (METHOD, 1, "codes of two tasks"),
        (METHOD._replace(context=Context(8)), 3, "leave no room"),
    ],
)
def test_what_cannot_be_computed_is_said(method, tasks, reason):
    data = jax.tree.map(lambda x: x[:tasks], counting_data())
    found = audit_model.open_loop(make_cfg(), method, None, data, jnp.ones(1), KEY)
    assert reason in found["not_computed"]
