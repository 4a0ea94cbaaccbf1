"""Data made in blocks of tasks are those that one process makes, or the merge says why not."""

import shutil

import numpy as np
import pytest
from test_collect import cheetah_cfg, make_cfg, make_fake, quiet

from metastar import files, main
from metastar.collection import blocks, collect
from metastar.collection.behaviors import random
from metastar.data import store
from metastar.errors import UserError

FIVE = {"collect.tasks_at_once": 2}  # of the five tasks of `make_cfg`


@pytest.fixture
def fake(monkeypatch):
    monkeypatch.setattr(random, "make", make_fake)


def in_blocks(cfg, *texts):
    for text in texts:
        collect.block(cfg, text, quiet)
    return collect.ensure(cfg, quiet)


def test_blocks_of_learners_are_bitwise_those_of_one_process(tmp_path):
    fields = {
        "family": "point_robot",
        "collect.behavior": "td3",
        "data.train_tasks": 3,
        "data.test_tasks": 1,
        "collect.iterations": 2,
        "collect.updates_per_iteration": 20,
        "collect.td3.hidden": (16, 16),
        "collect.td3.batch_size": 16,
    } | FIVE
    whole = collect.ensure(make_cfg(tmp_path / "whole", **fields), quiet)
    merged = in_blocks(make_cfg(tmp_path / "set", **fields), "2-3", "0-1")
    own, other = (store.read_manifest(path) for path in (whole, merged))
    assert own.files == other.files and own.split == other.split
    assert own.origin == other.origin and own.versions == other.versions
    np.testing.assert_array_equal(own.tasks["goal"], other.tasks["goal"])
    collector = store.verify(merged).fields["collector"]
    np.testing.assert_array_equal(collector, np.repeat(np.arange(4), 6))


def test_blocks_of_simulated_robots_are_those_of_one_process_whatever_the_threads(tmp_path):
    one = cheetah_cfg(tmp_path / "whole", **{"simulator.threads": 1} | FIVE)
    two = cheetah_cfg(tmp_path / "set", **{"simulator.threads": 2} | FIVE)
    whole, merged = collect.ensure(one, quiet), in_blocks(two, "2-4", "0-1")
    assert store.read_manifest(whole).files == store.read_manifest(merged).files
    assert "mujoco" in store.read_manifest(merged).versions


def test_a_block_is_a_data_set_and_made_once(tmp_path, fake):
    cfg, lines = make_cfg(tmp_path / "set", **FIVE), []
    path = collect.block(cfg, "2-4", lines.append)
    assert path == tmp_path / "set.blocks" / "2-4" and "tasks 2-4 of 5" in lines[0]
    _, manifest, fields = store.verify(path)
    drawn, _ = collect.draw_tasks(cfg)
    np.testing.assert_array_equal(manifest.tasks["goal"], drawn["goal"][2:])
    np.testing.assert_array_equal(fields["collector"], [0, 0, 1, 1, 2, 2])
    assert collect.block(cfg, "2-4", lines.append) == path and len(lines) == 3
    own = make_cfg(path, **FIVE)
    with pytest.raises(UserError, match=r"holds some tasks of a data set only .*--tasks=2-4"):
        collect.ensure(own, quiet)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "--tasks is '' but must be FIRST-LAST"),
        ("3", "must be FIRST-LAST"),
        ("3-2", "must be FIRST-LAST"),
        ("0-٣", "must be FIRST-LAST"),
        ("0-5", "the config has the tasks 0 to 4"),
        ("0-2", r"cuts a group of collect\.tasks_at_once=2; begin at a multiple of 2"),
        ("1-3", "cuts a group"),
    ],
)
def test_what_is_no_block_is_refused(text, sentence, tmp_path, fake):
    with pytest.raises(UserError, match=sentence) as error:
        collect.block(make_cfg(tmp_path / "set", **FIVE), text, quiet)
    assert "\n" not in str(error.value) and not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"collect.shared_learner": True}, r"collect\.shared_learner=True has one learner"),
        ({"collect.cross_task_episodes": 2}, r"collect\.cross_task_episodes=2 play the policies"),
    ],
)
def test_what_cannot_be_cut_is_refused(fields, sentence, tmp_path):
    fields = {"collect.behavior": "td3", **fields}
    cut = make_cfg(tmp_path / "set", **fields | FIVE)
    with pytest.raises(UserError, match=sentence):
        collect.block(make_cfg(tmp_path / "set", **fields), "0-1", quiet)
    for call in (lambda: collect.block(cut, "0-1", quiet), lambda: collect.ensure(cut, quiet)):
        with pytest.raises(UserError, match=sentence):
            call()
    assert not (tmp_path / "set").exists()


def test_without_groups_there_are_no_blocks(tmp_path, fake):
    with pytest.raises(UserError, match=r"a block needs collect\.tasks_at_once"):
        collect.block(make_cfg(tmp_path / "set"), "0-1", quiet)


def test_a_behavior_that_says_nothing_of_blocks_is_made_in_one_piece(tmp_path, monkeypatch):
    def make(cfg, env):
        made = make_fake(cfg, env)
        return made._replace(run=lambda *args: made.run(*args), together="its file says nothing")

    monkeypatch.setattr(random, "make", make)
    with pytest.raises(UserError, match=r"all tasks in one program \(its file says nothing\)"):
        collect.block(make_cfg(tmp_path / "set", **FIVE), "0-1", quiet)
    collect.ensure(make_cfg(tmp_path / "set"), quiet)


