"""The contract of a method, run over every file of `methods/` without being told of it."""

from collections import Counter

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict, FrozenConfigDict

import make_config
from metastar import config, registry
from metastar.config import schema
from metastar.data.sampler import sample_windows
from metastar.training import runs
from metastar.types import StepIn
from synthetic import point_robot_data, point_robot_spec

KEY = jax.random.key(0)


@pytest.fixture(scope="module")
def data():
    return point_robot_data()


@pytest.fixture(scope="module", params=registry.names("method"))
def method(request):
    """With a compiled `init`: one program in place of one for each of its operations."""
    made = make(request.param)
    return made._replace(init=jax.jit(made.init))


@pytest.fixture(scope="module")
def inference(method):
    """The compiled `infer`, for both tests of it."""
    return jax.jit(method.infer)


@pytest.fixture(scope="module")
def updates(method):
    """The jitted update of each phase and how often it was traced: compiled once for all tests."""
    traces = Counter()
    return {
        phase.name: jax.jit(update_fn(method, phase, traces)) for phase in method.phases
    }, traces


def make(name, **fields):
    cfg = make_config.preset(name, "point_robot_sparse", "debug")
    cfg = ConfigDict(config.nest({**config.flatten(cfg), **fields}))
    return runs.make_method(FrozenConfigDict(cfg), point_robot_spec())


def update_fn(method, phase, traces):
    def update(state, data, key, step=0):
        traces[phase.name] += 1
        key_sample, key_update = jax.random.split(key)
        batch = phase.sample(data, key_sample, step)
        return phase.update(state, batch, key_update, method.hp, step)

    return update


def assert_equal(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


def differ(a, b):
    a, b = jax.device_get((a, b))
    return any(jax.tree.leaves(jax.tree.map(lambda x, y: bool((x != y).any()), a, b)))


def test_updates_are_finite_deterministic_and_traced_once(method, updates, data):
    updates, traces = updates
    for update in updates.values():
        ends = []
        for _ in range(2):
            state = method.init(KEY)
            for step in range(3):
                state, metrics = update(state, data, KEY, step)
            ends.append(state)
        assert_equal(*ends)
        assert metrics and all(m.shape == () for m in metrics.values())
        assert all(np.isfinite(x).all() for x in jax.tree.leaves((state, metrics)))
    assert set(traces.values()) == {1}


@pytest.mark.slow  # test_runs.py has the same on a method that compiles in no time
def test_one_run_of_several_is_the_run_alone(method, updates, data):
    """Up to rounding, after one update under a key of its own."""
    keys = jax.random.split(KEY, 2)
    phase = method.phases[-1]
    together = jax.vmap(update_fn(method, phase, Counter()), in_axes=(0, None, 0))
    states = jax.vmap(method.init)(keys)
    many = jax.jit(together)(states, data, keys)
    lone = updates[0][phase.name](jax.tree.map(lambda x: x[1], states), data, keys[1], 0)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a[1], b, rtol=1e-5, atol=1e-5), many, lone)


def test_phases_train_all_parts_and_leave_alone_what_they_do_not_train(method, updates, data):
    state, trained = method.init(KEY), {}
    for name, update in updates[0].items():
        new, _ = update(state, data, KEY, 0)
        trained[name] = {part for part in new if differ(state[part].params, new[part].params)}
        for part in new.keys() - trained[name]:
            assert_equal(state[part], new[part])
    assert all(trained.values()) and set.union(*trained.values()) == state.keys()
    assert trained.get("pretrain", {"world_model"}) == {"world_model"}


def test_batches_differ_from_step_to_step(method, data):
    for phase in method.phases:
        sample = jax.jit(phase.sample)
        batches = [sample(data, KEY, step) for step in (0, 0, 1)]
        assert_equal(*batches[:2])
        for name, view in batches[0].views.items():
            assert differ(view.obs, batches[2].views[name].obs), (phase.name, name)


def test_tasks_are_held_for_as_many_updates_as_asked():
    data = point_robot_data(num_tasks=20)
    phase = make("metastar", **{"sampler.hold_updates": 5}).phases[-1]
    task_id = jax.jit(jax.vmap(lambda step: phase.sample(data, KEY, step).task_id))(jnp.arange(15))
    held = np.asarray(task_id).reshape(3, 5, -1)
    assert (held == held[:, :1]).all()
    assert (held[0] != held[1]).any() and (held[1] != held[2]).any()


@pytest.mark.slow
def test_jit_changes_nothing_but_rounding(method, updates, data):
    state, phase = method.init(KEY), method.phases[-1]
    jitted, _ = updates[0][phase.name](state, data, KEY, 0)
    with jax.disable_jit():
        plain, _ = update_fn(method, phase, Counter())(state, data, KEY)
    # Adam's first step is lr * sign(gradient): rounding noise may flip it where that is tiny.
    close = jax.tree.map(lambda a, b: np.isclose(a, b, atol=1e-5).mean(), jitted, plain)
    assert min(jax.tree.leaves(close)) > 0.9


@pytest.fixture(scope="module")
def window(data):
    return jax.jit(lambda data: sample_windows(data, jnp.array([0]), KEY, 12))(data)


