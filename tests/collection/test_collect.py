"""A collection is whole or absent, the same every time, and never passed off as another."""

import os
import subprocess
import sys
import textwrap
import threading

import jax
import numpy as np
import pytest

import make_config
from metastar import files
from metastar.collection import collect
from metastar.collection.behavior import Behavior, Episodes
from metastar.collection.behaviors import random
from metastar.data import layout, store
from metastar.envs.families import point_robot_sparse
from metastar.errors import UserError
from metastar.types import Trajectory


def quiet(line):
    pass


def make_fake(cfg, env):
    """A behavior that compiles nothing: noise of the right shapes, each task's its own."""

    def run(tasks, key, report, first=0):
        num_tasks, num_episodes = len(tasks["goal"]), cfg.collect.random_episodes
        steps = (num_episodes, env.spec.max_episode_steps)
        seed = int(jax.random.key_data(key).sum())
        rngs = [np.random.default_rng((seed, first + i)) for i in range(num_tasks)]
        obs, action, next_obs = np.stack([rng.uniform(-1, 1, (3, *steps, 2)) for rng in rngs], 1)
        flags = np.zeros((num_tasks, *steps), bool)
        report("played")
        trajectory = Trajectory(obs, action, obs.sum(-1), next_obs, flags, ~flags)
        zero = np.zeros((num_tasks, num_episodes), int)
        collector = zero + first + np.arange(num_tasks)[:, None]
        return Episodes(trajectory, zero, zero, collector)

    return Behavior(("random",), ("random",), run, together=None)


@pytest.fixture
def fake(monkeypatch):
    monkeypatch.setattr(random, "make", make_fake)


def make_cfg(directory, **fields):
    small = {"data.train_tasks": 3, "data.test_tasks": 2, "collect.behavior": "random"}
    small |= {"data.dir": str(directory), "collect.random_episodes": 2}
    return make_config.base(**{**small, **fields})


def test_ensure_makes_the_data_once(tmp_path):
    cfg, lines = make_cfg(tmp_path / "deep" / "set"), []
    path = collect.ensure(cfg, lines.append)
    assert path == tmp_path / "deep" / "set" and len(lines) >= 2
    _, manifest, fields = store.verify(path)
    assert manifest.split == {"train": [0, 1, 2], "test": [3, 4]}
    assert manifest.family == "point_robot_sparse" and manifest.stages == ("random",)
    assert {"metastar-jax", "jax", "numpy", "python"} <= set(manifest.versions)
    np.testing.assert_allclose(np.linalg.norm(manifest.tasks["goal"], axis=1), 1, rtol=1e-15)
    assert manifest.env_spec.max_episode_steps == 60 and manifest.origin == "metastar collect"
    at = layout.transitions(fields).obs
    move = fields["obs"][at + 1] - fields["obs"][at]
    np.testing.assert_allclose(move, 0.1 * fields["action"], atol=1e-6)
    before = {p: p.stat().st_mtime_ns for p in path.iterdir()}
    assert collect.ensure(cfg, lines.clear) == path
    assert {p: p.stat().st_mtime_ns for p in path.iterdir()} == before


def test_data_of_other_sizes_than_the_familys_are_refused(tmp_path, fake):
    path = collect.ensure(make_cfg(tmp_path / "set"), quiet)
    manifest = files.read_json(path / store.MANIFEST, "")
    manifest["env_spec"]["max_episode_steps"] = 70
    files.write_json(path / store.MANIFEST, manifest)
    store.verify(path)  # by itself it is sound
    with pytest.raises(UserError, match=r"has max_episode_steps=70, but family .* has 60"):
        collect.ensure(make_cfg(tmp_path / "set"), quiet)


def test_a_full_disk_leaves_nothing_and_the_next_collection_is_whole(tmp_path, fake, file_limit):
    cfg = make_cfg(tmp_path / "set")
    with file_limit(1000), pytest.raises(UserError, match=r"no room for all of it\); make room"):
        collect.ensure(cfg, quiet)
    assert [path.name for path in tmp_path.iterdir()] == [".set.lock"]
    assert store.verify(collect.ensure(cfg, quiet)).manifest.family == "point_robot_sparse"


