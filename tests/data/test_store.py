"""A stored data set comes back as it was, or the reader says in one sentence what is wrong."""

import hashlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import make_config
from metastar import files
from metastar.data import checks, choose, layout, store
from metastar.data.sampler import sample_transitions
from metastar.errors import UserError
from metastar.tools.card import card
from metastar.types import Context, EnvSpec

TASKS, EPISODES, STEPS = 5, 3, 60


def make_blocks():
    """obs tells task, episode and step apart; episodes are ragged."""
    rng = np.random.default_rng(0)
    shape = (TASKS, EPISODES, STEPS)
    obs = np.indices((TASKS, EPISODES, STEPS + 1)).astype(float)
    return {
        "obs": np.stack([10 * obs[0] + obs[1], obs[2]], -1),
        "action": rng.uniform(-1, 1, (*shape, 2)),
        "reward": rng.normal(size=shape),
        "done": np.zeros(shape),
        "length": rng.integers(1, STEPS + 1, shape[:2]),
        "policy": np.broadcast_to([0, 1, 1], shape[:2]),
        "stage": np.broadcast_to([0, 1, 2], shape[:2]),
        "collector": np.broadcast_to(np.arange(TASKS)[:, None], shape[:2]),
    }


def make_fields():
    return layout.concatenate(make_blocks())


def make_manifest():
    return store.Manifest(
        family="point_robot",
        env_spec=EnvSpec("point_robot", 2, 2, STEPS),
        tasks={"goal": np.random.default_rng(1).uniform(-1, 1, (TASKS, 2))},
        split={"train": [0, 1, 2], "test": [3, 4]},
        policies=("random", "sac"),
        stages=("random", "medium", "expert"),
        config=make_config.base().to_dict(),
        versions={"jax": "0"},
        files={},
    )


def make_cfg(**data):
    cfg = make_config.base()
    cfg.family = "point_robot"
    cfg.data.update(data)
    return cfg


@pytest.fixture
def path(tmp_path):
    store.save(tmp_path / "set", make_manifest(), make_fields())
    return tmp_path / "set"


def test_round_trip_in_full_precision(path):
    _, manifest, fields = store.verify(path)
    for name, value in make_fields().items():
        np.testing.assert_array_equal(fields[name], value.astype(layout.FIELDS[name][0]))
    assert manifest.tasks["goal"].dtype == np.float64
    np.testing.assert_array_equal(manifest.tasks["goal"], make_manifest().tasks["goal"])
    assert (manifest.policies, manifest.stages) == (("random", "sac"), make_manifest().stages)
    assert set(manifest.files) == set(layout.FIELDS)
    assert manifest.config["agent"]["conservative"]["hidden"] == [128, 128]
    assert sorted(p.name for p in path.parent.iterdir()) == ["set"]


def test_the_same_data_are_the_same_bytes(path, tmp_path):
    store.save(tmp_path / "again", make_manifest(), make_fields())
    for file in path.iterdir():
        assert file.read_bytes() == (tmp_path / "again" / file.name).read_bytes()


def test_load_gives_one_side_of_the_split_and_a_ragged_table(path):
    train, test = (store.load(store.verify(path), side, make_cfg()) for side in ("train", "test"))
    np.testing.assert_array_equal(train.obs[:, 0, 0], [0, 10, 20])
    np.testing.assert_array_equal(test.obs[:, 0, 0], [30, 40])
    np.testing.assert_allclose(test.task["goal"], make_manifest().tasks["goal"][3:], rtol=1e-6)
    length = make_blocks()["length"]
    for n in range(3):
        steps = [(e, t) for e in range(EPISODES) for t in range(length[n, e])]
        assert train.count[n] == len(steps)
        np.testing.assert_array_equal(train.index[n, : len(steps)], np.arange(len(steps)))
        assert (train.index[n, len(steps) :] == 0).all()
        found = np.stack([train.episode[n], train.step[n]], -1)[: len(steps)]
        np.testing.assert_array_equal(found, steps)
        # Every episode has one more observation than steps, and nothing is between two episodes.
        seen = [(10 * n + e, t) for e in range(EPISODES) for t in range(length[n, e] + 1)]
        np.testing.assert_array_equal(train.obs[n, : len(seen)], seen)
    assert train.reward.shape == (3, length[:3].sum(1).max())
    assert len(store.load(store.verify(path), "all", make_cfg()).obs) == TASKS


