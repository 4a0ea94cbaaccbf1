"""What the `paper` presets say, held against the papers and the codes that their authors released.

Sizes are those of Cheetah-Vel: 20 numbers of state, 6 of action, 20 training tasks.
"""

from functools import cache

import jax
import pytest

import make_config
from metastar import config
from metastar.config import schema
from metastar.models.nets import actor_forms
from metastar.types import DataSpec

O, A, TASKS = 20, 6, 20  # noqa: E741

ADAM = 3e-4
PLAIN = {  # in all papers: raw observations, one context of a task, constant rates
    "sampler.normalize_obs": False,
    "sampler.windows": 1,
    "train.lr_decay": "none",
}
FOCAL_STACK = {  # what FOCAL, ER-TRL and CSRO share
    **PLAIN,
    "encoder.name": "mean_mlp",
    "encoder.mean_mlp.layers": "relu",
    "encoder.mean_mlp.hidden": (200, 200, 200),
    "encoder.mean_mlp.code_dim": 20,
    "encoder.mean_mlp.inputs": "reward",
    "encoder.mean_mlp.bound": "tanh",
    "encoder.mean_mlp.sampled": False,
    "encoder.mean_mlp.context": "bag",
    "encoder.mean_mlp.context_len": 100,
    "contextual.encoder_lr": ADAM,
    "contextual.encoder_period": 1,
    "task_losses.distance": 10.0,
    "sampler.meta_batch": 16,
    "sampler.batch_size": 256,
    "agent.name": "brac",
    "agent.brac.hidden": (256, 256, 256),
    "agent.brac.actor_lr": ADAM,
    "agent.brac.critic_lr": ADAM,
    "agent.brac.value_lr": ADAM,
    "agent.brac.dual_lr": 1e-4,
    "agent.brac.dual_steps": 3,
    "agent.brac.gradient_penalty": "value",  # the bug of their codes
    "agent.brac.penalty_weight": 5.0,
    "agent.brac.gamma": 0.99,
    "agent.brac.tau": 0.005,
    "agent.brac.reward_scale": 5.0,
    "agent.brac.alpha": 50.0,
    "agent.brac.alpha_max": 2000.0,
    "agent.brac.alpha_lr": 1.0,
    "agent.brac.alpha_memory": "free",
    "agent.brac.target_divergence": 0.05,
    "agent.brac.decay": 1e-3,
    "agent.brac.entropy": 1.0,
    "agent.brac.value_penalty": 0.0,
}
UNICORN = {
    **PLAIN,
    "encoder.name": "mean_mlp",
    "encoder.mean_mlp.layers": "relu",
    "encoder.mean_mlp.hidden": (64, 64),
    "encoder.mean_mlp.code_dim": 5,
    "encoder.mean_mlp.inputs": "terminal",
    "encoder.mean_mlp.bound": "tanh",
    "encoder.mean_mlp.sampled": True,
    "encoder.mean_mlp.context": "window",  # a trajectory
    "encoder.mean_mlp.context_len": 200,
    "contextual.encoder_lr": ADAM,
    "contextual.encoder_period": 1,
    "sampler.with_replacement": True,
    "sampler.meta_batch": 16,
    "sampler.batch_size": 256,
    "agent.name": "sac",
    "agent.sac.hidden": (256, 256),
    "agent.sac.lr": ADAM,
    "agent.sac.gamma": 0.99,
    "agent.sac.tau": 0.005,
    "agent.sac.alpha": 0.0,
    "train.updates": 1000 * 200,
}
SETTINGS = {
    "spc": {
        **PLAIN,
        "train.updates": 100 * 5000,
        "sampler.meta_batch": 16,
        "sampler.with_replacement": True,
        "sampler.batch_size": 64 * 5,  # sequences times steps
        "world_model.horizon": 5,
        "encoder.name": "mean_mlp",
        "encoder.mean_mlp.context": "bag",
        "encoder.mean_mlp.context_len": 64,
        "encoder.mean_mlp.code_dim": 5,
        "encoder.mean_mlp.hidden": (256, 256),
        "encoder.mean_mlp.layers": "norm_mish",
        "encoder.mean_mlp.inputs": "reward",
        "encoder.mean_mlp.unit_length": False,
        "world_model.kind": "discrete_ce",
        "world_model.groups": 512,
        "world_model.levels": (5, 3),
        "world_model.simplex": 8,
        "world_model.matched_width": False,
        "world_model.mask_terminals": True,
        "world_model.encoder_hidden": (512,),
        "world_model.hidden": (512, 512),
        "world_model.lr": 1e-4,
        "world_model.weight_decay": 0.01,
        "world_model.tau": 0.005,
        "world_model.rho": 0.99,
        "world_model.consistency_weight": 1.0,
        "world_model.reward_weight": 1.0,
        "spc.encoder_lr": 1e-4,
        "spc.period": 2,
        "spc.infonce_weight": 1.0,
        "spc.infonce_tau": 0.005,
        "spc.infonce_radius": 100.0,
        "spc.repeated": "last",
        "agent.name": "iql",
        "agent.iql.hidden": (256, 256),
        "agent.iql.layers": "norm_mish",
        "agent.iql.actor": "gaussian",
        "agent.iql.actor_lr": ADAM,
        "agent.iql.critic_lr": ADAM,
        "agent.iql.value_lr": ADAM,
        "agent.iql.actor_average": 0.0,
        "agent.iql.expectile": 0.8,
        "agent.iql.inverse_temperature": 3.0,
        "agent.iql.clip": 100.0,
        "agent.iql.gamma": 0.99,
        "agent.iql.tau": 0.005,
        "agent.iql.reward_scale": 1.0,
        "agent.iql.advantage_value": "previous",
    },
    "meta_dt": {
        "train.lr_decay": "none",
        "sampler.normalize_obs": True,
        "sampler.with_replacement": True,
        "sampler.meta_batch": 64,  # of two sequences: 128
        "sampler.batch_size": 2,
        "world_model.history": 4,
        "world_model.code_dim": 16,
        "world_model.width": 128,
        "world_model.decoder_width": 128,
        "world_model.predicts": "reward",
        "world_model.lr": 1e-3,
        "world_model.clip_norm": 1.0,
        "world_model.rows": 1,
        "train.pretrain_updates": 4_226_000,  # 601 passes of 45 * 20 000 / 128
        "train.updates": 200_000,
        "meta_dt.context_len": 20,
        "meta_dt.lr": 5e-5,
        "meta_dt.lr_warmup": 10_000,
        "meta_dt.weight_decay": 1e-4,
        "meta_dt.clip_norm": 0.25,
        "meta_dt.return_scale": 500.0,
        "meta_dt.target": "context",
        "transformer.width": 128,
        "transformer.num_layers": 3,
        "transformer.num_heads": 1,
        "transformer.dropout": 0.1,
        "prompt.choice": "sampled",
        "prompt.length": 5,
        "prompt.share": 1.0,
        "prompt.after": 20_001,
        "prompt.error": "tail",
        "prompt.normalized_target": True,
        "acting.kept": 19,
        "acting.early_codes": "zeros",
    },
    "focal": {
        **FOCAL_STACK,
        "sampler.with_replacement": True,  # since December 2023
        "agent.brac.divergence": "mixed",
        "train.updates": 500 * 200,
    },
    "idaq": {
        **FOCAL_STACK,
        "sampler.with_replacement": True,
        "agent.brac.divergence": "mixed",
        "eval.idaq_explore": 2,
        "eval.idaq_candidates": 5,
        "eval.idaq_score": "return",  # the paper's best
        "eval.idaq_frozen": False,  # of its code by return
        "eval.idaq_final": "best",
        "eval.idaq_context": 4 * 200,  # all steps before the scored episode
        "eval.idaq_spread": "time",  # of its code
        "ensemble.members": 12,
        "ensemble.hidden": (256, 256, 256),
        "ensemble.rows": 256,
        "ensemble.lr": ADAM,
        "ensemble.first_dynamics": False,  # of its code
    },
    "er_trl": {
        **FOCAL_STACK,
        "sampler.with_replacement": False,
        "agent.brac.divergence": "updated",
        "train.updates": 100 * 1000,
        "task_losses.conditional_entropy": 2.5,
        "conditional_entropy.width": 200,
        "conditional_entropy.generator_layers": 3,
        "conditional_entropy.discriminator_width": 256,
        "conditional_entropy.noise_dim": 20,
        "conditional_entropy.rows": 256,
        "conditional_entropy.inner_steps": 5,
        "conditional_entropy.turns": "one_by_one",
        "conditional_entropy.lr": 2e-4,
    },
    "csro": {
        **FOCAL_STACK,
        "sampler.with_replacement": False,
        "agent.brac.divergence": "updated",
        "train.updates": 105 * 1000,
        "task_losses.club": 10.0,
        "club.codes": "transition",
        "club.inputs": "action",
        "club.width": 200,
        "club.inner_steps": 1,
        "club.lr": 3e-4,
    },
    "corro": {
        **{name: x for name, x in PLAIN.items() if name != "sampler.windows"},
        "encoder.name": "mean_mlp",
        "encoder.mean_mlp.layers": "relu",
        "encoder.mean_mlp.hidden": (64, 64),
        "encoder.mean_mlp.code_dim": 5,
        "encoder.mean_mlp.inputs": "dynamics",
        "encoder.mean_mlp.bound": "none",  # codes of transitions get length 1
        "encoder.mean_mlp.context": "window",  # a trajectory
        "encoder.mean_mlp.context_len": 200,
        "generator.hidden": (64,),  # 64 to 128
        "generator.latent_dim": 5,
        "corro.negatives": "generated",
        "corro.num_negatives": 16,
        "corro.pairs": 64,
        "corro.temperature": 0.1,
        "corro.noise_std": 0.5,
        "corro.encoder_lr": ADAM,
        "corro.contrast_updates": 1000 * 200,
        "corro.generator_updates": 100 * 20 * 1050 * 200 // 128,
        "corro.generator_batch": 128,
        "corro.generator_lr": ADAM,
        "corro.kl_weight": 0.2,
        "corro.pooling_lr": ADAM,
        "sampler.with_replacement": True,
        "sampler.meta_batch": 16,
        "sampler.batch_size": 256,
        "agent.name": "sac",
        "agent.sac.hidden": (256, 256),
        "agent.sac.lr": ADAM,
        "agent.sac.gamma": 0.99,
        "agent.sac.tau": 0.005,
        "agent.sac.alpha": 0.2,
        "train.updates": 200_000,
    },
    "unicorn_ss": {
        **UNICORN,
        "task_losses.distance": 0.15,
        "task_losses.reconstruction": 1.0,
        "reconstruction.width": 64,
        "reconstruction.reward_given": "action",
        "reconstruction.variance_power": 0.0,
    },
    "unicorn_sup": {
        **UNICORN,
        "task_losses.distance": 0.0,
        "task_losses.reconstruction": 0.0,
        "task_losses.classification": 1.0,
        "classification.layers": 2,  # of the classifier nothing is published
        "classification.width": 64,
    },
}

