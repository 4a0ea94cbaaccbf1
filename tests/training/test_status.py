"""`status.json`: whole, never in the way of a run, and true to the end."""

import json
import os

import pytest

from metastar.errors import UserError
from metastar.training import status


class Clock:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


def test_a_status_that_was_written_is_read_and_a_damaged_one_is_none(tmp_path):
    assert status.read(tmp_path) is None
    one = status.Status("training", "joint", 3, 9, 2.5, 1.0, 2.0, 7, {"eval/a": 1.0}, None)
    status.write(tmp_path, one._replace(returns={"eval/a": 1.0, "eval/b": float("nan")}))
    assert status.read(tmp_path) == one
    file = tmp_path / status.FILE
    for content in (b"", b"\xff", b"{}", file.read_bytes().replace(b"training", b"complete")):
        file.write_bytes(content)
        assert status.read(tmp_path) is None


def test_a_folder_that_cannot_be_written_stops_no_run(tmp_path):
    with status.told(tmp_path / "missing") as tell:
        tell("training", step=3)


def test_new_states_are_written_at_once_and_steps_once_a_second(tmp_path):
    clock = Clock()
    with status.told(tmp_path, clock) as tell:
        assert status.read(tmp_path) is None
        tell("collecting")
        assert status.read(tmp_path).state == "collecting"
        tell("training", phase="joint", step=0, updates=9)
        clock.now += 0.5
        tell("training", step=1, returns={"eval/few_shot": 2.0})
        assert (status.read(tmp_path).step, status.read(tmp_path).returns) == (0, {})
        clock.now += 0.6
        tell("training", step=2)
        found = status.read(tmp_path)
        assert (found.step, found.returns, found.pid) == (2, {"eval/few_shot": 2.0}, os.getpid())
        assert (found.started, found.updated) == (1000.0, 1001.1)
        tell("training", step=3)
        tell("evaluating")
        assert (status.read(tmp_path).state, status.read(tmp_path).step) == ("evaluating", 3)


@pytest.mark.parametrize(
    "error, state, sentence",
    [
        (UserError("no data\nhere; make some"), "failed", "no data here; make some"),
        (ValueError("x"), "failed", "ValueError: x"),
        (KeyboardInterrupt(), "stopped", "interrupted"),
    ],
)
def test_what_ends_a_run_early_is_told(tmp_path, error, state, sentence):
    with pytest.raises(type(error)), status.told(tmp_path) as tell:
        tell("training")
        raise error
    found = status.read(tmp_path)
    assert (found.state, found.sentence) == (state, sentence)
    assert set(json.loads((tmp_path / status.FILE).read_text())) == {*found._fields, "sha256"}


def test_returns_of_several_runs_are_means_of_what_all_have():
    assert status.mean_returns([{"a": 1.0, "b": 1.0}, {"a": 2.0}]) == {"a": 1.5}
