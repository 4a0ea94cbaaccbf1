"""The update of `methods/contextual.py`: recorded numbers, who moves whom, and what it refuses.

What could go wrong comes as a twin that must fail the same check.
"""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import make_config
from focal_record import Focal
from golden_npz import PRECISIONS, file_of
from jaxprs import equations
from metastar import config, registry
from metastar import main as cli
from metastar.data import rows
from metastar.data.sampler import sample_transitions
from metastar.errors import UserError
from metastar.losses import objective
from metastar.methods import contextual
from metastar.methods.contextual import ENCODER, ENSEMBLE, NET, OPPONENTS, TASK_LOSSES
from metastar.models.acting import AGENT, one_batch
from metastar.types import Agent, Batch, Codes, Context, Learner, Opponent, TaskLoss
from model_helpers import random_view
from synthetic import point_robot_data, point_robot_spec

KEY = jax.random.key(0)
CONFIG = f"--config={make_config.CONFIGS / 'focal.py'}:point_robot_sparse,debug"


def bind(spec=None, **values):
    """A system and its numbers, small; `values` by path with "__" for dots."""
    small = {
        "method": "contextual",
        "data.preset": "debug",
        "encoder.mean_mlp.hidden": (8,),
        "encoder.mean_mlp.code_dim": 3,
        "encoder.mean_mlp.context_len": 6,
        "sampler.meta_batch": 3,
        "sampler.batch_size": 4,
        "task_losses.distance": 1.0,
    }
    values = {path.replace("__", "."): x for path, x in values.items()}
    agent = values.get("agent.name", "iql")
    cfg = config.build({**small, f"agent.{agent}.hidden": (8,), **values})
    config.validate(cfg)
    own = config.scope(cfg, "contextual", contextual)
    hp = jax.tree.map(jnp.asarray, config.swept(cfg))
    return contextual.bind(own, spec or point_robot_spec()), hp


def watching_agent(num_batches=1):
    """An agent that learns nothing; the metrics of an update are the rows that it was given."""

    def update(learner, rows, key, hp, step):
        return learner, {"rows": rows}

    return Agent(
        init=lambda key, size: Learner({"size": jnp.zeros(size)}),
        update=update,
        export=lambda learner: learner.params,
        act=lambda params, obs_code, noise, greedy: noise,
        num_batches=num_batches,
    )


def draw(system, data):
    return jax.jit(lambda data: contextual.sample(system, data, KEY, 0))(data)


def some_batch(system):
    return draw(system, point_robot_data())


def differ(a, b):
    a, b = jax.device_get((a, b))
    return any(jax.tree.leaves(jax.tree.map(lambda x, y: bool((x != y).any()), a, b)))


# --- recorded numbers


class FocalUpdate(Focal):
    """The block `focal`, with whole updates of the method in its place."""

    def system(self, inputs):
        sizes = {
            "encoder__mean_mlp__hidden": self.hidden,
            "encoder__mean_mlp__code_dim": self.code_dim,
            "encoder__mean_mlp__inputs": inputs,
            "task_losses__distance": self.weight,
            "contextual__encoder_lr": self.lr,
        }
        system, hp = bind(self.spec, **sizes)
        return system._replace(agent=watching_agent()), hp

    def batch(self):
        task_id = self.source["in/tasks"]
        views = {"context": self.view(), "real": random_view(KEY, len(task_id), 2)}
        return Batch(task_id, None, views)

    def updates(self, case):
        """What two updates give, under the names of the file."""
        system, hp = self.system(case)
        params = {NET: self.start(case), TASK_LOSSES: {}}
        opt_state = system.optimizer.init(params)
        state = {ENCODER: Learner(params, opt_state=opt_state), AGENT: Learner({})}
        update = jax.jit(
            lambda state, step: contextual.update(system, state, self.batch(), KEY, hp, step)
        )
        once, metrics = update(state, 0)
        twice, _ = update(once, 1)
        moment = optax.tree_utils.tree_get(once[ENCODER].opt_state, "mu")
        code = metrics["rows"].obs_code.reshape(len(self.batch().task_id), 2, -1)
        found = {
            f"out/{case}/z": code[:, 0, self.spec.obs_dim :],
            f"out/{case}/metric_pos": metrics["distance_pos"],
            f"out/{case}/metric_neg": metrics["distance_neg"],
            **self.named(f"grad/{case}", jax.tree.map(lambda m: m / 0.1, moment[NET])),
            **self.named(f"after/{case}", once[ENCODER].params[NET]),
        }
        if case == "reward":
            found |= self.named(f"after2/{case}", twice[ENCODER].params[NET])
        return found