@pytest.fixture(scope="module")
def three(tmp_path_factory):
    """Blocks of all five tasks; tests take copies."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(random, "make", make_fake)
        path = tmp_path_factory.mktemp("made") / "set"
        for text in ("0-1", "2-3", "4-4"):
            collect.block(make_cfg(path, **FIVE), text, quiet)
    return path


@pytest.fixture
def copied(three, tmp_path, fake):
    shutil.copytree(blocks.folder_of(three), tmp_path / "set.blocks")
    return tmp_path / "set"


def test_the_merge_leaves_blocks_and_has_every_task(copied):
    lines = []
    cfg = make_cfg(copied, **FIVE)
    path = collect.ensure(cfg, lines.append)
    assert "merging 3 blocks" in lines[0] and len(list(blocks.folder_of(path).glob("*"))) == 6
    whole = collect.ensure(make_cfg(copied.with_name("whole"), **FIVE), quiet)
    assert store.read_manifest(whole).files == store.read_manifest(path).files
    with pytest.raises(UserError, match="is not empty"):
        collect.block(cfg, "0-1", quiet)


def move(path, name):
    path.rename(path.with_name(name))


def edit(path, **entries):
    manifest = files.read_json(path / store.MANIFEST, "")
    files.write_json(path / store.MANIFEST, {**manifest, **entries})


def damage(file):
    content = bytearray(file.read_bytes())
    content[-1] ^= 64
    file.write_bytes(content)


BAD = {
    "missing first": (
        lambda x: shutil.rmtree(x / "0-1"),
        r"has no block of tasks 0-1; .*=0-1`",
    ),
    "missing last": (
        lambda x: shutil.rmtree(x / "4-4"),
        r"has no block of tasks 4-4; .*=4-4`",
    ),
    "overlap": (lambda x: shutil.copytree(x / "2-3", x / "1-4"), r"0-1 and .*1-4 share tasks; del"),
    "beyond": (lambda x: shutil.copytree(x / "4-4", x / "5-6"), r"5-6 goes beyond the tasks"),
    "renamed": (lambda x: move(x / "4-4", "4-5"), r"4-5 goes beyond the tasks of the config, 0 to"),
    "foreign": (lambda x: (x / "notes.txt").write_text(""), r"notes\.txt is no block of tasks"),
    "swapped": (
        lambda x: [move(x / a, b) for a, b in (("0-1", "9-9"), ("2-3", "0-1"), ("9-9", "2-3"))],
        r"0-1 does not hold tasks 0-1 of the config; its origin is 'metastar collect --tasks=2-3'",
    ),
    "damaged": (lambda x: damage(x / "2-3" / "obs.npy"), r"2-3/obs\.npy is damaged"),
    "no manifest": (lambda x: (x / "2-3" / "manifest.json").unlink(), r"no data set in .*2-3"),
    "versions": (lambda x: edit(x / "4-4", versions={}), r"0-1 was made with jax .* with None"),
}


@pytest.mark.parametrize("name", BAD)
def test_blocks_that_do_not_fit_are_refused(name, copied):
    change, sentence = BAD[name]
    change(blocks.folder_of(copied))
    with pytest.raises(UserError, match=sentence) as error:
        collect.ensure(make_cfg(copied, **FIVE), quiet)
    assert "\n" not in str(error.value) and not copied.exists()


@pytest.mark.parametrize("field", ["collect.seed", "data.task_seed", "collect.random_episodes"])
def test_blocks_of_another_config_are_refused_by_name(field, copied):
    with pytest.raises(UserError, match=f"{field}|does not hold tasks"):
        collect.ensure(make_cfg(copied, **{field: 3} | FIVE), quiet)
    assert not copied.exists()


def test_a_block_that_shares_tasks_with_another_is_not_made(copied):
    with pytest.raises(UserError, match="share tasks"):
        collect.block(make_cfg(copied, **FIVE), "2-4", quiet)
    assert not (blocks.folder_of(copied) / "2-4").exists()


def test_data_made_before_there_were_groups_are_those_of_one_program(tmp_path, fake):
    path = collect.ensure(make_cfg(tmp_path / "set"), quiet)
    manifest = files.read_json(path / store.MANIFEST, "")
    del manifest["config"]["collect"]["tasks_at_once"]
    edit(path, config=manifest["config"])
    assert collect.ensure(make_cfg(tmp_path / "set"), quiet) == path
    with pytest.raises(UserError, match=r"made with collect\.tasks_at_once=0, but the .* has 2"):
        collect.ensure(make_cfg(tmp_path / "set", **FIVE), quiet)


def test_the_command_makes_a_block_and_merges(tmp_path, fake, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    small = ["--config.collect.behavior=random", "--config.data.dir=set"]
    command = ["collect", "--config=metastar.py:point_robot_sparse,debug", *small]
    command.append("--config.collect.tasks_at_once=3")
    assert main.main([*command, "--tasks=0-2"]) == 0
    assert main.main(command) == 2
    assert "has no block of tasks 3-5" in capsys.readouterr().err
    assert main.main([*command, "--tasks", "3-5"]) == 0
    assert main.main(command) == 0
    assert "data set: set" in capsys.readouterr().out
    assert len(store.verify(tmp_path / "set").fields["episodes"]) == 6
