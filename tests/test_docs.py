"""What the documentation says is true: commands, links, and the worked examples."""

import importlib
import json
import re
import shlex
import subprocess
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import FrozenConfigDict

import make_config
from metastar import config
from metastar import main as cli
from metastar.data import contexts, layout
from metastar.data.sampler import sample_transitions
from metastar.envs.make import family_of, make_env
from metastar.envs.rollout import no_adaptation, rollout, uniform_policy
from metastar.tools.bench import bench
from metastar.tools.report import tables
from metastar.tools.sweep import grid
from metastar.training import runs
from metastar.types import Codes, Context, DataSpec, StepIn

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
EXAMPLES = sorted((ROOT / "tests/examples").glob("[a-z]*.py"))
TASKS, EPISODES, STEPS = 4, 2, 20


@pytest.fixture(autouse=True)
def examples_are_importable(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "tests"))


def code_blocks(page):
    return re.findall(r"^```\w*\n(.*?)^```$", page.read_text(), re.M | re.S)


def test_ci_runs_exactly_the_readmes_test_command_and_the_linter():
    lines = (ROOT / ".ci/run").read_text().splitlines()
    commands = [line for line in lines if not line.startswith(("#!", "set ", "cd "))]
    assert commands == ["make test", "make lint"]
    assert "make test\n" in code_blocks(ROOT / "README.md")
    assert "make train\n" in code_blocks(ROOT / "README.md")


def test_make_train_runs_the_command_of_the_quick_config():
    makefile = re.sub(r"\s*\\\n\s*", " ", (ROOT / "Makefile").read_text())
    (command,) = re.findall(r"^train: env\n\t\$\(BIN\)/(.*)$", makefile, re.M)
    docstring = (ROOT / "configs/metastar.py").read_text()
    assert command in re.sub(r"\s*\\+\n\s*", " ", docstring)


@pytest.mark.parametrize("page", ["README.md", "docs/results.md"])
def test_the_results_are_those_of_the_committed_files(page):
    experiment = importlib.import_module("point_robot_sparse")
    folder = ROOT / "experiments/results/point_robot_sparse_quick"
    summary = json.loads((folder / "summary.json").read_text())
    results = experiment.results_of(f"{ROOT / experiment.SWEEP}:quick")["metastar"]
    assert len(results) == summary["num_seeds"] >= 3
    assert experiment.blocks(results) == summary["metastar"]
    assert experiment.table(summary) in (ROOT / page).read_text()


@pytest.mark.parametrize("family", ["cheetah_vel"])
def test_the_tables_of_seeds_are_those_of_the_committed_files(family):
    experiment = importlib.import_module("seeds")
    assert experiment.text(family) in (ROOT / "docs/results.md").read_text()


@pytest.mark.parametrize(
    "label, argument",
    [
        ("invariance_point_robot", "point_robot"),
        ("invariance_point_robot_alike", "point_robot,alike"),
        ("invariance_cheetah_vel", "cheetah_vel"),
        ("imagination_point_robot", ""),
    ],
)
def test_the_tables_of_cells_are_those_of_the_committed_files(label, argument):
    table = importlib.import_module(label.split("_")[0]).table(argument)
    page = (ROOT / "docs/results.md").read_text()
    assert f"<!-- {label} -->\n{table}<!-- /{label} -->" in page


@pytest.mark.parametrize(
    "family", ["point_robot_sparse", "cheetah_vel", "ant_dir", "walker_param", "hopper_mass"]
)
def test_the_table_of_all_systems_is_that_of_the_committed_files(family):
    experiment = importlib.import_module("neighbours")
    page = (ROOT / "docs/systems.md").read_text()
    label, rows = experiment.label_of(family), experiment.table(family)
    assert f"<!-- {label} -->\n{tables.markdown(rows)}\n" in page


