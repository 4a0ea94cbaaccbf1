"""A checkpoint acts only as the agent it was written as: beside other files it is refused."""

import functools
import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import FrozenConfigDict

import make_config
from fake_method import claimed, make_cfg, make_data, make_method
from metastar import files, load
from metastar.errors import UserError
from metastar.evaluation import results
from metastar.training import checkpoint, workdir
from metastar.training.chunk import abstract
from metastar.training.loop import fit
from metastar.training.runs import Run
from metastar.training.runs import make_method as make_run_method
from metastar.types import DataSpec

SPEC = DataSpec("point_robot_sparse", 2, 2, 2, 4, 60, (0.1, -0.2), (0.5, 2.0))
# Every one of them leaves all shapes as they are.
EDITS = {
    "obs_mean": ("spec", ("obs_mean",), [0.9, 0.9]),
    "obs_std": ("spec", ("obs_std",), [5.0, 0.1]),
    "num_heads": ("config", ("world_model", "num_heads"), 1),
    "code_bound": ("config", ("world_model", "code_bound"), "none"),
    "normalize_obs": ("config", ("sampler", "normalize_obs"), False),
    "precision": ("config", ("train", "precision"), "bfloat16"),
}


@functools.cache
def config():
    cfg = make_config.preset("metastar", "point_robot_sparse", "debug")
    assert cfg.world_model.code_bound == "sphere" and cfg.sampler.normalize_obs
    return FrozenConfigDict(cfg)


@functools.cache
def trained():
    """A state of other numbers than those of the initialisation."""
    method = make_run_method(config(), SPEC)
    rng = np.random.default_rng(0)
    return jax.tree.map(
        lambda x: jnp.asarray(0.3 * rng.normal(size=x.shape), x.dtype), abstract(method)
    )


def save_run(path):
    with workdir.opened(config(), path):
        workdir.write_spec(path, SPEC)
        meta = {"wall_seconds": 1.0}
        checkpoint.save(path / "checkpoints", 16, trained(), meta, workdir.digests(path))


def act(path):
    """What the agent of a run does after a fixed context."""
    rng = np.random.default_rng(1)
    given = {"obs": rng.normal(size=(12, 2)), "action": rng.uniform(-1, 1, (12, 2))}
    given["reward"] = rng.uniform(size=12)
    return load(path).adapt(given).act(np.array([0.3, -0.4]))


def edit(path, name, keys, value):
    """Changes one field of a JSON file and nothing else."""
    content = json.loads((path / f"{name}.json").read_text())
    node = content
    for key in keys[:-1]:
        node = node[key]
    assert node[keys[-1]] != value
    node[keys[-1]] = value
    (path / f"{name}.json").write_text(json.dumps(content))


def seal(path, name):
    """Gives an edited file the checksum of what it holds now."""
    content = json.loads((path / f"{name}.json").read_text())
    content.pop("sha256", None)
    files.write_json(path / f"{name}.json", content)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    path = tmp_path_factory.mktemp("run")
    save_run(path)
    return path


@pytest.fixture
def copy(run, tmp_path):
    return shutil.copytree(run, tmp_path / "copy")


def refused(path):
    with pytest.raises(UserError) as caught:
        act(path)
    sentence = str(caught.value)
    assert str(path) in sentence and "\n" not in sentence
    return sentence


@pytest.mark.parametrize("field", EDITS)
def test_an_edited_field_never_gives_another_agent(copy, field):
    name, keys, value = EDITS[field]
    edit(copy, name, keys, value)
    assert f"{name}.json is damaged: its content does not match its SHA-256" in refused(copy)
    seal(copy, name)
    sentence = f"{name}.json of {copy} is not the one that checkpoint 16 was written with"
    assert sentence in refused(copy)


def test_files_without_a_checksum_are_refused_in_a_run_that_has_them(copy):
    for name in ("spec", "config"):
        content = json.loads((copy / f"{name}.json").read_text())
        del content["sha256"]
        (copy / f"{name}.json").write_text(json.dumps(content))
        assert f"{name}.json is damaged: it has no checksum" in refused(copy)


def test_a_format_that_is_not_known_is_refused(copy):
    edit(copy, "config", ("format",), 4)
    seal(copy, "config")
    assert "is of format 4, which this version does not know" in refused(copy)


def fit_fake(path, seed=0, **settings):
    cfg = make_cfg(keep_checkpoints=9, **settings)
    cfg.seed = seed
    method = make_method()
    return fit([claimed(Run(cfg, path))], method, make_data(), [method.hp])


def test_a_checkpoint_of_another_seed_is_refused_wherever_checkpoints_are_read(tmp_path):
    a, b, state = tmp_path / "a", tmp_path / "b", abstract(make_method())
    fit_fake(a)
    fit_fake(b, seed=1)
    for step in (10, 24):
        shutil.rmtree(a / f"checkpoints/{step}")
        shutil.copytree(b / f"checkpoints/{step}", a / f"checkpoints/{step}")
    sentence = f"^config.json of {a} is not the one that checkpoint %d was written with; restore"
    owner = workdir.identity(a)
    with pytest.raises(UserError, match=sentence % 24):
        checkpoint.restore_latest(a / "checkpoints", state, owner)
    with pytest.raises(UserError, match=sentence % 10):
        checkpoint.restore(a / "checkpoints", 10, state, owner)
    with pytest.raises(UserError, match=sentence % 24):
        fit_fake(a)
    with pytest.raises(UserError, match=sentence % 10):
        fit_fake(tmp_path / "c", pretrained=str(a))


def test_results_are_those_of_the_run_that_they_lie_in(tmp_path):
    run = claimed(Run(make_cfg(), tmp_path / "a"))
    own = {"digests": workdir.digests(run.workdir), "updates": 3}
    results.write(run.workdir, own)
    assert results.read(run.workdir) == own
    for digests in ({}, {**own["digests"], "config": "0"}, {**own["digests"], "spec": "0"}):
        results.write(run.workdir, {**own, "digests": digests})
        with pytest.raises(UserError, match=r"results\.json is not of this run: (config|spec)"):
            results.read(run.workdir)
    results.write(run.workdir, {"updates": 3})
    with pytest.raises(UserError, match=r"results\.json is not of this run: config"):
        results.read(run.workdir)
    (run.workdir / results.FILE).write_text(json.dumps(own))
    with pytest.raises(UserError, match="has no checksum"):
        results.read(run.workdir)
