"""Every mistake in a config is one sentence; every config survives JSON."""

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest
from ml_collections import ConfigDict, FrozenConfigDict

import make_config
from metastar import config, registry
from metastar.config import fields, schema
from metastar.data.contexts import steps_of
from metastar.errors import UserError
from metastar.types import DataSpec

ROOT = Path(__file__).parents[2]
METHODS = ("metastar", "bc", "contextual", "corro", "meta_dt", "oracle", "spc", "task_blind")
PRESETS = ("", "quick", "debug", "paper")
# Families with recipes of their own, and two of those that take another's and have no "paper".
FAMILIES = make_config.recipes()
RECIPES = [
    (family, preset)
    for family in FAMILIES
    for preset in PRESETS
    if preset in registry.find("family", family).UPDATES
]


@pytest.mark.parametrize("family, preset", RECIPES)
@pytest.mark.parametrize("method", METHODS)
def test_every_preset_is_valid_and_survives_json(method, family, preset):
    cfg = make_config.preset(method, family, preset)
    config.validate(cfg)
    assert (cfg.method, cfg.family, cfg.preset) == (method, family, preset)
    assert cfg.data.preset == (preset or "default")
    again = config.from_dict(json.loads(json.dumps(config.to_dict(cfg))))
    assert config.diff(cfg, again) is None
    assert hash(FrozenConfigDict(again)) == hash(FrozenConfigDict(cfg))


@pytest.mark.parametrize("file", sorted(path.stem for path in (ROOT / "configs").glob("*.py")))
def test_zero_shot_streams_of_the_wind_fill_the_contexts_of_every_recipe(file):
    """Its episodes are the shortest of all families."""
    spec = registry.find("family", "point_robot_wind").SPEC
    sizes = spec.name, spec.obs_dim, spec.action_dim, 2, 40, spec.max_episode_steps
    scale = (0.0,) * spec.obs_dim, (1.0,) * spec.obs_dim
    data = DataSpec(*sizes, *scale, num_policies=3, num_stages=3, num_behaviors=5)
    for preset in PRESETS:
        cfg = make_config.preset(file, "point_robot_wind", preset)
        method = config.make(cfg, "method", cfg.method, data)
        if "zero_shot" in cfg.eval.protocols:
            protocol = config.make(cfg, "protocol", "zero_shot", method, spec)
            if preset != "paper":  # no scored episode begins with uniform actions
                assert steps_of(method.context) <= protocol.budget


def test_every_method_has_a_file_of_configs():
    files = (ROOT / "configs").glob("*.py")
    assert {config.load_preset(f"{file}:{FAMILIES[0]},").method for file in files} == set(METHODS)
    assert set(METHODS) == set(registry.names("method"))


@pytest.mark.parametrize("family, preset", RECIPES)
def test_methods_share_the_data_set_of_a_preset(family, preset):
    one, *others = (make_config.preset(method, family, preset) for method in METHODS)
    for other in others:
        assert one.collect == other.collect and one.data == other.data and one.env == other.env


@pytest.mark.parametrize("family, preset", RECIPES)
def test_bounds_are_trained_as_what_they_bound(family, preset):
    """The oracle's agent, rows and windows are MetaSTAR's, and so is the encoder of cloning.

    Neither explores, so that `eval.protocols` may differ.
    """
    ours, oracle, bc = (
        config.flatten(make_config.preset(method, family, preset)) | {"eval.protocols": None}
        for method in ("metastar", "oracle", "bc")
    )
    shared = [p for p in oracle if p in ours and p.startswith(("agent.", "sampler.", "eval."))]
    assert len(shared) > 20 and {p: oracle[p] for p in shared} == {p: ours[p] for p in shared}
    assert oracle["oracle.context_len"] == ours["world_model.context_len"]
    shared = [p for p in bc if p in ours and p.startswith(("world_model.", "sampler.", "eval."))]
    assert len(shared) > 20 and {p: bc[p] for p in shared} == {p: ours[p] for p in shared}
    for name in ("hidden", "actor_lr", "actor_average"):
        assert bc[f"bc.{name}"] == ours[f"agent.{ours['agent.name']}.{name}"]
    assert bc["bc.encoder_lr"] == ours["world_model.pretrain_lr"]