def test_infer_and_act(method, inference, window, data):
    params = method.export(method.init(KEY))
    task = jax.tree.map(lambda x: x[0], data.task) if method.privileged else None
    adaptation, again = (inference(params, window, task, KEY) for _ in range(2))
    assert_equal(adaptation, again)
    assert adaptation.code.ndim == 1 and np.isfinite(adaptation.code).all()
    step = StepIn(jnp.ones(2), jnp.zeros(2), jnp.zeros(()), jnp.ones(2), jnp.array(True))
    carry = method.policy.init(params, adaptation)
    act = jax.jit(method.policy.act, static_argnums=5)
    greedy, drawn = (
        [act(params, adaptation, carry, step, jax.random.key(i), kind)[0] for i in range(2)]
        for kind in (True, False)
    )
    np.testing.assert_array_equal(*greedy)
    assert (drawn[0] != drawn[1]).any() and np.abs(drawn).max() <= 1


def test_a_shorter_context_is_padding_only(method, inference, window, data):
    """Any length up to the position table works, and what lies beyond `valid` does not count."""
    params = method.export(method.init(KEY))
    task = jax.tree.map(lambda x: x[0], data.task) if method.privileged else None
    short = window._replace(valid=jnp.arange(12)[None] < 5)
    garbage = short._replace(
        obs=jnp.where(short.valid[..., None], window.obs, 7.0),
        action=jnp.where(short.valid[..., None], window.action, -1.0),
    )
    codes = [inference(params, view, task, KEY).code for view in (short, garbage)]
    np.testing.assert_allclose(*codes, atol=1e-6)


def test_the_whole_update_lowers_for_every_accelerator(method, data):
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), data)
    state = jax.eval_shape(method.init, KEY)
    key = jax.eval_shape(lambda: KEY)
    for phase in method.phases:
        update = jax.jit(update_fn(method, phase, Counter()))
        exported = jax.export.export(update, platforms=("cpu", "cuda", "tpu"))(state, shapes, key)
        assert exported.platforms == ("cpu", "cuda", "tpu")


def test_the_habits_of_the_paper_preset_train(data):
    """All that `paper` does otherwise than `debug`, at the sizes of `debug`."""
    paper = config.flatten(make_config.preset("metastar", "point_robot_sparse", "paper"))
    habits = [
        *("task_losses.distance", "world_model.code_bound", "sampler.windows"),
        *("world_model.attention_dropout", "world_model.mask_episode_boundaries"),
        *("sampler.with_replacement", "sampler.hold_updates", "agent.conservative.cql_states"),
        *("agent.conservative.actor_average", "sampler.normalize_obs", "train.lr_decay"),
    ]
    changes = {name: paper[name] for name in habits if name in paper}
    method = make("metastar", **changes, **{"task_losses.infonce": 0.0})
    state = jax.jit(method.init)(KEY)
    for phase in method.phases:
        new, metrics = jax.jit(update_fn(method, phase, Counter()))(state, data, KEY)
        assert "distance" in metrics and "infonce" not in metrics
        assert all(np.isfinite(x).all() for x in jax.tree.leaves((new, metrics)))
    assert_equal(new["agent"].extra["actor"], new["agent"].params["actor"])  # no average


def test_what_can_be_swept_is_traced():
    """No value of it is a constant of the program: all its runs share one."""

    def programs(factor):
        flat = config.flatten(make_config.preset("metastar", "point_robot_sparse", "debug"))
        fields = schema.of(flat).fields
        fields = {p: flat[p] or 0.5 for p in fields if fields[p].swept}
        method = make("metastar", **{name: factor * value for name, value in fields.items()})
        state, data = jax.eval_shape(method.init, KEY), point_robot_data()
        for phase in method.phases:

            def update(state, data, key, hp, phase=phase):
                return phase.update(state, phase.sample(data, key, 0), key, hp, 0)

            yield str(jax.make_jaxpr(update)(state, data, KEY, method.hp))

    assert list(programs(1.0)) == list(programs(0.9))


@pytest.mark.parametrize(
    "fields",
    [
        {
            "world_model.condition": "token",
            "world_model.ensemble": 3,
            "world_model.free_bits_per": "element",
            "world_model.attention_dropout": 0.1,
            "imagine.start": "real",
            "imagine.horizon": 8,  # to the last row of the position table
            "imagine.num_rollouts": 1,
            "imagine.restart": True,
            "imagine.uncertainty": "disagreement",
            "agent.conservative.penalty": "combo",
        },
        {
            "world_model.core": "gru",
            "world_model.condition": "token",
            "imagine.penalty": 1.0,
            "imagine.reach": 1.5,
            "task_losses.reconstruction": 1.0,
            "reconstruction.width": 8,
            "reconstruction.variance_power": 0.0,
            "reconstruction.reward_given": "next_obs",
            "agent.conservative.penalty": "reward_uncertainty",
        },
    ],
    ids=["combo", "reward_uncertainty"],
)
def test_every_way_to_imagine_fits_the_others(data, fields):
    """Traced only: an update gives back a state of the same shapes, and nothing broadcasts."""
    method = make("metastar", **fields)
    state = jax.eval_shape(method.init, KEY)
    for phase in method.phases:
        new, metrics = jax.eval_shape(update_fn(method, phase, Counter()), state, data, KEY)
        assert jax.tree.structure(new) == jax.tree.structure(state)
        assert [x.shape for x in jax.tree.leaves(new)] == [x.shape for x in jax.tree.leaves(state)]
        assert all(x.shape == () for x in jax.tree.leaves(metrics))
    params = jax.eval_shape(method.export, state)
    value = jax.eval_shape(method.value, params, jnp.zeros(2), jnp.zeros(2), jnp.zeros(3))
    assert value.shape == ()
