"""A stored data set comes back as it was, or the reader says in one sentence what is wrong."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import make_config
from metastar import files
from metastar.data import checks, store
from metastar.data.sampler import sample_transitions
from metastar.errors import UserError

TASKS, EPISODES, STEPS = 5, 3, 60


def make_fields():
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


def make_manifest():
    return store.Manifest(
        family="point_robot",
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
        np.testing.assert_array_equal(fields[name], value.astype(checks.FIELDS[name][0]))
    assert manifest.tasks["goal"].dtype == np.float64
    np.testing.assert_array_equal(manifest.tasks["goal"], make_manifest().tasks["goal"])
    assert (manifest.policies, manifest.stages) == (("random", "sac"), make_manifest().stages)
    assert set(manifest.files) == set(checks.FIELDS)
    assert manifest.config["agent"]["conservative"]["hidden"] == [128, 128]
    assert sorted(p.name for p in path.parent.iterdir()) == ["set"]


def test_the_same_data_are_the_same_bytes(path, tmp_path):
    store.save(tmp_path / "again", make_manifest(), make_fields())
    for file in path.iterdir():
        assert file.read_bytes() == (tmp_path / "again" / file.name).read_bytes()


def test_load_gives_one_side_of_the_split_and_a_ragged_table(path):
    train, test = (store.load(store.verify(path), side, make_cfg()) for side in ("train", "test"))
    np.testing.assert_array_equal(train.obs[:, 0, 0, 0], [0, 10, 20])
    np.testing.assert_array_equal(test.obs[:, 0, 0, 0], [30, 40])
    np.testing.assert_allclose(test.task["goal"], make_manifest().tasks["goal"][3:], rtol=1e-6)
    length = make_fields()["length"]
    for n in range(3):
        ids = [e * STEPS + t for e in range(EPISODES) for t in range(length[n, e])]
        assert train.count[n] == len(ids)
        np.testing.assert_array_equal(train.flat[n, : len(ids)], ids)
        assert (train.flat[n, len(ids) :] == 0).all()
    assert len(store.load(store.verify(path), "all", make_cfg()).obs) == TASKS


def test_validation_tasks_take_the_place_of_the_test_tasks(path):
    cfg = make_cfg(validation_tasks=1)
    split = store.split_ids(store.read_manifest(path), cfg)
    assert split == {"train": [0, 1], "test": [2]}
    np.testing.assert_array_equal(
        store.load(store.verify(path), "train", cfg).obs[:, 0, 0, 0], [0, 10]
    )
    np.testing.assert_array_equal(store.load(store.verify(path), "test", cfg).obs[:, 0, 0, 0], [20])
    np.testing.assert_array_equal(
        store.load(store.verify(path), "all", cfg).obs[:, 0, 0, 0], [0, 10, 20]
    )
    with pytest.raises(UserError, match="at most 2"):
        store.load(store.verify(path), "train", make_cfg(validation_tasks=3))


def test_restrict_draws_from_one_source_only(path):
    data = store.load(store.verify(path), "train", make_cfg())
    medium = store.restrict(data, 1, 1)
    assert jax.tree.map(jnp.shape, medium) == jax.tree.map(jnp.shape, data)
    np.testing.assert_array_equal(medium.count, make_fields()["length"][:3, 1])
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
    np.testing.assert_array_equal(data.count, make_fields()["length"][:3, episodes].sum(1))
    view = sample_transitions(data, jnp.arange(3), jax.random.key(0), 300)
    assert set(np.unique(view.obs[..., 0] % 10)) == set(episodes)
    spec = store.data_spec(store.read_manifest(path), data)
    assert spec.num_behaviors == len(episodes)  # each is of a pair of its own
    assert spec.obs_mean[0] % 10 == pytest.approx(
        np.average(
            np.tile(episodes, 3) + np.repeat([0, 10, 20], len(episodes)),
            weights=make_fields()["length"][:3, episodes].ravel(),
        )
        % 10,
        abs=1e-4,
    )


def test_cross_task_episodes_are_never_drawn_unless_asked_for(tmp_path):
    manifest = make_manifest()._replace(policies=("random", store.CROSS_TASK))
    store.save(tmp_path / "set", manifest, make_fields())
    length = make_fields()["length"][:3]
    train = store.load(store.verify(tmp_path / "set"), "train", make_cfg())
    np.testing.assert_array_equal(train.count, length[:, 0])
    asked = store.load(store.verify(tmp_path / "set"), "train", make_cfg(policies=store.CROSS_TASK))
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
    length = make_fields()["length"][:3]
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


@pytest.mark.parametrize("name", [*(f"{field}.npy" for field in checks.FIELDS), store.MANIFEST])
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
        fields[name] = fields[name][:, :, 1:]

    return change


def no_episodes(fields):
    for name in fields:
        fields[name] = fields[name][:, :0]


BROKEN = {
    "nan": (broken("reward", (2, 0, 0), np.nan), "reward .* NaN .* task 2"),
    "infinity": (broken("obs", (1, 0, 0), np.inf), "obs .* infinity, in task 1"),
    "shape": (cut("reward"), r"reward .* \(5, 3, 59\), but float32 \(5, 3, 60\)"),
    "obs shape": (cut("obs"), r"obs .* \(5, 3, 60, 2\), but float32 \(5, 3, 61, 2\)"),
    "action": (broken("action", (4, 0, 0, 0), 1.5), r"action .* leaves \[-1, 1\] in task 4"),
    "length": (broken("length", (0, 0), 61), r"length .* leaves \[0, 60\] in task 0"),
    "policy": (broken("policy", (0, 0), 2), r"policy .* leaves \[0, 1\]"),
    "stage": (broken("stage", (0, 0), -1), r"stage .* leaves \[0, 2\]"),
    "collector": (broken("collector", (0, 0), 5), r"collector .* leaves \[0, 4\]"),
    "empty task": (broken("length", 3, 0), "task 3 .* has no episode"),
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