def test_validation_tasks_take_the_place_of_the_test_tasks(path):
    cfg = make_cfg(validation_tasks=1)
    split = choose.split_ids(store.read_manifest(path), cfg)
    assert split == {"train": [0, 1], "test": [2]}
    np.testing.assert_array_equal(
        store.load(store.verify(path), "train", cfg).obs[:, 0, 0], [0, 10]
    )
    np.testing.assert_array_equal(store.load(store.verify(path), "test", cfg).obs[:, 0, 0], [20])
    np.testing.assert_array_equal(
        store.load(store.verify(path), "all", cfg).obs[:, 0, 0], [0, 10, 20]
    )
    with pytest.raises(UserError, match="at most 2"):
        store.load(store.verify(path), "train", make_cfg(validation_tasks=3))


def test_the_outermost_tasks_can_be_withheld(path):
    manifest = store.read_manifest(path)
    manifest = manifest._replace(
        tasks={"goal": np.array([[9.0, 0], [0, 0], [1, 0], [99, 0], [0, 0]])}
    )
    cfg = make_cfg(validation_tasks=1, validation_choice="outermost")
    assert choose.split_ids(manifest, cfg) == {"train": [1, 2], "test": [0]}
    cfg = make_cfg(validation_choice="outermost")
    assert choose.split_ids(manifest, cfg) == choose.split_ids(manifest, make_cfg())


@pytest.mark.parametrize(
    "num, withheld", [(1, [2]), (2, [1, 3]), (3, [0, 2, 4]), (4, [0, 1, 3, 4])]
)
def test_tasks_spread_over_all_can_be_withheld(path, num, withheld):
    manifest = store.read_manifest(path)._replace(split={"train": list(range(5))})
    cfg = make_cfg(validation_tasks=num, validation_choice="spread")
    left = [n for n in range(5) if n not in withheld]
    assert choose.split_ids(manifest, cfg) == {"train": left, "test": withheld}


def test_restrict_draws_from_one_source_only(path):
    data = store.load(store.verify(path), "train", make_cfg())
    medium = store.restrict(data, 1, 1)
    assert jax.tree.map(jnp.shape, medium) == jax.tree.map(jnp.shape, data)
    for name in set(data._fields) - {"visible", "index", "count"}:
        assert getattr(medium, name) is getattr(data, name)
    np.testing.assert_array_equal(medium.count, make_blocks()["length"][:3, 1])
    view = sample_transitions(medium, jnp.arange(3), jax.random.key(0), 50)
    np.testing.assert_array_equal(view.obs[..., 0] % 10, 1)
    assert (store.restrict(data, 1, 0).count == 0).all()  # no episode of sac is random


@pytest.mark.parametrize(
    ("fields", "episodes"),
    [
        ({}, [0, 1, 2]),
        ({"policies": "sac"}, [1, 2]),
        ({"policies": "random, sac", "stages": "random,expert"}, [0, 2]),
        ({"stages": "medium"}, [1]),
    ],
)
def test_draws_see_the_policies_and_stages_asked_for(path, fields, episodes):
    data = store.load(store.verify(path), "train", make_cfg(**fields))
    np.testing.assert_array_equal(data.count, make_blocks()["length"][:3, episodes].sum(1))
    view = sample_transitions(data, jnp.arange(3), jax.random.key(0), 300)
    assert set(np.unique(view.obs[..., 0] % 10)) == set(episodes)
    spec = store.data_spec(store.read_manifest(path), data)
    assert spec.num_behaviors == len(episodes)  # each is of a pair of its own
    assert spec.obs_mean[0] % 10 == pytest.approx(
        np.average(
            np.tile(episodes, 3) + np.repeat([0, 10, 20], len(episodes)),
            weights=make_blocks()["length"][:3, episodes].ravel(),
        )
        % 10,
        abs=1e-4,
    )