@pytest.mark.parity("baselines")
@pytest.mark.parametrize("bits", PRECISIONS)
def test_the_update_gives_the_recorded_numbers(bits, pytestconfig):
    with jax.enable_x64(bits == 64):
        focal = FocalUpdate(bits, file_of("baselines", pytestconfig))
        found = focal.updates("reward") | focal.updates("dynamics")
        assert len(found) == 2 * 3 + 5 * len(focal.names)
        assert set(found) <= set(focal.expected)
        assert not focal.misses({**focal.expected, **found})
        focal.weight = 1.001 * focal.weight  # a twin that weighs the distance otherwise
        assert focal.misses({**focal.expected, **focal.updates("reward")})


# --- who moves whom


def first(system):
    """The first state, by one program in place of one for each of its operations."""
    return jax.jit(lambda key: contextual.init(system, key))(KEY)


def run(system, hp, batch, update=contextual.update):
    """The first state, the second, and the metrics between."""
    state = first(system)
    return state, *jax.jit(lambda state, hp: update(system, state, batch, KEY, hp, 0))(state, hp)


def check_the_agent_moves_no_code(update):
    """Other rewards of the rows move the agent elsewhere, and the encoder nowhere else."""
    system, hp = bind()
    batch, state = some_batch(system), first(system)

    @jax.jit
    def step(reward):
        real = batch.views["real"]._replace(reward=jnp.full((3, 4), reward))
        own = batch._replace(views={**batch.views, "real": real})
        return update(system, state, own, KEY, hp, 0)[0]

    one, other = step(0.0), step(5.0)
    assert differ(one[AGENT].params, other[AGENT].params)
    assert not differ(one[ENCODER].params, other[ENCODER].params)


def test_no_gradient_of_the_agent_reaches_the_encoder():
    check_the_agent_moves_no_code(contextual.update)

    def leaking(system, state, batch, key, hp, step):
        new, metrics = contextual.update(system, state, batch, key, hp, step)

        def value(net):
            code = contextual.encode(system, net, batch, key)["context"].task
            return (code.mean() * batch.views["real"].reward).mean()

        grads = jax.grad(value)(state[ENCODER].params[NET])
        net = jax.tree.map(lambda x, g: x - 1e-3 * g, new[ENCODER].params[NET], grads)
        params = {**new[ENCODER].params, NET: net}
        return {**new, ENCODER: new[ENCODER]._replace(params=params)}, metrics

    with pytest.raises(AssertionError):
        check_the_agent_moves_no_code(leaking)


def test_the_encoder_learns_from_the_objective_alone():
    system, hp = bind()
    start, end, _ = run(system, {**hp, "task_losses": {"distance": 0.0}}, some_batch(system))
    assert not differ(start[ENCODER].params, end[ENCODER].params)
    assert differ(start[AGENT].params, end[AGENT].params)
    _, end, _ = run(system, hp, some_batch(system))
    assert differ(start[ENCODER].params, end[ENCODER].params)


@pytest.mark.parametrize("num_batches", [1, 3])
def test_the_agent_sees_the_codes_from_before_the_encoders_step(num_batches):
    system, hp = bind(contextual__encoder_lr=0.1)
    system = system._replace(agent=watching_agent(num_batches))
    batch = some_batch(system)
    start, end, metrics = run(system, hp, batch)

    @jax.jit
    def code_at(state):
        return contextual.encode(system, state[ENCODER].params[NET], batch, KEY)["context"].task

    shape = (3, 4) if num_batches == 1 else (num_batches, 3, 4)
    seen = metrics["rows"].obs_code.reshape(*shape, -1)
    seen = seen if num_batches == 1 else seen.swapaxes(0, 1).reshape(3, num_batches * 4, -1)
    np.testing.assert_array_equal(seen[..., :2], batch.views["real"].obs)
    assert len(np.unique(seen[..., 0])) == 3 * 4 * num_batches  # independent batches
    own = seen[..., 2:]
    np.testing.assert_allclose(own, np.broadcast_to(code_at(start)[:, None], own.shape), rtol=1e-5)
    assert np.abs(own[:, 0] - code_at(end)).max() > 1e-3


