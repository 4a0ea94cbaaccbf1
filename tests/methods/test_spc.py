"""SPC's settings fit together or are refused, and its parts with those of other systems."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import FrozenConfigDict

import make_config
from metastar import config
from metastar.errors import UserError
from metastar.models.latent_dynamics import KINDS
from metastar.training import checkpoint, chunk, runs, workdir
from metastar.training.restore import restore
from synthetic import point_robot_data, point_robot_spec

KEY = jax.random.key(0)
DATA = point_robot_data()
SPEC = point_robot_spec()._replace(num_policies=2, num_behaviors=2)


def made(**changes):
    """The method with some settings, "__" for dots, at the sizes of `debug`."""
    changes = {path.replace("__", "."): value for path, value in changes.items()}
    cfg = config.change(make_config.preset("spc", "point_robot_sparse", "debug"), changes)
    config.validate(cfg)
    return runs.make_method(FrozenConfigDict(cfg), SPEC)


def shapes(method, data=DATA, memory=None):
    """Shapes of the state before and after an update, and of the metrics; traced only."""
    (phase,) = method.phases

    def update(state, key):
        return phase.update(state, phase.sample(data, key, 0), key, method.hp, jnp.int32(0))

    state = jax.eval_shape(method.init, KEY)
    if memory is not None:
        state["encoder"] = state["encoder"]._replace(extra={"memory": memory})
    new, metrics = jax.eval_shape(update, state, KEY)
    return jax.tree.map(jnp.shape, state), jax.tree.map(jnp.shape, new), metrics


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_world_model_can_be_trained(kind):
    before, after, metrics = shapes(made(world_model__kind=kind, world_model__simplex=4))
    assert before == after and all(x.shape == () for x in metrics.values())


def test_the_control_is_as_wide_as_the_codes_and_the_papers_half_as_wide():
    def width(kind, matched):
        own = {"world_model__kind": kind, "world_model__matched_width": matched}
        state = jax.eval_shape(made(**own).init, KEY)
        return state["world_model"].params["encoder"]["output"]["bias"].shape[0]

    assert [width("discrete_ce", matched) for matched in (True, False)] == [8, 8]
    assert [width("continuous_mse", matched) for matched in (True, False)] == [8, 4]


@pytest.mark.parametrize("name", ["distance", "infonce", "adversary", "reconstruction"])
def test_task_losses_of_other_systems_join_the_contrast(name):
    own = {"sampler__windows": 2, "encoder__mean_mlp__context": "window"}
    method = made(**{f"task_losses__{name}": 1.0}, **own)
    before, after, metrics = shapes(method)
    assert before == after and name in metrics and "memory_infonce" in metrics


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"world_model__levels": (5, 1)}, r"world_model.levels is \(5, 1\)"),
        ({"world_model__horizon": 19}, "sampler.batch_size is 18 rows"),
        ({"world_model__kind": "simnorm_mse", "world_model__simplex": 3}, "multiple of 3"),
        ({"spc__period": 0}, "spc.period is 0"),
        ({"world_model__horizon": 0}, "world_model.horizon is 0"),
        ({"task_losses__club": 1.0, "club__inner_steps": 0}, "club.inner_steps is 0"),
        ({"encoder__mean_mlp__code_dim": 0}, "encoder.mean_mlp.code_dim is 0"),
    ],
)
def test_what_does_not_fit_is_refused(changes, words):
    with pytest.raises(UserError, match=words):
        made(**changes)


def test_windows_of_two_sources_can_be_asked_for():
    window = {"encoder__mean_mlp__context": "window", "sampler__windows": 2}
    method = made(**window, sampler__positive="other_behavior", task_losses__mmd=1.0)
    before, after, metrics = shapes(method)
    assert before == after and "mmd" in metrics


def test_its_task_model_predicts_where_it_reconstructs():
    """MetaSTAR's heads, under an exploring protocol for instance."""
    method = made(task_losses__reconstruction=1.0, reconstruction__width=8)
    params = jax.eval_shape(lambda: method.export(method.init(KEY)))
    one, code = jnp.zeros(2), jnp.zeros((5, 3))

    def predict(params):
        after = method.task_model.next_obs(params, one, one, code)
        return after, method.task_model.reward(params, one, one, after, code)

    after, reward = jax.eval_shape(predict, params)
    assert after.shape == (5, 2) and reward.shape == (5,)
    assert made().task_model is None


ENCODER = """
from metastar.config import Field
from metastar.models.encoders.mean_mlp import make

KIND = "encoder"
DEFAULTS = {"context": Field("bag", ("bag", "window")), "context_len": Field(6, "[1, inf)")}
"""