@pytest.mark.parametrize(("fraction", "kept"), [(0.5, [1]), (0.34, [2]), (0.67, [1, 2])])
def test_a_fraction_thins_training_tasks_alone(path, fraction, kept):
    data, cfg = store.verify(path), make_cfg(fraction=fraction)
    length = make_blocks()["length"]
    train, test = (store.load(data, side, cfg) for side in ("train", "test"))
    np.testing.assert_array_equal(
        train.visible, np.isin(np.arange(EPISODES), kept)[None].repeat(3, 0)
    )
    np.testing.assert_array_equal(train.count, length[:3][:, kept].sum(1))
    np.testing.assert_array_equal(test.count, length[3:].sum(1))
    both = make_cfg(fraction=0.5, policies="sac")  # the second of the two
    np.testing.assert_array_equal(store.load(data, "train", both).count, length[:3, 2])


def test_a_fraction_must_leave_every_task_a_window(path):
    data = store.verify(path)
    with pytest.raises(UserError, match=r"task 0 in .*data.fraction ask for"):
        store.load(data, "train", make_cfg(fraction=0.3))
    train, least = (
        store.load(data, "train", make_cfg(fraction=0.5)),
        make_blocks()["length"][:3, 1],
    )
    choose.expect_windows(train, Context(least.min()), make_cfg(fraction=0.5))
    bag = Context(least.min() + 1, ordered=False)
    choose.expect_windows(train, bag, make_cfg(fraction=0.5))
    with pytest.raises(UserError, match=f"leaves {least.min()} transitions of training task"):
        choose.expect_windows(train, Context(least.min() + 1), make_cfg(fraction=0.5))
    choose.expect_windows(train, Context(least.min() + 1), make_cfg())  # all of a short task


def test_cross_task_episodes_are_never_drawn_unless_asked_for(tmp_path):
    manifest = make_manifest()._replace(policies=("random", choose.CROSS_TASK))
    store.save(tmp_path / "set", manifest, make_fields())
    length = make_blocks()["length"][:3]
    train = store.load(store.verify(tmp_path / "set"), "train", make_cfg())
    np.testing.assert_array_equal(train.count, length[:, 0])
    asked = store.load(
        store.verify(tmp_path / "set"), "train", make_cfg(policies=choose.CROSS_TASK)
    )
    np.testing.assert_array_equal(asked.count, length[:, 1:].sum(1))


def test_policies_stages_and_splits_that_are_not_there_are_named(path):
    with pytest.raises(UserError, match="has no split 'tets'; did you mean 'test'"):
        store.load(store.verify(path), "tets", make_cfg())
    with pytest.raises(UserError, match="has no split 'ood_moderate'; known are all, test, train"):
        store.load(store.verify(path), "ood_moderate", make_cfg())
    with pytest.raises(UserError, match="has no policy 'sacc'; did you mean 'sac'"):
        store.load(store.verify(path), "train", make_cfg(policies="random,sacc"))
    with pytest.raises(UserError, match="has no stage 'export'; did you mean 'expert'"):
        store.load(store.verify(path), "train", make_cfg(stages="export"))
    with pytest.raises(UserError, match=r"task 0 in .* has no episode of the policies and stages"):
        store.load(store.verify(path), "train", make_cfg(policies="random", stages="expert"))