@pytest.mark.parametrize("family, preset", [r for r in RECIPES if r[1] != "paper"])
def test_the_task_blind_agent_is_trained_as_that_of_focal(family, preset):
    focal, blind = (
        config.flatten(make_config.preset(method, family, preset))
        for method in ("contextual", "task_blind")
    )
    shared = [p for p in blind if p in focal and p.startswith(("agent.", "sampler.", "eval."))]
    assert len(shared) > 20 and {p: blind[p] for p in shared} == {p: focal[p] for p in shared}
    assert blind["task_blind.context_len"] == focal["encoder.mean_mlp.context_len"]


def test_paper_is_the_reference_and_has_none_of_our_additions():
    cfg = make_config.preset("metastar", "point_robot_sparse", "paper")
    assert cfg.env.terminal_at_goal and cfg.sampler.with_replacement
    assert cfg.sampler.hold_updates == 200 and cfg.world_model.attention_dropout == 0.1
    assert cfg.world_model.code_bound == "none" and cfg.agent.conservative.actor_average == 0.0
    assert cfg.sampler.windows == 1 and not cfg.sampler.normalize_obs
    assert cfg.task_losses.to_dict() == {"distance": 1.0}


def every_field():
    """The fields of all extensions, by path and owner."""
    for method in METHODS:
        values = config.flatten(make_config.preset(method, "point_robot", "debug"))
        if method == "metastar":
            values |= {f"task_losses.{name}": 0.0 for name in registry.names("task loss")}
        for family, behavior in (("point_robot", "mixture"), ("cheetah_vel", "sac")):
            found = schema.of({**values, "family": family, "collect.behavior": behavior})
            yield from found.fields.items()


def test_every_number_has_an_interval_and_every_field_a_meaning():
    for path, field in every_field():
        value = fields.example(field)
        if not isinstance(value, bool | str) and value != ():
            assert field.allowed.startswith(("[", "(")), path
            fields.check(path, value, field._replace(value=value))
        assert field.doc, path
        if field.before is not None:
            assert type(field.before) is type(value), path
        assert isinstance(value, int | float) or not field.swept, path


@pytest.mark.parametrize("family", FAMILIES)
def test_every_path_of_a_data_preset_exists(family):
    behaviors = {"collect.behavior": "mixture", "collect.mixture.behaviors": "sac,td3"}
    known = schema.of({"family": family, **behaviors}).fields
    for name, values in registry.find("family", family).DATA.items():
        assert set(values) <= set(known), name


def changed(**values):
    cfg = make_config.preset("metastar", "point_robot_sparse", "debug")
    flat = config.flatten(cfg) | {path.replace("__", "."): value for path, value in values.items()}
    return ConfigDict(config.nest(flat))


AGENT = "agent.conservative"