def test_the_table_of_contexts_is_that_of_the_committed_files():
    experiment = importlib.import_module("own_context")
    page = (ROOT / "docs/log.md").read_text()
    assert f"<!-- {experiment.LABEL} -->\n{experiment.table()}\n" in page


@pytest.mark.parametrize(
    "name",
    [
        "cheetah_vel",
        "cheetah_vel_code_noise",
        "cheetah_vel_reach",
        "cheetah_vel_unicorn_ss",
        "point_robot_sparse",
    ],
)
def test_the_tables_of_inference_are_those_of_the_committed_files(name):
    experiment = importlib.import_module("likelihood")
    label = experiment.LABEL.format(name=name)
    assert f"<!-- {label} -->\n{experiment.table(name)}\n" in (ROOT / "docs/log.md").read_text()


@pytest.mark.parametrize("name, arguments", [("pays", ()), ("hour", ("",)), ("hour", ("quick",))])
def test_the_tables_of_arms_are_those_of_the_committed_files(name, arguments):
    experiment = importlib.import_module(name)
    page, rows = (ROOT / "docs/log.md").read_text(), experiment.table(*arguments)
    label = experiment.label_of(*arguments) if arguments else experiment.LABEL
    assert f"<!-- {label} -->\n{tables.markdown(rows)}\n" in page


def test_the_tables_of_the_default_are_those_of_the_committed_files():
    experiment = importlib.import_module("default")
    cheetahs = "cheetah_vel", "cheetah_vel_sparse", "cheetah_dir"
    for family in (*cheetahs, "point_robot_sparse", "point_robot_wind"):
        assert experiment.table(family) in (ROOT / "docs/results.md").read_text()


def test_the_minutes_of_one_seed_alone_are_those_of_the_committed_file():
    experiment = importlib.import_module("alone")
    file = ROOT / "experiments/results/default_cheetah_vel/alone.json"
    table = experiment.table("cheetah_vel", json.loads(file.read_text()))
    assert table in (ROOT / "docs/results.md").read_text()


def test_tables_of_one_file_are_those_of_the_committed_files():
    files = {
        "two_data_sets_cheetah_vel": ("two_data_sets", "results.md"),
        "two_data_sets_point_robot": ("two_data_sets", "results.md"),
        "precision_cheetah_vel": ("precision", "log.md"),
        "other_codes_cheetah_vel": ("other_codes", "log.md"),
        "extremes_cheetah_vel": ("extremes", "log.md"),
        "sparse_rewards": ("sparse_rewards", "log.md"),
        "bitwise": ("bitwise", "scaling.md"),
        "compilation": ("compilation", "results.md"),
    }
    for stem, (name, page) in files.items():
        file = ROOT / f"experiments/results/{stem}.json"
        table = importlib.import_module(name).table(json.loads(file.read_text()))
        assert table in (ROOT / "docs" / page).read_text()


def test_the_tables_of_the_recipes_are_those_of_the_committed_files():
    recipes = importlib.import_module("recipes")
    for family in ("cheetah_vel_sparse", "cheetah_dir", "point_robot_wind"):
        rows = tables.markdown(recipes.table(family))
        assert rows in (ROOT / "docs/log.md").read_text()


def test_the_tables_of_model_errors_are_those_of_the_committed_files():
    experiment = importlib.import_module("model_error")
    folders = sorted((ROOT / "experiments/results").glob("model_error_*"))
    assert len(folders) > 2
    for folder in folders:
        assert experiment.table(folder) in (ROOT / "docs/log.md").read_text(), folder.name


@pytest.mark.parametrize("name", ["ambiguity", "leak"])
def test_the_table_of_one_file_is_that_of_the_committed_one(name):
    experiment = importlib.import_module(name)
    table = experiment.table(json.loads(experiment.OUT.read_text()))
    page = (ROOT / "docs/results.md").read_text()
    assert f"<!-- {experiment.LABEL} -->\n{table}<!-- /{experiment.LABEL} -->" in page


