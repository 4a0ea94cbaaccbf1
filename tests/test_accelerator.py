"""The steps for an accelerator: in order, within their time, whole or not at all."""

import json

import accelerator
import pytest
from accelerator import Step

from metastar import main


@pytest.fixture
def clock(monkeypatch):
    """A clock that goes only when a step runs."""
    now = [0.0]
    monkeypatch.setattr(accelerator.time, "monotonic", lambda: now[0])
    return now


def runner(clock, takes, calls):
    """Each step needs `takes[name]` seconds; one that fails has a negative number."""

    def call(arguments, seconds):
        calls.append((arguments[0], seconds))
        need = takes[arguments[0]]
        clock[0] += min(abs(need), seconds)
        return None if abs(need) > seconds else int(need < 0)

    return call


STEPS = tuple(Step(name, f"{name} --out={{out}}", 100) for name in ("a", "b", "c", "d"))


def test_steps_run_in_order_until_the_time_is_over_and_go_on_from_there(clock, tmp_path):
    calls, takes = [], {"a": 50, "b": -10, "c": 200, "d": 5}
    listed = accelerator.run_all(STEPS, tmp_path, 170, runner(clock, takes, calls))
    # The third has its 100 seconds; with 10 left nothing begins.
    assert calls == [("a", 100), ("b", 100), ("c", 100)]
    assert [row["state"] for row in listed] == ["done", "failed", "out of time"]
    found = json.loads((tmp_path / accelerator.SUMMARY).read_text())
    assert found["steps"] == listed and found["platform"] == "cpu"
    assert listed[0]["command"] == f"metastar a --out={tmp_path}"
    calls.clear()
    again = accelerator.run_all(STEPS, tmp_path, 1000, runner(clock, {**takes, "b": 10}, calls))
    assert [name for name, _ in calls] == ["b", "c", "d"]
    assert [row["state"] for row in again] == ["done", "done", "out of time", "done"]


def test_a_step_has_no_more_than_what_is_left(clock, tmp_path):
    calls = []
    accelerator.run_all(STEPS, tmp_path, 30, runner(clock, {"a": 200}, calls))
    assert calls == [("a", 30)]


def test_the_whole_run_by_the_speed_so_far():
    rows = [
        {"phase": "pretrain", "updates_per_second": 900.0, "step": 1},
        *({"phase": "joint", "updates_per_second": x, "step": 2} for x in (5.0, 10.0, 70.0)),
    ]
    found = accelerator.projection(rows, 36_000)
    assert found == {"updates_per_second": 10.0, "updates": 2, "hours": 1.0}
    assert accelerator.projection([], 1) is None


@pytest.mark.parametrize("step", accelerator.STEPS, ids=lambda step: step.name)
def test_every_command_is_one_of_metastar_s(step, monkeypatch, tmp_path):
    """What could only fail on the accelerator's time is asked here."""
    monkeypatch.chdir(accelerator.ROOT)
    given = []
    monkeypatch.setattr(main, "_train", given.append)
    monkeypatch.setattr(main, "_bench", given.append)
    assert main.main(step.command.format(out=tmp_path).split()) == 0
    assert given[0].config.family in ("cheetah_vel", "point_robot_sparse")
