"""The card counts what is there: worked by hand on a data set of two episodes per task."""

import numpy as np
import pytest

from metastar.config import base
from metastar.data import card, store
from metastar.errors import UserError

STEPS = 60


def make_fields():
    """Task 0 never earns; task 1 earns once, at step 30 of its first episode."""
    obs = np.zeros((2, 2, STEPS + 1, 2))
    obs[..., 0] = np.arange(STEPS + 1) / (STEPS - 1)  # valid steps span [0, 1]
    obs[:, 1, :, 1] = 1
    reward = np.zeros((2, 2, STEPS))
    reward[1, 0, 30] = 1
    return {
        "obs": obs,
        "action": np.zeros((2, 2, STEPS, 2)),
        "reward": reward,
        "done": np.zeros((2, 2, STEPS)),
        "length": np.full((2, 2), STEPS),
        "policy": np.array([[0, 1]] * 2),
        "stage": np.array([[0, 1]] * 2),
    }


@pytest.fixture(params=["point_robot", "point_robot_sparse"])
def path(tmp_path, request):
    manifest = store.Manifest(
        family=request.param,
        tasks={"goal": np.array([[1.0, 0.0], [0.0, 1.0]])},
        split={"train": [0], "test": [1]},
        policies=("random", "sac"),
        stages=("random", "expert"),
        config=base().to_dict(),
        versions={},
        files={},
    )
    store.save(tmp_path / "set", manifest, make_fields())
    return tmp_path / "set"


def test_summary_by_hand():
    summary = card.summarize(make_fields(), num_stages=2, window=10)
    np.testing.assert_array_equal(summary.returns, [[0, 0], [1, 0]])
    # Each episode walks one row of the grid: 20 of 400 cells.
    np.testing.assert_allclose(summary.coverage, 20 / 400)
    # 120 steps have 111 windows of 10; those that start at steps 21 to 30 hold step 30.
    np.testing.assert_allclose(summary.rewarded, [0, 10 / 111])


def test_summary_respects_lengths():
    fields = make_fields()
    fields["length"] = np.array([[60, 60], [30, 60]])
    summary = card.summarize(fields, num_stages=2, window=10)
    assert summary.returns[1, 0] == 0 and summary.rewarded[1] == 0
    np.testing.assert_allclose(summary.coverage, [[20 / 400, 20 / 400], [10 / 400, 20 / 400]])
    fields["length"][1] = [31, 1]
    np.testing.assert_allclose(
        card.summarize(fields, 2, 100).rewarded, [0, 1], err_msg="one window, of all there is"
    )


def test_inspect_writes_text_and_figure(path, tmp_path):
    text = card.inspect(path, tmp_path / "out")
    for part in ("2 tasks (1 train, 1 test) x 2 episodes, 240 transitions", "expert 1", "median"):
        assert part in text
    assert ("with reward" in text) == ("sparse" in str(store.read_manifest(path).family))
    assert (tmp_path / "out" / card.TEXT).read_text() in text
    assert (tmp_path / "out" / card.FIGURE).read_bytes().startswith(b"\x89PNG")
    assert len(list((tmp_path / "out").iterdir())) == 2


def test_verify_is_one_sentence_and_finds_damage(path, tmp_path):
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