# Widths of every network, its inputs first; an actor has two heads.
BRAC = {
    "agent/actor": (O + 20, 256, 256, 256, A, A),
    "agent/critic": (O + 20 + A, 256, 256, 256, 1),
    "agent/value": (O + 20, 256, 256, 256, 1),
    "agent/dual": (O + 20 + A, 256, 256, 256, 1),
}
SAC = {
    "agent/actor": (O + 5, 256, 256, A, A),
    "agent/critic": (O + 5 + A, 256, 256, 1),
}
LATENT = 512 * 2
NETWORKS = {
    "spc": {
        "encoder/net": (O + A + 1, 256, 256, 5),
        "world_model/encoder": (O, 512, LATENT),
        "world_model/dynamics": (LATENT + A + 5, 512, 512, 512 * 15),
        "world_model/reward": (LATENT + A + 5, 512, 512, 1),
        "agent/actor": (LATENT + 5, 256, 256, A, A),
        "agent/critic": (LATENT + 5 + A, 256, 256, 1),
        "agent/value": (LATENT + 5, 256, 256, 1),
    },
    "meta_dt": {"world_model/reward": (16 * 4, 128, 128, 1)},  # GRU and Transformer: below
    "focal": {"encoder/net": (O + A + 1, 200, 200, 200, 20), **BRAC},
    "idaq": {
        "encoder/net": (O + A + 1, 200, 200, 200, 20),
        "ensemble/reward": (20 + O + A, 256, 256, 256, 1),
        "ensemble/next_obs": (20 + O + A, 256, 256, 256, O),
        **BRAC,
    },
    "er_trl": {
        "encoder/net": (O + A + 1, 200, 200, 200, 20),
        "opponents/conditional_entropy/generator": (O + 20 + 20, 200, 200, 200, A),
        "opponents/conditional_entropy/discriminator": (O + A + 20, 256, 256, 1),
        **BRAC,
    },
    "csro": {
        "encoder/net": (O + A + 1, 200, 200, 200, 20),
        "opponents/club/net": (O + A, 200, 200, 200, 2 * 20),
        **BRAC,
    },
    "corro": {
        "generator/encoder": (O + A + 1 + O, 64, 2 * 5),
        "generator/decoder": (O + A + 5, 64, O + 1),
        "encoder": (O + A + 1 + O, 64, 64, 5),
        **SAC,
    },
    "unicorn_ss": {
        "encoder/net": (O + A + 1 + O + 1, 64, 64, 5),
        "encoder/task_losses/reconstruction/next_obs": (O + A + 5, 64, 64, 2 * O),
        "encoder/task_losses/reconstruction/reward": (O + A + 5, 64, 64, 2),
        **SAC,
    },
    "unicorn_sup": {
        "encoder/net": (O + A + 1 + O + 1, 64, 64, 5),
        "encoder/task_losses/classification": (5, 64, 64, TASKS),
        **SAC,
    },
}