def test_data_spec_takes_valid_steps_only(path):
    data = store.load(store.verify(path), "train", make_cfg())
    spec = store.data_spec(store.read_manifest(path), data)
    length = make_blocks()["length"][:3]
    steps = np.concatenate([np.arange(n) for n in length.ravel()])
    np.testing.assert_allclose(spec.obs_mean[1], steps.mean(), rtol=1e-6)
    np.testing.assert_allclose(spec.obs_std[1], steps.std(), rtol=1e-6)
    assert (spec.family, spec.obs_dim, spec.action_dim, spec.task_dim) == ("point_robot", 2, 2, 2)
    assert (spec.num_tasks, spec.max_episode_steps) == (3, STEPS)
    assert hash(spec) == hash(spec._replace())
    constant = data._replace(obs=jnp.ones_like(data.obs))
    assert store.data_spec(store.read_manifest(path), constant).obs_std == (1.0, 1.0)


def flip_byte(file):
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


@pytest.mark.parametrize("name", [*(f"{field}.npy" for field in layout.FIELDS), store.MANIFEST])
def test_a_flipped_byte_is_found_in_every_file(path, name):
    flip_byte(path / name)
    with pytest.raises(UserError, match=r"damaged|unreadable"):
        store.load(store.verify(path), "train", make_cfg())


def test_missing_pieces_and_other_families_are_named(path, tmp_path):
    with pytest.raises(UserError, match=r"manifest\.json is missing"):
        store.load(store.verify(tmp_path / "nothing"), "train", make_cfg())
    with pytest.raises(UserError, match=r"family 'point_robot', but .*'point_robot_sparse'"):
        store.load(store.verify(path), "train", make_config.base())
    (path / "reward.npy").unlink()
    with pytest.raises(UserError, match="no field 'reward'"):
        store.load(store.verify(path), "train", make_cfg())
    files.write_json(path / store.MANIFEST, {"family": "point_robot"})
    with pytest.raises(UserError, match="is not the manifest of a data set"):
        store.read_manifest(path)


def broken(name, index, value):
    def change(fields):
        fields[name] = np.array(fields[name])
        fields[name][index] = value

    return change


def cut(name):
    def change(fields):
        fields[name] = fields[name][1:]

    return change


def no_episodes(fields):
    for name in fields:
        fields[name] = fields[name][:0]
    fields["episodes"] = np.zeros(TASKS)


def last_task_without_steps(fields):
    num = fields["length"][-EPISODES:].sum()
    fields["length"] = np.append(fields["length"][:-EPISODES], [0] * EPISODES)
    for name in ("obs", "action", "reward", "done"):
        fields[name] = fields[name][:-num]


