"""Your own recordings: what is saved is what is loaded, and what cannot be is one sentence."""

import numpy as np
import pytest

import make_config
from metastar.collection import collect
from metastar.data import layout, store
from metastar.data.own import Episode, save
from metastar.errors import UserError
from metastar.types import EnvSpec

SPEC = EnvSpec("point_robot", obs_dim=2, action_dim=2, max_episode_steps=60)
GOALS = np.array([[0.1, 1 / 3], [0.5, -1.0], [2.0, 0.0], [-0.2, 0.7]])


def episode(steps, seed=0, **changes):
    rng = np.random.default_rng(seed)
    arrays = {
        "obs": rng.normal(size=(steps + 1, 2)),
        "action": rng.uniform(-1, 1, (steps, 2)),
        "reward": rng.normal(size=steps),
    }
    return Episode(**arrays | changes)


def episodes():
    """Ragged episodes, some of them by a pilot."""
    lengths = [[3, 60], [1], [5, 2, 4], [7]]
    return [
        [episode(n, seed=n, policy="pilot" if n > 4 else "random") for n in of] for of in lengths
    ]


def saved(path, **changes):
    given = {"spec": SPEC, "tasks": {"goal": GOALS}, "episodes": episodes(), "test": [1]}
    save(path, **given | changes)
    return store.verify(path)


def test_what_was_saved_is_found_in_order_and_full_precision(tmp_path):
    _, manifest, fields = saved(tmp_path / "set", source="a field trip")
    np.testing.assert_array_equal(manifest.tasks["goal"], GOALS)
    assert manifest.split == {"train": [0, 2, 3], "test": [1]}
    assert manifest.policies == manifest.stages == ("pilot", "random")
    assert (manifest.origin, manifest.source) == ("metastar.data.own", "a field trip")
    for n, of_task in enumerate(episodes()):
        for e, one in enumerate(of_task):
            obs, reward = layout.episode_of(fields, n, e)
            np.testing.assert_array_equal(obs, one.obs.astype(np.float32))
            np.testing.assert_array_equal(reward, one.reward.astype(np.float32))
    np.testing.assert_array_equal(fields["policy"], [1, 0, 1, 0, 1, 1, 0])
    np.testing.assert_array_equal(fields["collector"], [0, 0, 1, 2, 2, 2, 3])
    assert not fields["done"].any()


def test_terminals_and_stages_are_kept(tmp_path):
    ended = [*episodes()[:3], [episode(3, done=[0, 0, 1], policy="pilot", stage="expert")]]
    spec = SPEC._replace(done_ends_episode=True)
    _, manifest, fields = saved(tmp_path / "set", episodes=ended, spec=spec, test=np.array([1]))
    assert fields["done"].nonzero()[0].tolist() == [len(fields["done"]) - 1]
    assert manifest.stages == ("expert", "pilot", "random")


def with_last(one):
    return [*episodes()[:3], [one]]