# What other families have instead.
POINT = {"agent.brac.gamma": 0.9, "agent.brac.reward_scale": 100.0, "agent.brac.alpha_max": 0.0}
TWO_TASKS = {"sampler.meta_batch": 4, "sampler.with_replacement": True}
ELSEWHERE = {
    ("focal", "point_robot_sparse"): {**POINT, "train.updates": 100 * 1000},
    ("focal", "point_robot_wind"): {**POINT, "train.updates": 500 * 2000},
    ("focal", "cheetah_dir"): {
        **TWO_TASKS,
        "train.updates": 500 * 2000,
        "agent.brac.value_penalty": 1.0,
    },
    ("idaq", "point_robot_sparse"): {
        **POINT,
        "eval.idaq_explore": 10,
        "eval.idaq_candidates": 20,
    },
    ("idaq", "cheetah_dir"): {"agent.brac.value_penalty": 1.0},
    ("meta_dt", "point_robot"): {
        "meta_dt.lr": 1e-4,
        "meta_dt.return_scale": 10.0,
        "train.updates": 100_000,
        "train.pretrain_updates": 212_000,  # 301 passes of 45 * 2000 / 128
    },
    ("meta_dt", "point_robot_wind"): {"world_model.predicts": "next_obs"},
    ("meta_dt", "cheetah_dir"): {"meta_dt.lr": 6e-6, "train.updates": 100_000},
    ("csro", "point_robot"): {**POINT, "train.updates": 65 * 1000, "task_losses.club": 25.0},
    ("corro", "point_robot"): {
        "agent.sac.hidden": (64, 64),
        "encoder.mean_mlp.context_len": 60,
    },
    ("er_trl", "point_robot_sparse"): {**POINT, "task_losses.conditional_entropy": 5.0},
    ("er_trl", "cheetah_dir"): {**TWO_TASKS, "train.updates": 100 * 2000},
    ("unicorn_ss", "cheetah_dir"): {"agent.sac.alpha": 0.2, "task_losses.distance": 0.01},
}