@pytest.mark.parametrize("field", ["data.test_tasks", "collect.random_episodes"])
def test_more_episodes_than_memory_are_refused_before_they_are_drawn(tmp_path, fake, field):
    with pytest.raises(UserError, match=r"tasks need .* GiB, and this machine has .*; ask for few"):
        collect.ensure(make_cfg(tmp_path / "set", **{field: 10**12}), quiet)
    assert not (tmp_path / "set").exists()


def test_the_default_folder_is_named_after_family_and_preset():
    cfg = make_config.base()
    assert str(collect.directory_of(cfg)) == "data/point_robot_sparse_own"
    cfg.data.preset = "quick"
    assert str(collect.directory_of(cfg)) == "data/point_robot_sparse_quick"


def test_the_first_tasks_do_not_depend_on_the_number_of_test_tasks(tmp_path, fake):
    a = collect.ensure(make_cfg(tmp_path / "a"), quiet)
    b = collect.ensure(make_cfg(tmp_path / "b", **{"data.test_tasks": 4}), quiet)
    goals = [store.read_manifest(path).tasks["goal"] for path in (a, b)]
    np.testing.assert_array_equal(goals[0], goals[1][:5])


def test_tasks_out_of_distribution_are_in_the_manifest(tmp_path, fake):
    cfg = make_cfg(tmp_path / "set", **{"data.ood_tasks": 2})
    manifest = store.read_manifest(collect.ensure(cfg, quiet))
    assert manifest.split == {
        "train": [0, 1, 2], "test": [3, 4], "ood_moderate": [5, 6], "ood_extreme": [7, 8],
    }  # fmt: skip
    angle = np.arctan2(manifest.tasks["goal"][:, 1], manifest.tasks["goal"][:, 0])
    assert all(0.7 <= a < 1.0 or 2.1 <= a < 2.4 for a in angle[5:7])
    assert all(-0.8 <= a < -0.3 or a < -np.pi + 0.8 for a in angle[7:])
    assert not any(0.7 <= a < 1.0 or 2.1 <= a < 2.4 for a in angle[:5])
    assert (angle[:5] > 0).all()


def test_a_family_without_such_tasks_says_so(tmp_path, fake, monkeypatch):
    alone = {"own": point_robot_sparse.FAMILY.law["own"]}
    monkeypatch.setattr(point_robot_sparse, "FAMILY", point_robot_sparse.FAMILY._replace(law=alone))
    with pytest.raises(UserError, match=r"no tasks out of distribution; set data\.ood_tasks=0"):
        collect.ensure(make_cfg(tmp_path / "set", **{"data.ood_tasks": 2}), quiet)
    assert not (tmp_path / "set").exists()


OTHER = {
    "family": "point_robot",
    "collect.seed": 1,
    "data.task_seed": 1,
    "data.train_tasks": 2,
    "data.ood_tasks": 1,
    "env.terminal_at_goal": True,
}


@pytest.mark.parametrize("field", OTHER)
def test_data_of_other_settings_are_refused_by_name(field, tmp_path, fake):
    collect.ensure(make_cfg(tmp_path / "set"), quiet)
    name = "family 'point_robot_sparse'" if field == "family" else field
    with pytest.raises(UserError, match=name) as error:
        collect.ensure(make_cfg(tmp_path / "set", **{field: OTHER[field]}), quiet)
    assert "\n" not in str(error.value)


def test_settings_that_do_not_touch_the_data_are_free(tmp_path, fake):
    path = collect.ensure(make_cfg(tmp_path / "set"), quiet)
    free = {
        "simulator.threads": 1,
        "seed": 3,
        "preset": "quick",
        "method": "oracle",
        "data.validation_tasks": 1,
    }
    assert collect.ensure(make_cfg(tmp_path / "set", **free), quiet) == path