@pytest.mark.parametrize(
    "values, words",
    [
        ({"seed": True}, "seed is True but must be of type int"),
        ({"seed": -1}, "seed is -1 but must lie in [0, 4294967295]"),
        ({"seed": None}, "seed is None but must be of type int"),
        ({f"{AGENT}.gamma": math.nan}, f"{AGENT}.gamma is nan but must lie in [0, 1)"),
        ({f"{AGENT}.gamma": 1.0}, f"{AGENT}.gamma is 1.0 but must lie in [0, 1)"),
        ({f"{AGENT}.alpha": math.inf}, "must lie in [0, inf)"),
        ({f"{AGENT}.hidden": (64, 0)}, f"{AGENT}.hidden is (64, 0) but must lie in [1, inf)"),
        ({f"{AGENT}.hidden": ("a",)}, "must be of type tuple of ints"),
        ({f"{AGENT}.hidden": ()}, "must be of type tuple of ints"),
        ({f"{AGENT}.gama": 0.9}, f"unknown config field '{AGENT}.gama'; did you mean '{AGENT}.gam"),
        ({"agent.gamma": 0.9}, f"config field 'agent.gamma' is now '{AGENT}.gamma'"),
        ({"collect.hidden": (8,)}, "config field 'collect.hidden' is now 'collect.sac.hidden'"),
        ({"collect.td3.lr": 0.1}, "'collect.td3.lr' belongs to behavior 'td3', which this config"),
        ({"collect.td3.lr": 0.1}, "select it with collect.behavior=td3"),
        ({"oracle.context_len": 8}, "belongs to method 'oracle'"),
        ({"reconstruction.variance_power": 0.5}, "give it a weight with task_losses.reconstruct"),
        ({"bc.nothing": 1}, "this config has no section 'bc'"),
        ({"optimizer.lr": 1.0}, "this config has no section 'optimizer'"),
        ({"method": "metastr"}, "unknown method 'metastr'; did you mean 'metastar'?"),
        ({"family": "point_robt"}, "unknown family 'point_robt'; did you mean 'point_robot'?"),
        ({"collect.behavior": "sca"}, "unknown behavior 'sca'; did you mean 'sac'?"),
        ({"agent.name": "ppo"}, "unknown agent 'ppo'"),
        ({"imports": ("no_such.method",)}, "no module 'no_such'; put its folder on PYTHONPATH"),
        ({"imports": ("a-b",)}, "is no dotted name of a module"),
        ({"imports": "json"}, "must be names of modules, separated by commas"),
        ({"imports": ("json",)}, "'json' must define KIND"),
        ({"task_losses.distanc": 1.0}, "unknown task loss 'distanc'; did you mean 'distance'?"),
        ({"task_losses.infonce": -1.0}, "task_losses.infonce is -1.0 but must lie in [0, inf)"),
        ({"world_model.code_bound": "spere"}, "did you mean 'sphere'?"),
        ({"train.lr_decay": "linear"}, "known are cosine, none"),
        ({f"{AGENT}.penalty": "reward_uncertainty"}, "while imagine.penalty is 0"),
        (
            {
                f"{AGENT}.penalty": "reward_uncertainty",
                "imagine.penalty": 1.0,
                f"sweep.{AGENT}.beta": (1.0, 2.0),
            },
            f"sweep.{AGENT}.beta changes nothing while {AGENT}.penalty='reward_uncertainty'",
        ),
        ({"imagine.uncertainty": "disagreement"}, "set world_model.ensemble to 2 or more"),
        ({"imagine.reach": 1.0}, "the heads that task_losses.reconstruction trains"),
        ({"world_model.condition": "token", "world_model.core": "mlp"}, "a core with memory"),
        ({"world_model.width": 15}, "multiple of world_model.num_heads, 2"),
        ({"imagine.context_len": 12}, "position table has world_model.context_len = 12 rows"),
        ({"imagine.num_rollouts": 16}, "less than sampler.batch_size, 16"),
        ({"sampler.meta_batch": 5}, "only 4 training tasks can be drawn without replacement"),
        ({"sampler.pretrain_batch": 5}, "must be 0 for all 4 training tasks, or from 2 to as many"),
        ({"sampler.pretrain_batch": 1}, "must be 0 for all 4 training tasks, or from 2 to as many"),
        ({"data.validation_tasks": 3, "sampler.with_replacement": True}, "must leave at least 2"),
        ({f"{AGENT}.cql_states": 17}, "must be 0 or divide sampler.batch_size, 16"),
        ({"sampler.windows": 1}, "set sampler.windows=2"),
        ({"task_losses.infonce": 0.0}, "every weight of task_losses is 0"),
    ],
    ids=str,
)
def test_a_wrong_value_is_one_sentence(values, words):
    with pytest.raises(UserError) as caught:
        config.validate(changed(**values))
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_a_missing_field_is_named():
    cfg = changed()
    del cfg.agent.conservative["tau"]
    with pytest.raises(UserError, match=r"config field 'agent\.conservative\.tau' is missing"):
        config.validate(cfg)


