"""The card names what is there, whatever the family, the split and the number of sources."""

import numpy as np
import pytest

import make_config
from metastar import registry
from metastar.data import layout, store
from metastar.data.sources import Source
from metastar.envs.make import family_of, spec_of
from metastar.errors import UserError
from metastar.tools.card import card
from metastar.tools.card import figures as card_figures
from metastar.tools.card.summary import MIN_SAMPLE, summarize

POLICIES, STAGES = ("random", "sac", "td3"), ("random", "medium", "expert")
SPLIT = {"train": [0], "test": [1]}
PNG = b"\x89PNG"


def write(folder, family="point_robot_sparse", pairs=((0, 0), (1, 2)), split=SPLIT, empty=()):
    """A data set with an episode for each (policy, stage) of `pairs`; `empty` ones have length 0.

    Args:
        empty: (task, episode) of episodes without a step.
    """
    spec, rng = spec_of(family, "default"), np.random.default_rng(0)
    steps, num = spec.max_episode_steps, sum(map(len, split.values()))
    shape = (num, len(pairs))
    length = np.full(shape, steps)
    for task, episode in empty:
        length[task, episode] = 0
    policy, stage = (np.tile(index, (num, 1)) for index in zip(*pairs))
    fields = {
        "obs": rng.normal(size=(*shape, steps + 1, spec.obs_dim)),
        "action": rng.uniform(-1, 1, (*shape, steps, spec.action_dim)),
        "reward": rng.integers(0, 2, (*shape, steps)),
        "done": np.zeros((*shape, steps)),
        "length": length,
        "policy": policy,
        "stage": stage,
        "collector": np.zeros(shape),
    }
    manifest = store.Manifest(
        family=family,
        env_spec=spec,
        tasks=family_of(family).law["own"](rng, num),
        split=split,
        policies=POLICIES,
        stages=STAGES,
        config=make_config.base().to_dict(),
        versions={},
        files={},
    )
    store.save(folder, manifest, layout.concatenate(fields))
    return folder


QUICK = ("point_robot", "point_robot_sparse", "ant_goal", "hopper_param")


@pytest.mark.parametrize(
    "family",
    [
        pytest.param(name, marks=[] if name in QUICK else [pytest.mark.slow])
        for name in registry.names("family")
    ],
)
def test_inspect_writes_text_and_figures(tmp_path, family):
    path = write(tmp_path / "set", family)
    text = card.inspect(path, tmp_path / "out")
    steps = 4 * spec_of(family, "default").max_episode_steps
    for part in (
        f"2 tasks (1 train, 1 test) x 2 episodes, {steps} transitions",
        "sac expert          1 ",
        "median",
    ):
        assert part in text
    for part in ("2-Wasserstein", "least and largest"):
        assert (part in text) == (steps / 4 >= 2 * MIN_SAMPLE)  # of a source in a task
    assert "td3" not in text and "nan" not in text and "tasks that have both" not in text
    assert ("with reward" in text) == ("sparse" in family)
    assert (tmp_path / "out" / card.TEXT).read_text() in text
    for name in (card.FIGURE, card.COVERAGE):
        assert (tmp_path / "out" / name).read_bytes().startswith(PNG)
    assert len(list((tmp_path / "out").iterdir())) == 3


def test_a_single_source_has_no_distances(tmp_path):
    text = card.inspect(write(tmp_path / "set", pairs=[(0, 0), (0, 0)]), tmp_path)
    assert "cannot be computed: there is only one behaviour" in text
    assert "random          2 " in text and "2-Wasserstein" not in text
    assert (tmp_path / card.COVERAGE).read_bytes().startswith(PNG)


def test_a_task_without_a_source_is_left_out_of_its_pairs(tmp_path):
    pairs = [(0, 0), (1, 1), (1, 2), (2, 1), (2, 2)]
    split = {"train": [0, 1], "test": [2], "ood_extreme": [3]}
    path = write(tmp_path / "set", pairs=pairs, split=split, empty=[(3, 4)])
    text = card.inspect(path, tmp_path).splitlines()
    assert "4 tasks (2 train, 1 test, 1 ood_extreme) x 5 episodes" in text[1]
    row = next(line.split() for line in text if line.startswith("td3 expert"))
    assert row[2] == "0-1"
    found = summarize(store.verify(path).fields, POLICIES, STAGES, window=30)
    assert found.coverage[3, 4] == 0 and row[-1] == f"{found.coverage[:3, 4].mean():.0%}"
    counts = text.index(next(line for line in text if line.startswith("tasks that have both")))
    assert text[counts + 1].split() == ["1", "random", "4", "4", "4", "4", "3"]
    assert text[counts + 5].split() == ["5", "td3", "expert", "3", "3", "3", "3", "3"]
    last = next(line for line in text if line.startswith("   3 ood_extreme")).split()
    assert last[-2] == "-" and last[-1].endswith("%")  # no median, then windows with reward
    assert len(last) == 3 + len(pairs) + 1


def test_sources_that_never_meet_in_a_task(tmp_path):
    path = write(tmp_path / "set", empty=[(0, 0), (1, 1)])
    assert "no task has two sources with 32 transitions" in card.inspect(path, tmp_path)


def test_colors_show_policy_by_hue_and_stage_by_depth():
    found = [Source("", p, s) for p, s in ((0, 0), (1, 1), (1, 2), (7, 0))]
    random, medium, expert, seventh = card_figures.source_colors(found)
    assert len({random, medium, expert}) == 3 and sum(medium) > sum(expert)
    assert seventh == card_figures.source_colors([Source("", 1, 0)])[0]  # hues start again


def test_verify_is_one_sentence_and_finds_damage(tmp_path):
    path = write(tmp_path / "set")
    sentence = card.verify(path)
    assert "every SHA-256 agrees" in sentence and "240 transitions" in sentence
    assert "\n" not in sentence
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write the data card"):
        card.inspect(path, tmp_path / "file")
    content = bytearray((path / "reward.npy").read_bytes())
    content[-1] ^= 1
    (path / "reward.npy").write_bytes(content)
    for read in (card.verify, lambda p: card.inspect(p, tmp_path / "out")):
        with pytest.raises(UserError, match=r"reward\.npy is damaged"):
            read(path)