def test_damage_and_foreign_folders_are_refused(tmp_path, fake):
    cfg = make_cfg(tmp_path / "set")
    path = collect.ensure(cfg, quiet)
    with pytest.raises(UserError, match="not empty"):
        collect.collect(cfg, path, quiet)
    content = bytearray((path / "obs.npy").read_bytes())
    content[-1] ^= 64
    (path / "obs.npy").write_bytes(content)
    with pytest.raises(UserError, match=r"obs\.npy is damaged"):
        collect.ensure(cfg, quiet)
    (path / store.MANIFEST).unlink()
    with pytest.raises(UserError, match=r"manifest\.json is missing"):
        collect.ensure(cfg, quiet)
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError):
        collect.ensure(make_cfg(tmp_path / "file"), quiet)
    with pytest.raises(UserError, match="cannot write"):
        collect.ensure(make_cfg(tmp_path / "file" / "set"), quiet)


def test_processes_that_start_together_share_one_collection(tmp_path, fake):
    cfg, lines = make_cfg(tmp_path / "set"), []
    threads = [threading.Thread(target=collect.ensure, args=(cfg, lines.append)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum("collecting" in line for line in lines) == 1
    store.verify(tmp_path / "set")


KILLED = """
    import os, signal, sys
    import numpy as np
    from pathlib import Path
    from metastar.collection import collect
    from metastar.collection.behaviors import random
    from metastar import files
    from test_collect import make_cfg, make_fake

    random.make = make_fake
    calls = 0

    def die_at(module, name, call):
        original = getattr(module, name)

        def wrapper(*args, **kwargs):
            global calls
            calls += 1
            if calls == call:
                os.kill(os.getpid(), signal.SIGKILL)
            return original(*args, **kwargs)

        setattr(module, name, wrapper)

    die_at(*{"save": (np, "save", 4), "sync": (files, "sync_tree", 1),
             "rename": (Path, "rename", 1)}[sys.argv[1]])
    collect.ensure(make_cfg(sys.argv[2]))
"""


@pytest.mark.parametrize("moment", ["save", "sync", "rename"])
def test_killed_while_writing_and_started_again(moment, tmp_path, request, fake):
    command = [sys.executable, "-c", textwrap.dedent(KILLED), moment, str(tmp_path / "set")]
    environment = {**os.environ, "PYTHONPATH": str(request.path.parents[1])}
    killed = subprocess.run(
        command, cwd=request.path.parent, env=environment, capture_output=True, text=True
    )
    assert killed.returncode == -9, killed.stderr
    assert not (tmp_path / "set").exists()
    assert (tmp_path / ".set.tmp").exists()
    again = collect.ensure(make_cfg(tmp_path / "set"), quiet)
    whole = collect.ensure(make_cfg(tmp_path / "whole"), quiet)
    assert not (tmp_path / ".set.tmp").exists()
    for name in layout.FIELDS:
        assert (again / f"{name}.npy").read_bytes() == (whole / f"{name}.npy").read_bytes()


def cheetah_cfg(directory, **fields):
    small = {
        "family": "cheetah_vel",
        "data.train_tasks": 2,
        "data.test_tasks": 1,
        "data.ood_tasks": 1,
        "collect.random_episodes": 1,
    }
    return make_cfg(directory, **{**small, **fields})


@pytest.mark.slow
def test_a_mixture_on_a_simulated_robot_gives_the_same_manifest_again(tmp_path):
    fields = {
        "collect.behavior": "mixture",
        "collect.iterations": 3,
        "collect.updates_per_iteration": 20,
        "collect.cross_task_episodes": 2,
        "collect.sac.hidden": (32, 32),
        "collect.td3.hidden": (32, 32),
    }
    for shared in (False, True):
        made = [
            store.read_manifest(
                collect.ensure(
                    cheetah_cfg(
                        tmp_path / f"{shared}{i}",
                        **fields,
                        **{"collect.shared_learner": shared, "collect.seed": i // 2},
                    ),
                    quiet,
                )
            ).files
            for i in range(3)
        ]
        assert made[0] == made[1] and made[0] != made[2]
