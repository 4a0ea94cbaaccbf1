"""The configs that start from FOCAL's: valid everywhere; `paper` as the tables of the papers."""

import pytest
from ml_collections import FrozenConfigDict

import make_config
from metastar import config, registry
from metastar.errors import UserError

NAMES = ("er_trl", "csro", "unicorn_ss", "unicorn_sup")
PRESETS = ("", "quick", "debug", "paper")
FAMILIES = registry.names("family")
GATHERED = {"gradient_penalty": "value", "alpha_memory": "free", "hidden": (256, 256, 256)}
PAPER = {  # field by field, on Cheetah-Vel
    "focal": {
        "task_losses": {"distance": 10.0},
        "encoder.mean_mlp": {"hidden": (200,) * 3, "code_dim": 20, "context_len": 100},
        "sampler": {"with_replacement": True, "meta_batch": 16, "batch_size": 256, "windows": 1},
        "agent.brac": {**GATHERED, "divergence": "mixed", "alpha": 50.0, "reward_scale": 5.0},
    },
    "er_trl": {
        "task_losses": {"distance": 10.0, "conditional_entropy": 2.5},
        "encoder.mean_mlp": {"hidden": (200,) * 3, "code_dim": 20, "context_len": 100},
        "conditional_entropy": {
            "width": 200,
            "generator_layers": 3,
            "discriminator_width": 256,
            "noise_dim": 20,
            "rows": 256,
            "inner_steps": 5,
            "lr": 2e-4,
        },
        "sampler": {"with_replacement": False, "meta_batch": 16, "batch_size": 256, "windows": 1},
        "agent.brac": {**GATHERED, "divergence": "updated"},
    },
    "csro": {
        "task_losses": {"distance": 10.0, "club": 10.0},
        "encoder.mean_mlp": {"hidden": (200,) * 3, "code_dim": 20},
        "club": {"width": 200, "lr": 3e-4, "inner_steps": 1, "inputs": "action"},
        "sampler": {"with_replacement": False, "meta_batch": 16, "batch_size": 256, "windows": 1},
        "agent.brac": {**GATHERED, "divergence": "updated", "alpha": 50.0},
    },
    "unicorn_ss": {
        "task_losses": {"distance": 0.15, "reconstruction": 1.0},
        "encoder.mean_mlp": {
            "hidden": (64, 64),
            "code_dim": 5,
            "inputs": "terminal",
            "sampled": True,
            "context_len": 200,
        },
        "reconstruction": {"width": 64, "reward_given": "action", "variance_power": 0.0},
        "sampler": {"with_replacement": True, "meta_batch": 16, "batch_size": 256, "windows": 1},
        "agent.sac": {"hidden": (256, 256), "alpha": 0.0, "lr": 3e-4},
        "train": {"updates": 200_000},
    },
    "unicorn_sup": {
        "task_losses": {"classification": 1.0, "distance": 0.0, "reconstruction": 0.0},
        "classification": {"layers": 2},
        "encoder.mean_mlp": {"hidden": (64, 64), "sampled": True},
    },
}


@pytest.mark.parametrize("name", NAMES)
def test_every_preset_is_valid_and_keeps_the_data_of_the_family(name):
    for family in FAMILIES:
        for preset in PRESETS:
            argument = f"{family},{preset}"
            cfg = config.load_preset(f"{make_config.CONFIGS / name}.py:{argument}")
            config.validate(cfg)
            focal = config.load_preset(f"{make_config.CONFIGS}/focal.py:{argument}")
            assert (cfg.family, cfg.preset) == (family, preset) and cfg.data == focal.data
            assert hash(FrozenConfigDict(cfg))


@pytest.mark.parametrize("name", PAPER)
def test_paper_has_the_sizes_and_weights_of_the_paper(name):
    cfg = config.flatten(config.load_preset(f"{make_config.CONFIGS / name}.py:cheetah_vel,paper"))
    for section, values in PAPER[name].items():
        found = {field: cfg.get(f"{section}.{field}", 0.0) for field in values}
        assert found == values, section
    assert cfg["contextual.encoder_lr"] == 3e-4 and not cfg["sampler.normalize_obs"]


@pytest.mark.parametrize(
    "overrides, sentence",
    [
        (["encoder.name=gru", "encoder.gru.context=bag"], "transitions of a bag have none; set"),
        (["encoder.name=transformer", "encoder.transformer.num_heads=3"], "must be a multiple of"),
        (["agent.name=brac", "agent.brac.dual_steps=0"], "must lie in [1, inf)"),
        (["agent.name=brac", "agent.brac.gradient_penalty=slope"], "is 'slope'"),
        (["agent.name=td3_bc", "agent.td3_bc.policy_delay=0"], "must lie in [1, inf)"),
        (["task_losses.club=1", "club.codes=step"], "club.codes is 'step'"),
        (["task_losses.conditional_entropy=1", "conditional_entropy.inner_steps=0"], "must lie in"),
    ],
)
def test_what_does_not_fit_is_one_sentence(overrides, sentence):
    source = f"{make_config.CONFIGS}/focal.py:point_robot_sparse,debug"
    with pytest.raises(UserError) as caught:
        config.load(source, [f"--config.{word}" for word in overrides])
    assert sentence in str(caught.value) and "\n" not in str(caught.value)