def test_an_agent_of_several_batches_is_refused_where_one_is_drawn():
    assert one_batch(watching_agent(), "brac", "oracle").num_batches == 1
    with pytest.raises(
        UserError, match=r"'brac' learns from 3 batches .* method 'oracle' draws one"
    ):
        one_batch(watching_agent(3), "brac", "oracle")
    leaf = jnp.arange(12).reshape(2, 6)
    found = rows.flatten(rows.Transitions(*[leaf] * 6), 3).reward
    np.testing.assert_array_equal(found, [[0, 1, 6, 7], [2, 3, 8, 9], [4, 5, 10, 11]])


def with_opponent(system, inner_steps=1):
    """A loss `w sum z`, whose opponent w descends `(w - 1)^2 + w sum z`."""

    def fit(params, codes, batch, noise):
        w = params["w"]
        return (w - 1) ** 2 + w * codes["context"].task.sum(), {"fit": w}

    def loss(params, codes, batch, noise, hp):
        return params["w"] * codes["context"].task.sum(), {"seen": params["w"]}

    opponent = Opponent(lambda key: {"w": jnp.zeros(())}, fit, inner_steps=inner_steps)
    return system._replace(task_losses={"game": TaskLoss(("context",), loss, opponent=opponent)})


@pytest.mark.parametrize("inner_steps", [1, 3])
def test_opponents_answer_before_the_encoder_moves(inner_steps):
    system, hp = bind()
    system = with_opponent(system, inner_steps)
    batch = some_batch(system)

    def play(lr):
        numbers = {**hp, "task_losses": {"game": 1.0}, "game": {"lr": lr}}
        start, end, metrics = run(system, numbers, batch)
        w = end[OPPONENTS].params["game"]["w"]
        np.testing.assert_array_equal(metrics["seen"], w)
        return differ(start[ENCODER].params, end[ENCODER].params), w, end

    moved, w, end = play(0.1)
    np.testing.assert_allclose(w, 0.1 * inner_steps, rtol=0.1)  # Adam's steps, of the rate's size
    assert moved and OPPONENTS in end
    moved, w, _ = play(0.0)  # what an encoder that went first would see: w is still 0
    assert w == 0 and not moved


def test_an_ensemble_fits_rows_of_its_own_and_moves_no_code():
    """IDAQ's models, two of each kind; encoder and agent end where they end without them."""
    sizes = {"ensemble__members": 2, "ensemble__rows": 5, "ensemble__hidden": (8,)}
    system, hp = bind(**sizes)
    batch = some_batch(system)
    assert batch.views["members"].reward.shape == (3, 10)
    before, after, metrics = run(system, hp, batch)
    assert metrics["ensemble_reward"] > 0 and metrics["ensemble_next_obs"] > 0
    moved = jax.tree.map(
        lambda a, b: (a != b).any((1, 2)[: a.ndim - 1]).all(),
        *(state[ENSEMBLE].params["reward"]["output"] for state in (before, after)),
    )
    assert all(jax.tree.leaves(moved))  # of both members
    alone, own = bind()
    _, plain, _ = run(alone, own, batch)
    assert not differ(plain, {part: after[part] for part in plain})

    method = contextual.make(system.cfg, system.spec)
    params, zeros = method.export(after), jnp.zeros(2)
    reward, next_obs = method.task_model.members(params, zeros, zeros, jnp.ones(3))
    assert reward.shape == (2,) and next_obs.shape == (2, 2)
    args = params, zeros, zeros
    found = method.task_model.next_obs(*args, jnp.ones((1, 3)))
    np.testing.assert_allclose(found[0], next_obs.mean(0), rtol=1e-5)
    found = method.task_model.reward(*args, found, jnp.ones((1, 3)))
    np.testing.assert_allclose(found[0], reward.mean(), rtol=1e-5)
    lone, _ = bind(ensemble__members=1)
    assert contextual.make(lone.cfg, lone.spec).task_model.members is None