def test_fields_on_the_edge_are_valid():
    config.validate(changed(data__validation_tasks=2, sampler__meta_batch=2))
    config.validate(changed(sampler__meta_batch=9, sampler__with_replacement=True))


def test_a_family_brings_its_discount_and_one_without_a_recipe_is_refused():
    for family, discount in (("point_robot", 0.9), ("cheetah_dir", 0.99)):
        cfg = config.build({"family": family, "task_losses.distance": 1.0})
        found = (cfg.env.discount, cfg.agent.conservative.gamma, cfg.collect.sac.gamma)
        assert found == (discount,) * 3
    with pytest.raises(UserError, match="has no recipe for family 'point_robt'; did you mean"):
        make_config.preset("oracle", "point_robt", "quick")
    with pytest.raises(UserError, match=r"want a family and perhaps a preset: oracle\.py:"):
        make_config.preset("oracle", "", "")
    with pytest.raises(UserError, match=r"unknown preset 'quik' of configs/bc\.py; did you mean"):
        make_config.preset("bc", "point_robot", "quik")


def test_a_family_takes_the_recipe_of_the_nearest_in_the_row_of_those_it_is_like(monkeypatch):
    def recipe(**families):
        named = {name: {"": {"data.fraction": x}} for name, x in families.items()}
        return config.recipe("oracle", "hopper_friction", {"": {}}, named).data.fraction

    assert recipe(cheetah_vel=0.1) == 0.1
    assert recipe(cheetah_vel=0.1, hopper_mass=0.2) == 0.2
    assert recipe(cheetah_vel=0.1, hopper_mass=0.2, hopper_friction=0.3) == 0.3
    monkeypatch.setattr(registry.find("family", "hopper_mass"), "LIKE", "hopper_friction")
    with pytest.raises(UserError, match="has no recipe for family 'hopper_friction'"):
        recipe(cheetah_vel=0.1)


def test_a_family_without_what_its_kind_needs_is_refused(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "plain_family.py").write_text('KIND = "family"\nDEFAULTS = {}\n')
    (tmp_path / "sac.py").write_text('KIND = "behavior"\nDEFAULTS = {}\ndef make(cfg, env): pass\n')
    (tmp_path / "broken.py").write_text("1 / 0\n")
    for name, words in (
        ("plain_family", "family 'plain_family' does not define DATA, FAMILY"),
        ("sac", "'sac' and 'metastar.collection.behaviors.sac' are both behavior 'sac'"),
        ("broken", "fails with ZeroDivisionError"),
    ):
        with pytest.raises(UserError) as caught:
            registry.register([name])
        assert words in str(caught.value)


def test_two_files_may_not_claim_one_field(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "greedy.py").write_text(
        "from metastar.config import Field\n"
        'KIND = "behavior"\nDEFAULTS = {}\ndef make(cfg, env): pass\n'
        'SECTIONS = {"sampler": ({"batch_size": Field(1)},)}\n'
    )
    with pytest.raises(UserError, match=r"'sampler\.batch_size' belongs to both .* and greedy"):
        make_config.base(imports=("greedy",), collect__behavior="greedy")


def test_a_file_may_not_read_a_section_that_nobody_brings(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "lost.py").write_text(
        'KIND = "behavior"\nDEFAULTS = {}\nREADS = ("nowhere",)\ndef make(cfg, env): pass\n'
    )
    cfg = make_config.base(imports=("lost",), collect__behavior="lost")
    with pytest.raises(UserError, match="lost reads the section 'nowhere', but nothing that this"):
        config.make(cfg, "behavior", "lost", None)


def test_json_restores_tuples_and_floats():
    stored = config.to_dict(changed())
    stored["agent"]["conservative"]["alpha"] = 1
    again = config.from_dict(json.loads(json.dumps(stored)))
    agent = again.agent.conservative
    assert type(agent.alpha) is float and agent.hidden == (16, 16)


