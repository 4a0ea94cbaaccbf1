"""What is particular to the mean encoder: order means nothing, padding is not there."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import FrozenConfigDict

from metastar.models.encoders import mean_mlp
from model_helpers import ACTION, OBS, SPEC, random_view, scrambled

KEY = jax.random.key(0)
TASKS, LENGTH = 3, 7
VIEW = random_view(KEY, TASKS, LENGTH)


def make(**changes):
    fields = {name: field.value for name, field in mean_mlp.DEFAULTS.items()}
    encoder = mean_mlp.make(FrozenConfigDict(fields | {"hidden": (8, 8), **changes}), SPEC)
    return encoder, scrambled(encoder.init, KEY)


@pytest.mark.parametrize("bound", ["tanh", "none"])
@pytest.mark.parametrize("inputs", mean_mlp.INPUTS)
def test_against_loops(inputs, bound):
    encoder, params = make(inputs=inputs, bound=bound)
    view = VIEW._replace(
        done=jax.random.bernoulli(KEY, 0.5, VIEW.done.shape),
        valid=jnp.arange(LENGTH)[None] < jnp.array([7, 4, 1])[:, None],
    )
    codes = encoder.encode(params, view, None)
    for task in range(TASKS):
        each = []
        for t in range(LENGTH):
            x = np.concatenate(
                [np.atleast_1d(getattr(view, n)[task, t]) for n in mean_mlp.INPUTS[inputs]]
            )
            for i in range(2):
                layer = params[f"hidden_{i}"]
                x = np.maximum(x @ layer["kernel"] + layer["bias"], 0)
            x = x @ params["output"]["kernel"] + params["output"]["bias"]
            each.append(np.tanh(x) if bound == "tanh" else x)
        np.testing.assert_allclose(codes.each[task], each, rtol=1e-4, atol=1e-5)
        seen = np.array(each)[np.array(view.valid[task])]
        np.testing.assert_allclose(codes.task[task], seen.mean(0), rtol=1e-4, atol=1e-5)


def check_order(encode):
    order = jax.random.permutation(KEY, LENGTH)
    shuffled = jax.tree.map(lambda x: x[:, order] if x.ndim > 1 else x, VIEW)
    np.testing.assert_allclose(encode(shuffled), encode(VIEW), rtol=1e-5, atol=1e-6)


def test_the_order_of_transitions_means_nothing():
    encoder, params = make()
    check_order(lambda view: encoder.encode(params, view, None).task)


def test_a_code_of_the_last_transition_is_found():
    encoder, params = make()
    with pytest.raises(AssertionError):
        check_order(lambda view: encoder.encode(params, view, None).each[:, -1])


def test_repeating_a_bag_changes_nothing():
    encoder, params = make()
    twice = jax.tree.map(lambda x: jnp.concatenate([x, x], 1) if x.ndim > 1 else x, VIEW)
    code = encoder.encode(params, VIEW, None).task
    np.testing.assert_allclose(encoder.encode(params, twice, None).task, code, rtol=1e-5, atol=1e-6)


def test_a_context_of_nothing_has_code_zero_and_no_gradient():
    """Zero is also what a policy acts on before it has seen anything."""
    encoder, params = make()
    view = VIEW._replace(valid=jnp.zeros_like(VIEW.valid))
    loss = lambda params: jnp.sum((encoder.encode(params, view, None).task - 1) ** 2)  # noqa: E731
    np.testing.assert_array_equal(encoder.encode(params, view, None).task, 0)
    for grad in jax.tree.leaves(jax.grad(loss)(params)):
        np.testing.assert_array_equal(grad, 0)


def test_inputs_are_seen_and_others_are_not():
    unseen = {"reward": ("next_obs", "done"), "dynamics": ("done",), "terminal": ()}
    other = random_view(jax.random.key(1), TASKS, LENGTH)._replace(done=~VIEW.done)
    for inputs, columns in mean_mlp.INPUTS.items():
        encoder, params = make(inputs=inputs)
        code = encoder.encode(params, VIEW, None).task
        for name in (*columns, *unseen[inputs]):
            changed = VIEW._replace(**{name: getattr(other, name)})
            moved = np.abs(encoder.encode(params, changed, None).task - code).max()
            assert (moved > 1e-4) == (name in columns), (inputs, name)
        first = {"reward": 0, "dynamics": OBS, "terminal": OBS + 1}[inputs] + OBS + ACTION + 1
        assert params["hidden_0"]["kernel"].shape[0] == first