def paper(name, family="cheetah_vel"):
    return config.load_preset(f"{make_config.CONFIGS / name}.py:{family},paper")


@cache
def shapes(name, obs_dim=O, action_dim=A):
    """The parameters of a method, by part of its state, as shapes."""
    zeros = (0.0,) * obs_dim
    spec = DataSpec("cheetah_vel", obs_dim, action_dim, 1, TASKS, 200, zeros, zeros)
    cfg = paper(name)
    method = schema.make(cfg, "method", cfg.method, spec)
    state = jax.eval_shape(lambda: method.init(jax.random.key(0)))
    return {part: learner.params for part, learner in state.items()}


def widths(params, path=()):
    """{path: (inputs, hidden layers, heads)} of all networks; twin critics count once."""
    own = {name: x for name, x in params.items() if isinstance(x, dict)}
    if "hidden_0" not in own:
        return {k: w for name, x in own.items() for k, w in widths(x, (*path, name)).items()}
    kernel = {name: x["kernel"].shape[-2:] for name, x in own.items() if "kernel" in x}
    inputs = sum(kernel[name][0] for name in ("hidden_0", "hidden_0_action") if name in kernel)
    hidden = [kernel[f"hidden_{i}"][1] for i in range(len(kernel)) if f"hidden_{i}" in kernel]
    heads = [kernel[name][1] for name in ("output", "mean", "log_std") if name in kernel]
    return {"/".join(path): (inputs, *hidden, *heads)}


