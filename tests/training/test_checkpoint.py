import json
import shutil
import sys
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from metastar import files
from metastar.errors import UserError
from metastar.training import checkpoint
from metastar.training.checkpoint import params_sha256, prune
from metastar.training.workdir import Identity

RUN = Identity({"config": "a", "spec": "b"}, 3)
save = partial(checkpoint.save, digests=RUN.digests)


def restore_latest(directory, abstract_state, say=print, run=RUN):
    return checkpoint.restore_latest(directory, abstract_state, run, say)


class State(NamedTuple):
    params: Any
    opt_state: Any
    extra: Any
    step: Any


def make_state(seed=0, step=0):
    params = {"a": {"w": jax.random.normal(jax.random.key(seed), (3, 4))}, "b": jnp.zeros(2)}
    optimizer = optax.chain(optax.clip(1.0), optax.inject_hyperparams(optax.adam)(1e-3))
    extra = {"none": None, "flag": jnp.ones((), bool), "list": [jnp.arange(3)]}
    return State(params, {"x": optimizer.init(params)}, extra, jnp.array(step))


def abstract():
    return jax.eval_shape(make_state)


def flip_bit(path, where=0.5):
    content = bytearray(path.read_bytes())
    content[int(where * (len(content) - 1))] ^= 1
    path.write_bytes(bytes(content))


def largest_file(folder):
    return max((p for p in folder.rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)


def test_round_trip_is_exact_and_keeps_the_structure(tmp_path):
    state = make_state(3, 7)
    save(tmp_path, 7, state, {"wall_seconds": 1.5})
    restored, step, meta = restore_latest(tmp_path, abstract())
    assert (step, meta) == (7, {"wall_seconds": 1.5})
    assert jax.tree.structure(restored) == jax.tree.structure(state)
    jax.tree.map(np.testing.assert_array_equal, restored, state)
    assert [leaf.dtype for leaf in jax.tree.leaves(restored)] == [
        leaf.dtype for leaf in jax.tree.leaves(state)
    ]


def test_nothing_there_gives_none(tmp_path):
    assert restore_latest(tmp_path / "missing", abstract()) is None
    assert restore_latest(tmp_path, abstract()) is None


def test_keeps_the_newest_and_the_damaged_one_ahead(tmp_path):
    for step in (1, 2, 9, 3, 4):  # 9 stands for a damaged one that the run has gone back from
        save(tmp_path, step, make_state(step), {})
        prune(tmp_path, step, keep=2)
    assert checkpoint.steps(tmp_path) == [3, 4, 9]
    prune(tmp_path, 9, keep=2)
    assert checkpoint.steps(tmp_path) == [4, 9]


def test_walks_back_over_every_kind_of_damage(tmp_path):
    for step in range(1, 8):
        save(tmp_path, step, make_state(step), {})
    flip_bit(largest_file(tmp_path / "7" / "state"))
    (tmp_path / "6" / "record.json").unlink()
    flip_bit(tmp_path / "5" / "record.json")
    (tmp_path / "4" / "record.json").write_text("{")
    record = json.loads((tmp_path / "3" / "record.json").read_text())
    (tmp_path / "3" / "record.json").write_text(json.dumps(record | {"meta": {"other": 1}}))
    for path in (tmp_path / "2" / "state").rglob("*"):
        if path.is_file():
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    (tmp_path / "8").mkdir()
    said = []
    state, step, _ = restore_latest(tmp_path, abstract(), said.append)
    assert step == 1
    jax.tree.map(np.testing.assert_array_equal, state, make_state(1))
    assert len(said) == 7 and all("damaged" in s and "going back" in s for s in said)
    assert checkpoint.steps(tmp_path) == list(range(1, 9))  # restoring only reads


@pytest.mark.parametrize("seed", range(3))
def test_a_flipped_bit_anywhere_never_gives_other_numbers(tmp_path, seed):
    state = make_state(2)
    save(tmp_path, 1, make_state(1), {})
    save(tmp_path, 2, state, {})
    rng = np.random.default_rng(seed)
    paths = sorted(p for p in (tmp_path / "2").rglob("*") if p.is_file() and p.stat().st_size)
    for path in paths:
        before = path.read_bytes()
        flip_bit(path, rng.uniform())
        restored, step, _ = restore_latest(tmp_path, abstract(), lambda sentence: None)
        jax.tree.map(np.testing.assert_array_equal, restored, make_state(step))
        path.write_bytes(before)


def test_an_interrupted_save_leaves_the_old_ones_and_is_cleaned_up(tmp_path, monkeypatch):
    save(tmp_path, 1, make_state(1), {})
    real = files.sync_tree

    def killed(folder):
        raise KeyboardInterrupt

    monkeypatch.setattr(files, "sync_tree", killed)
    with pytest.raises(KeyboardInterrupt):
        save(tmp_path, 2, make_state(2), {})
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith("tmp.")]
    assert restore_latest(tmp_path, abstract())[1] == 1
    monkeypatch.setattr(files, "sync_tree", real)
    save(tmp_path, 2, make_state(2), {})
    assert sorted(p.name for p in tmp_path.iterdir()) == ["1", "2"]