STEP = make_blocks()["length"].sum(1).cumsum()  # the first transition of the task after each
TOTAL = STEP[-1]
BROKEN = {
    "nan": (broken("reward", STEP[1], np.nan), "reward .* NaN .* task 2"),
    "nan at an end": (broken("reward", STEP[1] - 1, np.nan), "reward .* NaN .* task 1"),
    "infinity": (broken("obs", (STEP[0] + EPISODES, 0), np.inf), "obs .* infinity, in task 1"),
    "shape": (cut("reward"), rf"reward .* \({TOTAL - 1},\), but float32 \({TOTAL},\)"),
    "obs shape": (cut("obs"), rf"obs .* but float32 \({TOTAL + TASKS * EPISODES}, 2\)"),
    "action": (broken("action", (STEP[3], 0), 1.5), r"action .* leaves \[-1, 1\] in task 4"),
    "length": (broken("length", 4, 61), r"length .* leaves \[0, 60\] in task 1"),
    "policy": (broken("policy", 0, 2), r"policy .* leaves \[0, 1\] in task 0"),
    "stage": (broken("stage", 14, -1), r"stage .* leaves \[0, 2\] in task 4"),
    "collector": (broken("collector", 0, 5), r"collector .* leaves \[0, 4\]"),
    "episodes": (broken("episodes", 1, -1), r"episodes .* leaves \[0, .*\] in task 1"),
    "more episodes": (broken("episodes", 1, 4), r"length .* \(15,\), but int32 \(16,\)"),
    "next_obs shape": (
        lambda fields: fields.update(next_obs=fields["obs"]),
        rf"next_obs .* but float32 \({TOTAL}, 2\)",
    ),
    "empty task": (last_task_without_steps, "task 4 .* has no episode"),
    "empty set": (no_episodes, "task 0 .* has no episode"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_bad_content_is_refused_at_writing_and_at_reading(case, tmp_path, monkeypatch):
    change, sentence = BROKEN[case]
    fields = make_fields()
    change(fields)
    with pytest.raises(UserError, match=sentence):
        store.save(tmp_path / "set", make_manifest(), fields)
    assert not list(tmp_path.iterdir())
    with monkeypatch.context() as unchecked:
        unchecked.setattr(checks, "check", lambda *_: None)
        store.save(tmp_path / "set", make_manifest(), fields)
    with pytest.raises(UserError, match=sentence) as error:
        store.load(store.verify(tmp_path / "set"), "train", make_cfg())
    assert "\n" not in str(error.value)


def test_a_split_names_each_task_once(tmp_path):
    for split in ({"train": [0, 1], "test": [3, 4]}, {"train": [], "test": [0, 1, 2, 3, 4]}):
        with pytest.raises(UserError, match="exactly once"):
            store.save(tmp_path / "set", make_manifest()._replace(split=split), make_fields())


def test_nothing_is_overwritten(path):
    before = (path / store.MANIFEST).read_bytes()
    with pytest.raises(UserError, match="cannot write"):
        store.save(path, make_manifest(), make_fields())
    assert (path / store.MANIFEST).read_bytes() == before


FOREIGN = EnvSpec("swimming_fish", obs_dim=3, action_dim=1, max_episode_steps=9)


def foreign_set(path, num_tasks=3, **changes):
    """Imported data of a family that nobody registered; tasks have 1, 2, ... episodes."""
    rng, episodes = np.random.default_rng(0), np.arange(1, num_tasks + 1)
    length = rng.integers(1, 10, episodes.sum())
    num = length.sum()
    fields = {
        "obs": rng.normal(size=(num + len(length), 3)),
        "next_obs": rng.normal(size=(num, 3)),
        "action": rng.uniform(-1, 1, (num, 1)),
        "reward": rng.normal(size=num),
        "done": np.zeros(num, bool),
        "length": length,
        "policy": np.zeros(len(length)),
        "stage": np.zeros(len(length)),
        "collector": np.zeros(len(length)),
        "episodes": episodes,
    }
    manifest = store.Manifest(
        family=FOREIGN.name,
        env_spec=FOREIGN,
        tasks={"depth": np.linspace(1, 2, num_tasks)},
        split={"train": list(range(num_tasks - 1)), "test": [num_tasks - 1]},
        policies=("unknown",),
        stages=("unknown",),
        config={},
        versions={"fish": "1.2"},
        files={},
        origin="import fish",
        source="https://example.org/fish",
    )
    store.save(path, manifest._replace(**changes), fields)
    return fields


def test_imported_data_of_an_unknown_family_describe_themselves(tmp_path):
    fields = foreign_set(tmp_path / "set")
    path, manifest, found = store.verify(tmp_path / "set")
    assert manifest.env_spec == FOREIGN and manifest.source == "https://example.org/fish"
    assert manifest.origin == "import fish" and manifest.format == 3
    data = layout.on_device(found, manifest.tasks)
    assert data.length.shape == (3, 3) and data.policy.shape == (3, 3)
    np.testing.assert_array_equal((data.length > 0).sum(1), [1, 2, 3])
    view = sample_transitions(data, jnp.arange(3), jax.random.key(0), 20)
    start = layout.offsets(fields).step
    for n in range(3):
        own = fields["next_obs"][start[n] : start[n + 1]].astype(np.float32)
        assert np.isin(np.asarray(view.next_obs[n]), own).all()  # the stored ones
    assert "3 tasks of swimming_fish x 1-3 episodes" in card.verify(path)
    text = card.inspect(path, tmp_path / "card")
    assert "made by import fish, from https://example.org/fish" in text and "depth" in text


def test_tasks_whose_parameters_are_not_known(tmp_path):
    foreign_set(tmp_path / "set", tasks={})
    path, manifest, fields = store.verify(tmp_path / "set")
    assert manifest.tasks == {} and layout.on_device(fields, {}).task == {}
    assert "task 0" not in card.inspect(path, tmp_path / "card").splitlines()[0]
    with pytest.raises(UserError, match="exactly once"):
        foreign_set(tmp_path / "other", tasks={}, split={"train": [0, 1]})


def test_two_sets_of_other_tasks_merge_by_concatenation(tmp_path):
    a, b = foreign_set(tmp_path / "a"), foreign_set(tmp_path / "b", num_tasks=2)
    both = layout.on_device({k: np.concatenate([a[k], b[k]]) for k in a}, {})
    for part, rows in ((a, slice(0, 3)), (b, slice(3, 5))):
        alone = layout.on_device(part, {})
        for name in set(alone._fields) - {"task", "index"}:
            x, y = np.asarray(getattr(alone, name)), np.asarray(getattr(both, name))[rows]
            y = y[tuple(slice(0, size) for size in x.shape)]
            np.testing.assert_array_equal(x, y, err_msg=name)


def as_old(path, number):
    """Rewrites the data set of `path` as formats 1 and 2 had it: equal blocks, no sizes."""
    blocks, manifest = make_blocks(), files.read_json(path / store.MANIFEST, "")
    for name in ("env_spec", "origin", "source", "config_format", "format"):
        del manifest[name]
    stored = manifest["files"]
    (path / "episodes.npy").unlink()
    del stored["episodes"]
    for name, (dtype, _) in layout.BLOCKS.items():
        file = path / f"{name}.npy"
        np.save(file, blocks[name].astype(dtype))
        stored[name]["sha256"] = hashlib.sha256(file.read_bytes()).hexdigest()
    files.write_json(path / store.MANIFEST, manifest if number == 1 else {**manifest, "format": 2})


@pytest.mark.parametrize("number", [1, 2])
def test_the_formats_before_are_read_as_the_same_data(path, number):
    new = store.load(store.verify(path), "train", make_cfg())
    as_old(path, number)
    found = store.verify(path)
    assert found.manifest.format == found.manifest.config_format == number
    assert found.manifest.env_spec.max_episode_steps == STEPS
    jax.tree.map(np.testing.assert_array_equal, store.load(found, "train", make_cfg()), new)
    reward = np.load(path / "reward.npy")
    np.save(path / "reward.npy", reward[:, :, 1:])
    with pytest.raises(UserError, match="damaged"):
        store.verify(path)
    manifest = files.read_json(path / store.MANIFEST, "")
    digest = hashlib.sha256((path / "reward.npy").read_bytes()).hexdigest()
    manifest["files"]["reward"]["sha256"] = digest
    files.write_json(path / store.MANIFEST, manifest)
    with pytest.raises(UserError, match=r"reward .* \(5, 3, 59\), but float32 \(5, 3, 60\)"):
        store.verify(path)


@pytest.mark.parametrize(
    ("number", "sentence"),
    [
        (4, "is of format 4, but this version knows formats up to 3 only; use the version"),
        (0, "is not the manifest of a data set"),
        ("3", "is not the manifest of a data set"),
    ],
)
def test_an_unknown_format_is_refused_in_one_sentence(path, number, sentence):
    manifest = files.read_json(path / store.MANIFEST, "")
    files.write_json(path / store.MANIFEST, {**manifest, "format": number, "new_key": 1})
    with pytest.raises(UserError, match=sentence) as error:
        store.verify(path)
    assert "\n" not in str(error.value)