@pytest.mark.parametrize("name", SETTINGS)
def test_settings(name):
    cfg = config.flatten(paper(name))
    assert {key: cfg.get(key) for key in SETTINGS[name]} == SETTINGS[name]
    weights = {key for key in cfg if key.startswith("task_losses.") and cfg[key]}
    assert weights <= set(SETTINGS[name])


@pytest.mark.parametrize("name, family", ELSEWHERE)
def test_settings_of_other_families(name, family):
    cfg, expected = config.flatten(paper(name, family)), ELSEWHERE[name, family]
    assert {key: cfg[key] for key in expected} == expected


@pytest.mark.parametrize("name", NETWORKS)
def test_networks(name):
    assert widths(shapes(name)) == NETWORKS[name]


def test_the_gru_and_the_transformer_of_meta_dt():
    params = shapes("meta_dt")
    encoder, net = params["world_model"]["encoder"], params["agent"]
    assert encoder["gates_input"]["kernel"].shape == (3 * 16, 3 * 128)
    assert encoder["gates_state"]["kernel"].shape == (128, 3 * 128)
    assert encoder["output"]["kernel"].shape == (128, 16)
    assert [name for name in net if "blocks" in name] == ["blocks_0", "blocks_1", "blocks_2"]
    assert net["blocks_0"]["expand"]["kernel"].shape == (128, 512)
    assert net["embed"]["joined"]["kernel"].shape == (16 + 16, 128)
    assert net["prompt"]["joined"]["kernel"].shape == (O, 128)
    assert net["embed"]["time"].shape == net["prompt"]["time"].shape == (200, 128)


def test_two_critics_and_the_bounds_of_a_log_deviation():
    for name in SETTINGS.keys() - {"meta_dt"}:
        critic = shapes(name)["agent"]["critic"]
        assert critic["output"]["kernel"].shape[0] == 2
    assert (actor_forms.LOG_STD_MIN, actor_forms.LOG_STD_MAX) == (-5.0, 2.0)


def test_spc_has_seven_and_a_half_million_parameters_on_ant_dir():
    sizes = [x.size for x in jax.tree.leaves(shapes("spc", obs_dim=27, action_dim=8))]
    assert round(sum(sizes) / 1e6, 1) == 7.5
