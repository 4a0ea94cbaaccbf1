"""Every mistake in a config is one sentence; every config survives JSON."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from ml_collections import ConfigDict, FrozenConfigDict

from metastar import config, registry
from metastar.config import constraints, presets
from metastar.errors import UserError

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "configs").glob("*/*.py"))


@pytest.mark.parametrize("preset", ["", "quick", "debug", "paper"])
@pytest.mark.parametrize("path", FILES, ids=lambda p: f"{p.parent.name}-{p.stem}")
def test_every_preset_is_valid_and_survives_json(path, preset):
    cfg = config.load_preset(f"{path}:{preset}" if preset else str(path))
    config.validate(cfg)
    assert (cfg.method, cfg.family, cfg.preset) == (path.parent.name, path.stem, preset)
    text = config.to_json(cfg)
    again = config.from_json(text)
    assert config.diff(cfg, again) is None
    assert config.to_json(FrozenConfigDict(again)) == text
    assert hash(FrozenConfigDict(again)) == hash(FrozenConfigDict(cfg))


def test_methods_share_the_data_set_of_a_preset():
    for preset in ("", "quick", "debug", "paper"):
        one, other = (presets.make(m, "point_robot", preset) for m in ("metastar", "oracle"))
        assert one.collect == other.collect and one.data == other.data and one.env == other.env


def test_paper_is_the_reference_and_has_none_of_our_additions():
    cfg = presets.make("metastar", "point_robot_sparse", "paper")
    assert cfg.env.terminal_at_goal and cfg.sampler.with_replacement
    assert cfg.sampler.hold_updates == 200 and cfg.world_model.attention_dropout == 0.1
    assert cfg.world_model.code_bound == "none" and cfg.agent.actor_average == 0.0
    assert cfg.sampler.windows == 1 and not cfg.agent.normalize_obs
    assert cfg.task_losses.to_dict() == {"distance": 1.0, "infonce": 0.0}


def test_every_number_has_an_interval():
    numbers = {
        name
        for name, value in config.flatten(config.base()).items()
        if not isinstance(value, bool | str) and not name.startswith("task_losses.")
    }
    assert numbers == set(constraints.INTERVALS)


def changed(**values):
    cfg = presets.make("metastar", "point_robot_sparse", "debug")
    for name, value in values.items():
        *sections, field = name.split("__")
        node = cfg
        for section in sections:
            node = node[section]
        with node.ignore_type():
            node[field] = value
    return cfg


@pytest.mark.parametrize(
    "values, words",
    [
        ({"seed": True}, "seed is True but must be of type int"),
        ({"seed": -1}, "seed is -1 but must lie in [0, 4294967295]"),
        ({"seed": None}, "seed is None but must be of type int"),
        ({"agent__gamma": float("nan")}, "agent.gamma is nan but must lie in [0, 1)"),
        ({"agent__gamma": 1.0}, "agent.gamma is 1.0 but must lie in [0, 1)"),
        ({"agent__alpha": float("inf")}, "must lie in [0, inf)"),
        ({"agent__hidden": (64, 0)}, "agent.hidden is (64, 0) but must lie in [1, inf)"),
        ({"agent__hidden": ("a",)}, "must be of type tuple of ints"),
        ({"agent__hidden": ()}, "must be of type tuple of ints"),
        ({"agent__gama": 0.9}, "unknown config field 'agent.gama'; did you mean 'agent.gamma'?"),
        ({"method": "metastr"}, "unknown method 'metastr'; did you mean 'metastar'?"),
        ({"family": "point_robt"}, "unknown family 'point_robt'; did you mean 'point_robot'?"),
        ({"collect__behavior": "sca"}, "unknown behavior 'sca'; did you mean 'sac'?"),
        ({"method": "no_such_package.method"}, "put its folder on PYTHONPATH"),
        ({"task_losses__distanc": 1.0}, "unknown task loss 'distanc'; did you mean 'distance'?"),
        ({"task_losses__infonce": -1.0}, "task_losses.infonce is -1.0 but must lie in [0, inf)"),
        ({"world_model__code_bound": "spere"}, "did you mean 'sphere'?"),
        ({"train__lr_decay": "linear"}, "known are cosine, none"),
        ({"agent__penalty": "reward_uncertainty"}, "while imagine.penalty is 0"),
        (
            {
                "agent__penalty": "reward_uncertainty",
                "imagine__penalty": 1.0,
                "sweep__beta": (1.0, 2.0),
            },
            "sweep.beta changes nothing while agent.penalty='reward_uncertainty'",
        ),
        ({"imagine__uncertainty": "disagreement"}, "set world_model.ensemble to 2 or more"),
        ({"world_model__condition": "token", "world_model__core": "mlp"}, "a core with memory"),
        ({"world_model__width": 15}, "multiple of world_model.num_heads, 2"),
        ({"imagine__context_len": 12}, "position table has world_model.context_len = 12 rows"),
        ({"imagine__num_rollouts": 16}, "less than sampler.batch_size, 16"),
        ({"sampler__meta_batch": 5}, "only 4 training tasks can be drawn without replacement"),
        (
            {"sampler__pretrain_batch": 5},
            "must be 0 for all 4 training tasks, or from 2 to as many",
        ),
        (
            {"sampler__pretrain_batch": 1},
            "must be 0 for all 4 training tasks, or from 2 to as many",
        ),
        ({"data__validation_tasks": 3}, "must leave at least 2"),
        ({"agent__conservative_states": 17}, "must be 0 or divide sampler.batch_size, 16"),
        ({"sampler__windows": 1}, "set sampler.windows=2"),
        ({"task_losses__infonce": 0.0}, "every weight of task_losses is 0"),
    ],
    ids=str,
)
def test_a_wrong_value_is_one_sentence(values, words):
    with pytest.raises(UserError) as caught:
        config.validate(changed(**values))
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_a_missing_field_is_named():
    cfg = changed()
    del cfg.agent["tau"]
    with pytest.raises(UserError, match=r"config field 'agent\.tau' is missing"):
        config.validate(cfg)


def test_fields_on_the_edge_are_valid():
    config.validate(changed(data__validation_tasks=2, sampler__meta_batch=2))
    config.validate(changed(sampler__meta_batch=9, sampler__with_replacement=True))
    config.validate(changed(imagine__context_len=11, method="oracle"))


def test_json_restores_tuples_and_floats_and_fills_in_neutral_defaults():
    cfg = changed()
    stored = json.loads(config.to_json(cfg))
    stored["agent"]["alpha"] = 1
    del stored["agent"]["actor_average"], stored["deterministic"]
    again = config.from_json(json.dumps(stored))
    assert type(again.agent.alpha) is float and again.agent.hidden == (16, 16)
    assert again.agent.actor_average == 0.0 and again.deterministic is False


@pytest.mark.parametrize(
    "text, words",
    [
        ("{", "run/config.json is not JSON"),
        ("[]", "must hold a JSON object"),
        ('{"sed": 1}', "unknown config field 'sed'; did you mean 'seed'?"),
        ('{"seed": true}', "seed is True but must be of type int"),
        ('{"agent": {"gamma": true}}', "agent.gamma is True but must be of type float"),
        ('{"agent": {"gamma": NaN}}', "must lie in [0, 1)"),
        ('{"agent": 3}', "unknown config field 'agent'"),
        ('{"task_losses": {"infonce": 0.0}}', "every weight of task_losses is 0"),
    ],
)
def test_damaged_json_is_one_sentence(text, words):
    with pytest.raises(UserError) as caught:
        config.from_json(text, "run/config.json")
    assert words in str(caught.value)


def test_diff_names_the_first_differing_field():
    a, b = changed(), changed()
    assert config.diff(a, FrozenConfigDict(b)) is None
    b.sampler.windows, b.train.updates = 1, 11
    assert config.diff(a, b) == ("sampler.windows", 2, 1)
    assert config.diff(changed(seed=1), changed(seed=1.0)) == ("seed", 1, 1.0)
    assert config.diff(a, ConfigDict({"agent": a.agent}))[0] == "collect.alpha"


@pytest.mark.parametrize(
    "name, text, words",
    [
        ("none.py", None, "does not exist"),
        ("a.py:typo", "from metastar.config import presets\ndef get_config(preset):\n"
         "    return presets.make('metastar', 'point_robot', preset)\n", "unknown preset 'typo'"),
        ("b.py", "1 / 0\n", "fails with ZeroDivisionError"),
        ("c.py", "", "must define get_config(preset)"),
        ("d.py", "def get_config(preset):\n    return {}\n", "must return a ConfigDict"),
        ("e.txt", "", "its name must end in .py"),
    ],
)  # fmt: skip
def test_a_wrong_config_file_is_one_sentence(tmp_path, name, text, words):
    if text is not None:
        (tmp_path / name.split(":")[0]).write_text(text)
    with pytest.raises(UserError) as caught:
        config.load_preset(str(tmp_path / name))
    assert words in str(caught.value)


def test_the_config_floor_does_not_import_jax():
    code = (
        "import sys, metastar; from metastar import config; from metastar.config import presets;"
        "config.validate(presets.make('metastar', 'point_robot', 'quick'));"
        "assert 'jax' not in sys.modules and 'flax' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_penalty_on_values_is_left_to_sparse_rewards():
    for family in registry.names("family"):
        for preset in ("", "quick", "paper"):
            penalty = presets.make("metastar", family, preset).agent.penalty
            assert (penalty == "cql") == (family.endswith("sparse") or preset == "paper")