def test_an_encoder_without_a_size_of_its_code_is_refused(tmp_path, monkeypatch):
    (tmp_path / "sizeless.py").write_text(ENCODER)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UserError, match="'code_dim', which tells method 'spc' how many entries"):
        made(imports=("sizeless",), encoder__name="sizeless")


def test_a_memory_of_other_tasks_is_refused():
    with pytest.raises(UserError, match=r"the memory of codes has 5 rows, one a task, but .* 4"):
        shapes(made(), memory=jax.ShapeDtypeStruct((5, 3), jnp.float32))


def test_a_resume_refuses_a_memory_of_other_tasks(tmp_path):
    """A checkpoint, or data, of six tasks in the folder of a run on four."""
    cfg = FrozenConfigDict(make_config.preset("spc", "point_robot_sparse", "debug"))
    six = SPEC._replace(num_tasks=6)
    with workdir.opened(cfg, tmp_path) as path:
        workdir.write_spec(path, SPEC)
        (path / workdir.COMMAND).touch()
        owner = workdir.identity(path)
        state = chunk.abstract(runs.make_method(cfg, six))
        state = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), state)
        checkpoint.save(path / "checkpoints", 4, state, {}, owner.digests)
        with pytest.raises(UserError, match="was trained on other data than the data directory"):
            workdir.write_spec(path, six)
    with pytest.raises(UserError, match=r"\['memory'\] is \(\(6, 3\).* there and \(\(4, 3\)"):
        restore(tmp_path)


def test_paper_has_the_sizes_rates_and_habits_of_the_specification():
    """Its table of hyper-parameters, on a family whose recipe changes none of them."""
    cfg = config.flatten(make_config.preset("spc", "point_robot_sparse", "paper"))
    expected = {
        "train.updates": 500_000,
        "sampler.meta_batch": 16,
        "sampler.batch_size": 64 * 5,
        "sampler.with_replacement": True,
        "sampler.normalize_obs": False,
        "encoder.mean_mlp.code_dim": 5,
        "encoder.mean_mlp.hidden": (256, 256),
        "encoder.mean_mlp.layers": "norm_mish",
        "encoder.mean_mlp.inputs": "reward",
        "encoder.mean_mlp.context": "bag",
        "encoder.mean_mlp.context_len": 64,
        "world_model.kind": "discrete_ce",
        "world_model.groups": 512,
        "world_model.levels": (5, 3),
        "world_model.encoder_hidden": (512,),
        "world_model.hidden": (512, 512),
        "world_model.horizon": 5,
        "world_model.rho": 0.99,
        "world_model.consistency_weight": 1.0,
        "world_model.reward_weight": 1.0,
        "world_model.lr": 1e-4,
        "world_model.weight_decay": 0.01,
        "world_model.tau": 0.005,
        "world_model.mask_terminals": True,
        "spc.encoder_lr": 1e-4,
        "spc.period": 2,
        "spc.infonce_weight": 1.0,
        "spc.infonce_tau": 0.005,
        "spc.infonce_radius": 100.0,
        "spc.repeated": "last",
        "agent.iql.hidden": (256, 256),
        "agent.iql.layers": "norm_mish",
        "agent.iql.actor": "gaussian",
        "agent.iql.advantage_value": "previous",
        "agent.iql.actor_average": 0.0,
        "agent.iql.gamma": 0.99,
        "agent.iql.expectile": 0.8,
        "agent.iql.inverse_temperature": 3.0,
        "agent.iql.clip": 100.0,
        "agent.iql.tau": 0.005,
        "agent.iql.actor_lr": 3e-4,
        "agent.iql.critic_lr": 3e-4,
        "agent.iql.value_lr": 3e-4,
        "train.lr_decay": "none",
    }
    assert {path: cfg[path] for path in expected} == expected


def test_paper_has_as_many_parameters_as_the_specification_counts():
    """7.5 million on an observation of 27 and an action of 8 entries, ant-dir."""
    spec = SPEC._replace(obs_dim=27, action_dim=8, obs_mean=(0.0,) * 27, obs_std=(1.0,) * 27)
    cfg = make_config.preset("spc", "point_robot_sparse", "paper")
    state = jax.eval_shape(runs.make_method(FrozenConfigDict(cfg), spec).init, KEY)
    trained = [learner.params for learner in state.values()]
    assert sum(x.size for x in jax.tree.leaves(trained)) == pytest.approx(7.5e6, rel=0.1)