def test_a_period_is_a_branch_and_the_agent_keeps_learning():
    system, hp = bind(contextual__encoder_period=3)
    batch = some_batch(system)
    update = jax.jit(lambda state, step: contextual.update(system, state, batch, KEY, hp, step))
    state, moved = first(system), []
    for step in range(7):
        new, _ = update(state, step)
        assert differ(state[AGENT].params, new[AGENT].params)
        moved.append(differ(state[ENCODER].params, new[ENCODER].params))
        state = new
    assert moved == [True, False, False, True, False, False, True]
    assert update._cache_size() == 1
    states = jax.vmap(lambda key: contextual.init(system, key))(jax.random.split(KEY, 2))
    together = jax.vmap(
        lambda state, step: contextual.update(system, state, batch, KEY, hp, step), (0, None)
    )
    names = [eqn.primitive.name for eqn in equations(jax.make_jaxpr(together)(states, 1).jaxpr)]
    assert "cond" in names  # of several runs it remains one


# --- batches, inference and capabilities


@pytest.mark.parametrize("kind", ["bag", "window"])
def test_contexts_are_of_the_batchs_tasks_and_independent(kind):
    data = point_robot_data()
    data = data._replace(reward=data.reward * 0 + jnp.arange(4.0)[:, None])
    system, _ = bind(encoder__mean_mlp__context=kind, sampler__windows=2)
    batch = draw(system, data)
    assert set(batch.views) == {"context", "positive", "real"}
    for view in batch.views.values():
        np.testing.assert_array_equal(
            view.reward, jnp.broadcast_to(batch.task_id[:, None], view.reward.shape)
        )
    context, positive = (batch.views[name] for name in system.views)
    assert context.obs.shape == (3, 6, 2) and (context.obs != positive.obs).any((1, 2)).all()
    follows = np.abs(context.obs[:, 1:] - context.next_obs[:, :-1]).max() < 1e-6
    assert follows == (kind == "window") and system.context.ordered == (kind == "window")


def test_inference_is_the_encoder_on_what_training_shows_it():
    system, _ = bind(sampler__normalize_obs=True)
    state = first(system)
    params = contextual.export(system, state)
    view = sample_transitions(point_robot_data(), jnp.array([2]), KEY, 6)
    method = contextual.make(system.cfg, system.spec)
    code = jax.jit(method.infer)(params, view, None, KEY).code
    batch = Batch(jnp.array([2]), None, {"context": system.whiten_view(view)})
    encode = jax.jit(lambda net: contextual.encode(system, net, batch, KEY)["context"].task[0])
    expected = encode(state[ENCODER].params[NET])
    np.testing.assert_allclose(code, expected, rtol=1e-6)


def test_what_it_can_follows_from_its_parts():
    def make(**values):
        system, _ = bind(**values)
        return contextual.make(system.cfg, system.spec)

    plain = make()
    assert plain.task_model is None and plain.value is not None and plain.predict is None
    assert plain.context == Context(6, ordered=False)
    assert set(plain.init(KEY)) == {ENCODER, AGENT}
    able = make(task_losses__reconstruction=1.0, sampler__windows=2, task_losses__club=0.1)
    state = able.init(KEY)
    assert set(state) == {ENCODER, AGENT, OPPONENTS}
    params = able.export(state)
    code = jnp.zeros((5, 3))
    found = able.task_model.next_obs(params, jnp.zeros(2), jnp.zeros(2), code)
    assert found.shape == (5, 2)
    reward = able.task_model.reward(params, jnp.zeros(2), jnp.zeros(2), found, code)
    assert reward.shape == (5,)


