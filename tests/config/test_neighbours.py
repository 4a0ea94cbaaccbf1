"""The configs of the neighbours are valid everywhere, on the data of FOCAL's."""

import pytest
from ml_collections import FrozenConfigDict

import make_config
from metastar import config, registry
from metastar.errors import UserError

NAMES = ("er_trl", "csro", "unicorn_ss", "unicorn_sup", "idaq", "corro")
FAMILIES = make_config.recipes()


@pytest.mark.parametrize("name", NAMES)
def test_every_preset_is_valid_and_keeps_the_data_of_the_family(name):
    for family in FAMILIES:
        for preset in registry.find("family", family).UPDATES:
            argument = f"{family},{preset}"
            cfg = config.load_preset(f"{make_config.CONFIGS / name}.py:{argument}")
            config.validate(cfg)
            focal = config.load_preset(f"{make_config.CONFIGS}/focal.py:{argument}")
            assert (cfg.family, cfg.preset) == (family, preset) and cfg.data == focal.data
            assert hash(FrozenConfigDict(cfg))


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