ENDING = SPEC._replace(done_ends_episode=True)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"spec": None}, "spec is of type NoneType"),
        ({"spec": SPEC._replace(obs_dim=0)}, "obs_dim=0"),
        ({"spec": SPEC._replace(max_episode_steps=60.0)}, "max_episode_steps=60.0"),
        ({"spec": SPEC._replace(name="my data")}, "name='my data'"),
        ({"tasks": GOALS}, "tasks must map names"),
        ({"tasks": {}}, "tasks must map names"),
        ({"tasks": {"goal": GOALS[:3]}}, "shape .3, 2., but there are episodes of 4 tasks"),
        ({"tasks": {"goal": GOALS * np.nan}}, "holds nan"),
        ({"tasks": {"goal": ["a", "b", "c", "d"]}}, "no array of numbers"),
        ({"episodes": None}, "a list of episodes for each task"),
        ({"episodes": np.zeros((4, 2))}, "a list of episodes for each task"),
        ({"episodes": [*episodes()[:3], []]}, "task 3 has no episode"),
        ({"episodes": with_last({"obs": 1})}, "task 3, episode 0 is of type dict"),
        ({"episodes": with_last(episode(61))}, "reward has shape .61,., .* 1 to 60 steps"),
        ({"episodes": with_last(episode(3, reward=[]))}, "reward has shape .0,."),
        ({"episodes": with_last(episode(3, reward=np.zeros(2)))}, "obs has shape .4, 2.,"),
        ({"episodes": with_last(episode(3, obs=np.zeros((3, 2))))}, "obs has shape .3, 2.,"),
        ({"episodes": with_last(episode(3, obs=np.zeros((4, 3))))}, "obs has shape .4, 3.,"),
        ({"episodes": with_last(episode(3, obs=np.full((4, 2), np.nan)))}, "obs holds nan"),
        ({"episodes": with_last(episode(3, action=np.zeros((4, 2))))}, "action has shape"),
        ({"episodes": with_last(episode(3, action=np.full((3, 2), 2.0)))}, "leaves .-1, 1. at st"),
        ({"episodes": with_last(episode(3, done=[0, 2, 0]))}, "done may hold True and False only"),
        ({"episodes": with_last(episode(3, done=[0]))}, "done has shape"),
        (
            {"episodes": with_last(episode(3, done=[1, 0, 0])), "spec": ENDING},
            "True at step 0 of 3",
        ),
        ({"episodes": with_last(episode(3, policy="a,b"))}, "policy is 'a,b'"),
        ({"episodes": with_last(episode(3, stage=3))}, "stage 3;"),
        ({"test": []}, "at least one of the tasks 0 to 3"),
        ({"test": [4]}, "at least one of the tasks 0 to 3"),
        ({"test": [-1]}, "at least one of the tasks 0 to 3"),
        ({"test": [1, 1]}, "none twice"),
        ({"test": [True]}, "at least one of the tasks 0 to 3"),
        ({"test": "01"}, "at least one of the tasks 0 to 3"),
        ({"test": [[1], [1, 2]]}, "at least one of the tasks 0 to 3"),
        ({"test": np.array(1)}, "at least one of the tasks 0 to 3"),
        ({"test": None}, "at least one of the tasks 0 to 3"),
        ({"test": [0, 1, 2]}, "leaves 1 tasks for training"),
        ({"source": 5}, "source is 5"),
    ],
)
def test_what_is_no_data_set_is_refused_and_nothing_is_written(tmp_path, changes, message):
    with pytest.raises(UserError, match=message) as error:
        saved(tmp_path / "set", **changes)
    assert "\n" not in str(error.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("path", [None, 5, b"set", "", "a\0b"])
def test_what_is_no_folder_is_refused(path):
    with pytest.raises(UserError, match=r"must be given as text or a pathlib.Path"):
        saved(path)


def test_a_folder_in_use_is_left_as_it_is(tmp_path):
    (tmp_path / "note").write_text("mine")
    with pytest.raises(UserError, match="cannot write the data set"):
        saved(tmp_path)
    assert (tmp_path / "note").read_text() == "mine"


def config_of(path, **changes):
    values = {"data__train_tasks": 3, "data__test_tasks": 1, "data__dir": str(path)}
    return make_config.base(family="point_robot", **values | changes)


def test_a_run_takes_own_data_whatever_its_config_says_of_collecting(tmp_path):
    saved(tmp_path / "set")
    cfg = config_of(tmp_path / "set", collect__behavior="random")
    tasks = store.tasks_of(collect.data_set(cfg), cfg)
    assert tasks.train.count.tolist() == [63, 11, 7] and tasks.heldout.count.tolist() == [1]


def test_a_run_of_another_number_of_tasks_or_other_sizes_is_refused(tmp_path):
    saved(tmp_path / "set")
    with pytest.raises(UserError, match=r"data.train_tasks=3, but the config has 30"):
        collect.data_set(config_of(tmp_path / "set", data__train_tasks=30))
    with pytest.raises(UserError, match=r"data.test_tasks=1, but the config has 10"):
        collect.data_set(config_of(tmp_path / "set", data__test_tasks=10))
    saved(tmp_path / "long", spec=SPEC._replace(max_episode_steps=99))
    with pytest.raises(UserError, match="max_episode_steps=99, but family 'point_robot' has 60"):
        collect.data_set(config_of(tmp_path / "long"))


def test_data_of_a_family_that_draws_no_tasks_are_never_made(tmp_path, monkeypatch):
    family = collect.family_of("point_robot")._replace(law={})
    monkeypatch.setattr(collect, "family_of", lambda name, profile: family)
    with pytest.raises(UserError, match="no law to draw tasks from, so that no data can be made"):
        collect.data_set(config_of(tmp_path / "mistyped"))
    assert not (tmp_path / "mistyped").exists()