@pytest.mark.parametrize("agent", registry.names("agent"))
def test_every_agent_takes_its_place_by_one_override(agent):
    cfg = config.load(CONFIG.removeprefix("--config="), [f"--config.agent.name={agent}"])
    assert cfg.agent.name == agent and set(cfg.agent) == {"name", agent}
    system, hp = bind(agent__name=agent)
    state, batch = jax.eval_shape(lambda: contextual.init(system, KEY)), some_batch(system)
    new, metrics = jax.eval_shape(
        lambda state: contextual.update(system, state, batch, KEY, hp, 0), state
    )
    assert jax.tree.map(jnp.shape, new) == jax.tree.map(jnp.shape, state)
    assert all(x.shape == () for x in jax.tree.leaves(metrics))


# --- what it refuses


@pytest.mark.parametrize(
    "overrides, sentence",
    [
        (
            ["contextual.encoder_period=0"],
            "contextual.encoder_period is 0 but must lie in [1, inf)",
        ),
        (["task_losses.distance=0"], "every weight of task_losses is 0 but method 'contextual'"),
        (["task_losses.infonce=1", "sampler.windows=1"], "set sampler.windows=2"),
        (["task_losses.club=1", "sampler.windows=1"], "club' needs the view 'positive'"),
        (["task_losses.club=1", "club.inner_steps=0"], "club.inner_steps is 0 but must lie in"),
        (["sampler.positive=other_behavior"], "set encoder.mean_mlp.context='window'"),
        (["encoder.mean_mlp.code_dim=0"], "encoder.mean_mlp.code_dim is 0 but must lie in"),
        (["encoder.name=mean_mpl"], "unknown encoder 'mean_mpl'; did you mean 'mean_mlp'"),
    ],
)
def test_a_mistake_is_one_sentence(overrides, sentence, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = [f"--config.{word}" for word in overrides]
    assert cli.main(["train", CONFIG, "--dry-run", *words]) == 2
    error = capsys.readouterr().err
    assert sentence in error and error.count("\n") == 1
    assert not list(Path().iterdir())


def test_an_objective_on_a_view_that_nobody_draws_is_refused():
    loss = TaskLoss(("context", "future"), lambda *args: (0.0, {}))
    with pytest.raises(UserError, match="needs the view 'future', which is not drawn: there are"):
        objective.expect_views({"mine": loss}, ("context", "positive"))


@pytest.mark.parametrize(
    "code",
    [
        lambda view: jnp.zeros(view.reward.shape[:-1]),  # one number a task, without an axis
        lambda view: jnp.zeros((*view.reward.shape[:-1], 3), int),  # tokens
        lambda view: jnp.zeros((*view.reward.shape[:-1], 4)),  # another size than it says
        lambda view: jnp.zeros((*view.reward.shape, 3)),  # of every step
    ],
    ids=["no axis", "integers", "another size", "each"],
)
def test_codes_that_the_agent_cannot_take_are_refused(code):
    system, hp = bind()
    encoder = system.encoder._replace(encode=lambda params, view, noise: Codes(code(view)))
    system = system._replace(encoder=encoder)
    state = first(system)
    with pytest.raises(UserError, match=r"encoder 'mean_mlp' gives codes .* an agent takes"):
        contextual.update(system, state, some_batch(system), KEY, hp, 0)


def test_a_window_that_no_task_can_fill_is_refused():
    data = point_robot_data(episodes=2, steps=20)
    longest = {"encoder__mean_mlp__context": "window", "encoder__mean_mlp__context_len": 40}
    system, _ = bind(**longest)
    assert draw(system, data).views["context"].valid.all()
    system, _ = bind(**{**longest, "encoder__mean_mlp__context_len": 41})
    with pytest.raises(
        UserError, match="context_len is 41, but no task of the data has more than 40"
    ):
        draw(system, data)
    bag, _ = bind(encoder__mean_mlp__context_len=41)  # drawn one by one
    assert draw(bag, data).views["context"].valid.all()


def test_an_encoder_without_a_setting_that_is_asked_for_is_refused():
    system, _ = bind()
    cfg = config.nest({"encoder.name": "mean_mlp", "encoder.mean_mlp.code_dim": 3})
    cfg |= {"task_losses": {"distance": 1.0}, "sampler": {"positive": "any"}}
    with pytest.raises(UserError, match="encoder 'mean_mlp' has no setting 'context', which"):
        contextual.check(type(system.cfg)(cfg))