@pytest.mark.parametrize(
    "label",
    [
        "critics_point_robot_sparse",
        "critics_point_robot_sparse_8_seeds",
        "critics_cheetah_vel",
        "critics_point_robot_sparse_metastar",
        "critics_cheetah_vel_metastar",
    ],
)
def test_the_table_of_critics_is_that_of_the_committed_file(label):
    report = json.loads((ROOT / f"experiments/results/{label}.json").read_text())
    table = importlib.import_module("critics").table(report)
    page = (ROOT / "docs/benchmarks.md").read_text()
    assert f"<!-- {label} -->\n{table}<!-- /{label} -->" in page


def test_the_table_of_what_learners_reached_is_that_of_the_committed_files():
    experiment = importlib.import_module("levels")
    page = (ROOT / "docs/families.md").read_text()
    assert f"<!-- {experiment.LABEL} -->\n{experiment.table()}<!-- /{experiment.LABEL} -->" in page


def test_the_table_of_exploring_is_that_of_the_committed_files():
    experiment = importlib.import_module("exploring")
    page = (ROOT / "docs/results.md").read_text()
    marked = f"<!-- {experiment.LABEL} -->\n{experiment.table()}<!-- /{experiment.LABEL} -->"
    assert marked in page


def test_the_table_of_the_references_protocol_is_that_of_its_longest_run():
    experiment = importlib.import_module("reference_protocol")
    found = [json.loads(file.read_text()) for file in experiment.OUT.glob("*.json")]
    longest = max((f for f in found if "curve" in f), key=lambda f: f["updates"])
    page = (ROOT / "docs/results.md").read_text()
    label = "cheetah_vel_paper"
    assert f"<!-- {label} -->\n{experiment.text(longest)}<!-- /{label} -->" in page


def test_the_tables_of_benchmarks_are_those_of_the_committed_files():
    experiment = importlib.import_module("benchmarks")
    readme, page = (ROOT / "README.md").read_text(), (ROOT / "docs/benchmarks.md").read_text()
    assert f"<!-- performance -->\n{experiment.table()}<!-- /performance -->" in readme
    assert f"<!-- benchmarks -->\n{experiment.page()}<!-- /benchmarks -->" in page
    assert f"<!-- simulators -->\n{experiment.simulators()}<!-- /simulators -->" in page


def test_the_commands_of_the_benchmarks_are_valid():
    benchmarks, accelerator = map(importlib.import_module, ("benchmarks", "accelerator"))
    prepared = (s.command.removeprefix("bench ") for s in accelerator.STEPS)
    timed = (command for command in prepared if not command.startswith("train "))
    for command in (*benchmarks.CPU, *benchmarks.FAMILIES, *timed):
        part, source, *options = command.split()
        assert part in bench.PARTS
        overrides = [word for word in options if word.startswith("--config.")]
        cfg = config.load(str(ROOT / source.removeprefix("--config=")), overrides)
        for word in options:
            if word.startswith("--sizes="):
                bench.variants(bench.parse_sizes(word.removeprefix("--sizes="), cfg), cfg)


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_relative_links_lead_somewhere(page):
    for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text()):
        assert (page.parent / target).exists(), target