def test_a_field_that_came_later_has_what_runs_had_before_and_never_the_default(monkeypatch):
    stored = config.to_dict(changed(agent__conservative__cloning=2.0))
    del stored["agent"]["conservative"]["cloning"]
    module = registry.find("agent", "conservative")
    later = module.DEFAULTS["cloning"]._replace(value=9.0)
    monkeypatch.setitem(module.DEFAULTS, "cloning", later)
    assert config.from_dict(stored).agent.conservative.cloning == 0.0
    monkeypatch.setitem(module.DEFAULTS, "cloning", later._replace(before=None))
    with pytest.raises(UserError, match=r"lacks the field 'agent\.conservative\.cloning'"):
        config.from_dict(stored)


def test_a_field_may_follow_another_where_there_is_one():
    """Networks of task losses are as wide as the world model, in methods that have one."""
    for preset in PRESETS:
        ours = make_config.preset("metastar", "cheetah_vel", preset)
        if "reconstruction" in ours:
            assert ours.reconstruction.width == ours.world_model.width
    cfg = make_config.preset("contextual", "point_robot_sparse", "quick")
    assert config.change(cfg, {"task_losses.reconstruction": 1.0}).reconstruction.width == 128


def test_task_losses_of_earlier_formats_had_the_world_models_width():
    weights = {"task_losses.reconstruction": 1.0, "task_losses.club": 1.0}
    cfg = config.change(changed(), {**weights, "world_model.width": 48})
    stored = config.to_dict(cfg)
    for name in ("reconstruction", "club"):
        del stored[name]["width"]
    with pytest.raises(UserError, match=r"lacks the field 'club\.width'"):
        config.from_dict(stored)
    read = config.from_dict({**stored, "format": 2})
    assert read.reconstruction.width == read.club.width == 48


@pytest.mark.parametrize(
    "stored, words",
    [
        ([], "must hold a JSON object"),
        ({"format": 4}, "is of format 4, which this version cannot read"),
        ({"format": 3, "sed": 1}, "run/config.json lacks the field 'method'"),
        ({"sed": 1}, "unknown config field 'sed'; did you mean 'seed'?"),
    ],
)
def test_damaged_json_is_one_sentence(stored, words):
    with pytest.raises(UserError) as caught:
        config.from_dict(stored, "run/config.json")
    assert words in str(caught.value)


def test_diff_names_the_first_differing_field():
    a, b = changed(), changed()
    assert config.diff(a, FrozenConfigDict(b)) is None
    b.sampler.windows, b.train.updates = 1, 11
    assert config.diff(a, b) == ("sampler.windows", 2, 1)
    assert config.diff(changed(seed=1), changed(seed=1.0)) == ("seed", 1, 1.0)


def test_a_config_file_imports_what_lies_beside_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "beside").mkdir()
    (tmp_path / "beside/shared.py").write_text("SEED = 3\n")
    text = "from beside.shared import SEED\nfrom metastar.config import recipe\n\n"
    text += "def get_config(argument):\n"
    text += "    cfg = recipe('bc', argument, {'': {}}, {'point_robot': {}})\n"
    text += "    cfg.seed = SEED\n    return cfg\n"
    (tmp_path / "beside/own.py").write_text(text)
    path = sys.path[:]
    assert config.load_preset("beside/own.py:point_robot").seed == 3
    assert sys.path == path


@pytest.mark.parametrize(
    "name, text, words",
    [
        ("none.py:a", None, "does not exist"),
        ("b.py", "1 / 0\n", "fails with ZeroDivisionError"),
        ("c.py", "", "must define get_config(argument)"),
        ("d.py", "def get_config(argument):\n    return {}\n", "must return a ConfigDict"),
        ("e.txt", "", "its name must end in .py"),
        (
            "configs/metastar/point_robot.py:quick",
            None,
            "write configs/metastar.py:point_robot,quick",
        ),
    ],
)
def test_a_wrong_config_file_is_one_sentence(tmp_path, monkeypatch, name, text, words):
    monkeypatch.chdir(tmp_path)
    if text is not None:
        (tmp_path / name.split(":")[0]).write_text(text)
    with pytest.raises(UserError) as caught:
        config.load_preset(name)
    assert words in str(caught.value)