def test_a_refusal_inside_orbax_is_one_sentence_and_keeps_the_older_ones(
    tmp_path, file_limit, monkeypatch, capfd
):
    monkeypatch.setattr(sys, "unraisablehook", sys.__unraisablehook__)  # not pytest's
    save(tmp_path, 1, {"a": jnp.zeros(3)}, {})
    big = {"a": jax.random.normal(jax.random.key(0), (300_000,))}
    with file_limit(200_000), pytest.raises(UserError) as caught:
        save(tmp_path, 2, big, {})
    assert str(caught.value) == (
        f"cannot write checkpoint {tmp_path / '2'} (File too large); make room, and the same "
        "command resumes from the one before"
    )
    assert [path.name for path in tmp_path.iterdir()] == ["1"]
    assert capfd.readouterr() == ("", "")
    save(tmp_path, 2, big, {})
    assert checkpoint.steps(tmp_path) == [1, 2]


def test_a_full_disk_is_seen_before_orbax_starts(tmp_path, monkeypatch):
    full = type(shutil.disk_usage(tmp_path))(2**40, 2**40 - 1000, 1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: full)
    with pytest.raises(UserError, match=r"checkpoints/4 \(No space left on device\); make room"):
        save(tmp_path / "checkpoints", 4, make_state(), {})
    assert not list((tmp_path / "checkpoints").iterdir())


def test_a_state_of_another_shape_is_not_damage(tmp_path):
    save(tmp_path, 1, make_state(), {})
    other = abstract()._replace(step=jax.ShapeDtypeStruct((2,), jnp.int32))
    with pytest.raises(UserError, match=r"\.step is .* there and .* here"):
        restore_latest(tmp_path, other)
    half = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, jnp.float16), abstract())
    with pytest.raises(UserError, match="does not fit"):
        restore_latest(tmp_path, half)


def test_params_sha256_sees_names_types_shapes_and_values():
    tree = {"a": np.zeros(4, np.float32), "b": np.ones(2)}
    base = params_sha256(tree)
    assert base == params_sha256(dict(reversed(tree.items())))
    assert base == params_sha256(jax.tree.map(np.copy, tree))
    variants = [
        {"a": np.zeros((2, 2), np.float32), "b": np.ones(2)},
        {"a": np.zeros(4, np.int32), "b": np.ones(2)},
        {"c": np.zeros(4, np.float32), "b": np.ones(2)},
        {"a": np.zeros(4, np.float32), "b": np.array([1.0, np.nextafter(1.0, 2)])},
    ]
    assert len({base, *map(params_sha256, variants)}) == 5


@pytest.mark.parametrize("name", ["config", "spec"])
def test_an_intact_checkpoint_of_another_run_is_a_mistake_and_no_damage(tmp_path, name):
    folder = tmp_path / "checkpoints"
    save(folder, 1, make_state(), {})
    checkpoint.save(folder, 2, make_state(), {}, {**RUN.digests, name: "other"})
    sentence = f"^{name}.json of {tmp_path} is not the one that checkpoint 2 was written with"
    with pytest.raises(UserError, match=sentence):
        restore_latest(folder, abstract())
    with pytest.raises(UserError, match=sentence):
        checkpoint.restore(folder, 2, abstract(), RUN)
    (folder / "2" / "record.json").write_text("{")  # now it is damage, and the search goes on
    assert restore_latest(folder, abstract())[1] == 1


def test_a_checkpoint_without_digests_is_read_in_a_run_of_format_1_only(tmp_path):
    save(tmp_path, 1, make_state(), {})
    record = files.read_json(tmp_path / "1" / "record.json", "")
    del record["digests"]
    (tmp_path / "1" / "record.json").unlink()
    files.write_json(tmp_path / "1" / "record.json", record)
    with pytest.raises(UserError, match="does not say which run wrote it"):
        restore_latest(tmp_path, abstract())
    assert restore_latest(tmp_path, abstract(), run=RUN._replace(format=1))[1] == 1