def anchors(page):
    """The names under which the headings of a page can be linked to."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_to_headings_lead_somewhere(page):
    for target, heading in re.findall(r"\]\((?!https?:)([^)#]*)#([^)]+)\)", page.read_text()):
        assert heading in anchors(page.parent / target if target else page), (target, heading)


def commands(page):
    """Every `metastar ...` of the code blocks of a page, as it would be typed."""
    found = []
    for block in code_blocks(page):
        text = block.replace("\\\n", " ")
        found += re.findall(r"^(?:PYTHONPATH=\S+ )?metastar ([a-z]+ (?!──).*)$", text, re.M)
    return [re.sub(r"\s*#.*", "", command) for command in found]


def at_debug_size(command):
    """The same command with the preset `debug`, and with few updates and evaluations."""
    words = shlex.split(command)
    words = [re.sub(r"(\.py:\w+),?\w*$", r"\1,debug", word) for word in words]
    words = [re.sub(r"^(--data=|)data/(\w+)_quick$", r"\1data/\2_debug", word) for word in words]
    if words[0] == "train" and "--dry-run" not in words:
        words += ["--config.eval.zero_shot_streams=1", "--config.eval.windows=2"]
        words += ["--config.eval.curve_windows=1", "--config.train.checkpoint_every=20"]
    if words[0] == "bench":
        words += ["--repeats=1"]
    if words[0] == "collect":  # blocks of fewer tasks
        fewer = {
            "--tasks=0-19": "--tasks=0-2",
            "--tasks=20-39": "--tasks=3-5",
            "--config.collect.tasks_at_once=10": "--config.collect.tasks_at_once=3",
        }
        words = [fewer.get(word, word) for word in words]
    if words[0] == "render":
        words = ["7" if word == "31" else word for word in words]  # the last of fewer tasks
    if any("horizon=" in word for word in words):
        words += ["--config.imagine.num_rollouts=1"]  # a small batch has no room for more
    return words


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda p: p.stem)
def test_the_page_shows_the_example_as_it_is(path):
    assert path.read_text() in code_blocks(ROOT / "docs/extending.md")


def make_cfg(**changes):
    cfg = config.change(make_config.preset("metastar", "point_robot_sparse", "debug"), changes)
    config.validate(cfg)
    return FrozenConfigDict(cfg)


def make_data():
    rng = np.random.default_rng(0)
    shape = (TASKS, EPISODES, STEPS)
    zeros = np.zeros((TASKS, EPISODES), int)
    blocks = {
        "obs": rng.normal(size=(TASKS, EPISODES, STEPS + 1, 2)).astype(np.float32),
        "action": rng.uniform(-1, 1, (*shape, 2)).astype(np.float32),
        "reward": rng.normal(size=shape).astype(np.float32),
        "done": np.zeros(shape, bool),
        "length": zeros + STEPS,
        "policy": zeros,
        "stage": zeros,
    }
    task = {"goal": rng.normal(size=(TASKS, 2)).astype(np.float32)}
    return layout.from_blocks(blocks, task)


def make_spec():
    return DataSpec("point_robot_sparse", 2, 2, 2, TASKS, STEPS, (0.0, 0.0), (1.0, 1.0))


def updates_of(method, num=1):
    """Runs the first updates of a method; returns the states, the first before any, and metrics."""
    phase, data = method.phases[0], make_data()

    @jax.jit
    def run(state, data, step):
        keys = jax.random.split(jax.random.fold_in(jax.random.key(0), step))
        return phase.update(state, phase.sample(data, keys[0], step), keys[1], method.hp, step)

    states, metrics = [jax.jit(method.init)(jax.random.key(0))], []
    for step in range(num):
        state, found = run(states[-1], data, step)
        assert all(np.isfinite(value) for value in found.values())
        states.append(state)
        metrics.append(found)
    return states, metrics


def moved(before, after):
    before, after = jax.device_get((before, after))
    return any(jax.tree.leaves(jax.tree.map(lambda a, b: bool((a != b).any()), before, after)))


def acts(method, state):
    """Infers a task and acts once, as an evaluation does; returns the adaptation."""
    params = method.export(state)
    view = contexts.draw(make_data(), jnp.array(0), method.context, jax.random.key(2))
    adaptation = method.infer(params, view, None, jax.random.key(3))
    step = StepIn(jnp.zeros(2), jnp.zeros(2), jnp.zeros(()), jnp.zeros(2), jnp.array(True))
    carry = method.policy.init(params, adaptation)
    action, _ = method.policy.act(params, adaptation, carry, step, jax.random.key(4), True)
    assert action.shape == (2,) and (jnp.abs(action) <= 1).all()
    return adaptation


def test_the_example_loss_is_found_and_trained():
    weights = {"task_losses.spread_loss": 1.0, "task_losses.infonce": 0.0}
    cfg = make_cfg(imports=("examples.spread_loss",), **weights)
    (before, after), (metrics,) = updates_of(runs.make_method(cfg, make_spec()))
    assert "spread_loss" in metrics and "spread_std" in metrics and "infonce" not in metrics
    assert moved(before["world_model"].params, after["world_model"].params)


@pytest.mark.parametrize("margin", [1.0, 0.5])
def test_the_example_loss_by_hand(margin):
    values = {"task_losses.spread_loss": 1.0, "spread_loss.margin": margin}
    cfg = make_cfg(imports=("examples.spread_loss",), **values)
    loss = config.make(cfg, "task loss", "spread_loss", None, 2).loss
    code = jnp.array([[3.0, 0.0], [-3.0, 0.0]])
    codes = {"context": Codes(code), "positive": Codes(code + 1)}
    value, metrics = loss({}, codes, None, None, config.swept(cfg)["spread_loss"])
    np.testing.assert_allclose(value, 1 + (margin - 0.01) / 2, rtol=1e-5)
    np.testing.assert_allclose(metrics["spread_std"], (3 + 0.01) / 2, rtol=1e-3)


def focal_cfg(**changes):
    cfg = config.change(make_config.preset("contextual", "point_robot_sparse", "debug"), changes)
    config.validate(cfg)
    return FrozenConfigDict(cfg)


def test_the_example_encoder_is_found_trained_and_infers():
    selected = {"encoder.name": "attention_encoder", "encoder.attention_encoder.hidden": (8,)}
    cfg = focal_cfg(imports=("examples.attention_encoder",), **selected)
    method = runs.make_method(cfg, make_spec())
    (before, after), _ = updates_of(method)
    assert moved(before["encoder"].params, after["encoder"].params)
    assert method.context == Context(64, ordered=False)
    assert acts(method, after).code.shape == (5,)


def test_the_example_encoder_ignores_padding_and_weighs_the_rest():
    cfg = focal_cfg(
        imports=("examples.attention_encoder",), **{"encoder.name": "attention_encoder"}
    )
    encoder = config.make(cfg, "encoder", "attention_encoder", make_spec())
    params = jax.tree.map(lambda x: x + 0.3, encoder.init(jax.random.key(0)))
    view = sample_transitions(make_data(), jnp.array(0), jax.random.key(1), 6)
    view = view._replace(valid=jnp.arange(6) < 4)
    noise = encoder.draw_noise(jax.random.key(2), view.valid.shape)
    code, each = encoder.encode(params, view, noise)
    other = view._replace(reward=view.reward + 9 * ~view.valid)
    np.testing.assert_array_equal(encoder.encode(params, other, noise).task, code)
    assert (each[:4].min(0) <= code).all() and (code <= each[:4].max(0)).all()


def test_the_example_agent_is_found_trained_and_acts():
    cfg = focal_cfg(imports=("examples.clone_agent",), **{"agent.name": "clone_agent"})
    method = runs.make_method(cfg, make_spec())
    (before, *_, after), metrics = updates_of(method, 5)
    assert moved(before["agent"].params, after["agent"].params) and method.value is None
    assert "clone_error" in metrics[0]
    acts(method, after)


def test_the_example_method_is_found_remembers_and_acts():
    values = {"method": "blind_method", "blind_method.unit_period": 2}
    cfg = make_cfg(imports=("examples.blind_method",), **values)
    method = runs.make_method(cfg, make_spec())
    states, metrics = updates_of(method, 4)
    assert moved(states[0]["agent"].params, states[1]["agent"].params)
    square = [float(state["memory"].extra["square"]) for state in states]
    unit = [float(found["reward_unit"]) for found in metrics]
    assert len(set(square)) == 5  # remembers at every update
    set_at = [square[1], square[1], square[3], square[3]]
    np.testing.assert_allclose(unit, np.sqrt(set_at), rtol=1e-4)
    assert acts(method, states[-1]).code == 0


def test_the_example_family_is_found_and_played():
    cfg = make_cfg(imports=("examples.ring_family",), family="ring_family")
    assert cfg.data.train_tasks == 4 and cfg.agent.conservative.gamma == 0.9
    family, env = family_of(cfg.family), make_env(cfg)
    tasks = family.law["own"](np.random.default_rng(0), 3)
    tasks["current"][0] = 0.05  # 60 steps of it are 3 length units: it carries out of the field

    @jax.jit
    def play_randomly(tasks, key):
        return rollout(env, uniform_policy(2), None, no_adaptation(3, 2), tasks, key, episodes=2)

    play = jax.device_get(play_randomly(tasks, jax.random.key(0)))
    assert play.reward.shape == (3, 2, 2, 60) and play.done[0].any(-1).all()
    current = tasks["current"][:, None, None, None]
    moved = (play.next_obs - play.obs - 0.1 * play.action - current)[play.valid]
    np.testing.assert_allclose(moved, 0, atol=1e-6)
    radius = tasks["radius"][:, None, None, None]
    distance = np.abs(np.linalg.norm(play.next_obs, axis=-1) - radius)
    lost = np.abs(play.next_obs).max(-1) > 2
    np.testing.assert_array_equal(play.done, lost)
    np.testing.assert_allclose(play.reward, -distance - 20 * lost, atol=1e-5)
    np.testing.assert_array_equal(play.success, distance < 0.1)
    ended = np.cumsum(play.done, -1) - play.done > 0
    np.testing.assert_array_equal(play.valid, ~ended)
    assert family.label(tasks)[1].shape == (3,)


def run(arguments, capsys):
    """Exit status and errors of a command; films have a process of their own.

    MuJoCo chooses an OpenGL when it is imported, as the command does once it knows which one.
    """
    if arguments[0] != "render":
        return cli.main(arguments), capsys.readouterr().err
    line = [sys.executable, "-m", "metastar", *arguments]
    done = subprocess.run(line, capture_output=True, text=True)
    return done.returncode, done.stderr


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_the_cells_of_every_sweep_are_valid(page, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    for command in (c for c in commands(page) if c.startswith("sweep ")):
        words = [word for word in shlex.split(command) if word not in ("status", "--dry-run")]
        assert cli.main([*words, "--dry-run"]) == 0, (command, capsys.readouterr().err)


def test_the_sweep_file_of_its_page_is_valid(tmp_path):
    text = next(block for block in code_blocks(ROOT / "docs/sweeps.md") if "get_config" in block)
    (tmp_path / "agents.py").write_text(text)
    sweep = grid.read(str(tmp_path / "agents.py"))
    named = {cell.name: cell for cell in grid.cells(sweep)}
    assert len(named) == 9 and str(sweep.runs) == "runs/agents"
    assert named["focal-sac_cheetah_vel_quick_2"].needs == ("oracle_cheetah_vel_quick_2",)


@pytest.mark.slow
def test_every_command_runs(tmp_path, monkeypatch, capsys):
    """Through the command line, at debug size; a page may use the runs of those before it.

    Where MuJoCo has no OpenGL to draw with, its pictures are left out.
    """
    monkeypatch.chdir(tmp_path)
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    for page in PAGES:
        if page.name == "own_data.md":
            continue  # run whole by tests/test_own_data.py
        for command in commands(page):
            if "backend=mjx" in command or command.startswith("sweep "):
                continue  # MJX compiles for minutes on a CPU, and a sweep has presets of its own
            began = time.monotonic()
            status, error = run(at_debug_size(command), capsys)
            undrawn = "MuJoCo cannot draw" in error
            assert status == 0 or undrawn, (page.name, command, error)
            with capsys.disabled():
                note = "  (cannot draw here)" if undrawn else ""
                print(f"{time.monotonic() - began:6.1f} s  {command}{note}")