def test_an_existing_file_wins_over_the_one_of_the_package(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert config.load_preset("oracle.py:point_robot,debug").method == "oracle"
    (tmp_path / "oracle.py").write_text(
        "from metastar import config\ndef get_config(argument):\n"
        "    return config.build({'method': 'bc', 'seed': 7})\n"
    )
    assert config.load_preset("oracle.py:point_robot,debug").seed == 7
    assert "metastar" in sys.modules and not hasattr(sys.modules["metastar"], "get_config")


def test_selectors_on_the_command_line_bring_their_sections_and_drop_others(monkeypatch):
    source = f"{ROOT}/configs/metastar.py:point_robot_sparse,debug"
    cfg = config.load(source, ["--config.collect.td3.lr=0.5", "--config.collect.behavior=td3"])
    assert cfg.collect.td3.lr == 0.5 and "sac" not in cfg.collect
    assert cfg.world_model.width == 16 and cfg.collect.iterations == 2
    both = ["--config.collect.behavior=mixture", "--config.collect.mixture.behaviors=td3,random"]
    cfg = config.load(source, both)
    assert "td3" in cfg.collect and "sac" not in cfg.collect
    cfg = config.load(source, ["--config.data.preset=quick"])
    assert cfg.collect.iterations == 30 and cfg.world_model.width == 16
    cfg = config.load(source, ["--config.task_losses.reconstruction=2"])
    assert cfg.reconstruction.variance_power == 0.0 and cfg.task_losses.infonce == 10.0


def test_every_field_is_described():
    cfg = make_config.preset("metastar", "point_robot_sparse", "quick")
    text = config.describe(cfg)
    assert all(f"{path} = " in text for path in config.flatten(cfg))
    assert "world_model.recon_weight = 1.0\n    of the reconstruction\n" in text
    assert "[[0, inf); losses.world_model; can be swept]" in text


def test_the_config_room_does_not_import_jax_and_a_config_starts_no_backend():
    code = (
        "import sys; from metastar import config;"
        "assert 'jax' not in sys.modules and 'flax' not in sys.modules;"
        "from jax._src import xla_bridge;"
        f"cfg = config.load_preset({str(ROOT / 'configs/metastar.py')!r} + ':cheetah_vel,quick');"
        "config.validate(cfg);"
        "assert not xla_bridge._backends, 'a backend was initialised';"
        "assert 'mujoco' not in sys.modules and 'matplotlib' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_penalty_on_values_is_left_to_sparse_rewards():
    for family, preset in RECIPES:
        agent = make_config.preset("metastar", family, preset).agent
        if preset != "debug" and agent.name == "conservative":
            penalty = agent.conservative.penalty
            assert (penalty == "cql") == (family.endswith("sparse") or preset == "paper")


def test_a_preset_that_a_family_lacks_is_refused():
    with pytest.raises(UserError, match="'ant_dir' has no preset 'paper'; its presets are the em"):
        make_config.preset("metastar", "ant_dir", "paper")
    with pytest.raises(UserError, match="no recipe for family 'ant_dri'; did you mean"):
        make_config.preset("metastar", "ant_dri", "quick")


def test_a_recipe_that_names_an_agent_leaves_out_what_presets_say_of_others():
    presets = {"": {"agent.conservative.alpha": 0.3, "agent.iql.gamma": 0.9}}
    found = {
        name: config.recipe("oracle", "ant_dir", presets, {"ant_dir": {"": {"agent.name": name}}})
        for name in ("conservative", "iql")
    }
    assert found["iql"].agent.iql.gamma == 0.9 and "conservative" not in found["iql"].agent
    assert found["conservative"].agent.conservative.alpha == 0.3
    misspelled = {"ant_dir": {"": {"agent.name": "iql", "agent.iql.gama": 0.5}}}
    with pytest.raises(UserError, match=r"agent\.iql\.gama"):
        config.recipe("oracle", "ant_dir", presets, misspelled)
