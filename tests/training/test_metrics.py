import json

import pytest
from tensorboardX.proto.event_pb2 import Event

from metastar.training.metrics import MetricsWriter, Progress, read_rows


def write(folder, start, steps, **more):
    writer = MetricsWriter(folder, start)
    for step in steps:
        writer.write({"step": step, "phase": "joint", "loss": 1.0 * step, **more})
    writer.sync()
    writer.close()


def board_events(folder):
    """Events of all files in order; a record is length (8), crc (4), data, crc (4)."""
    events = []
    for path in sorted((folder / "tensorboard").iterdir(), key=lambda p: p.suffix):
        content = path.read_bytes()
        while content:
            length = int.from_bytes(content[:8], "little")
            events.append(Event.FromString(content[12 : 12 + length]))
            content = content[16 + length :]
    return events


def test_each_step_appears_once_after_a_resume(tmp_path):
    write(tmp_path, 0, [4, 8, 12])
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 16, "lo')  # a kill in the middle of a line
    write(tmp_path, 8, [12, 16])
    rows = read_rows(tmp_path / "metrics.jsonl")
    assert [row["step"] for row in rows] == [4, 8, 12, 16]
    assert rows[0] == {"step": 4, "phase": "joint", "loss": 4.0}


def test_a_new_run_forgets_all_rows(tmp_path):
    write(tmp_path, 0, [4, 8])
    write(tmp_path, 0, [4])
    assert [row["step"] for row in read_rows(tmp_path / "metrics.jsonl")] == [4]


def test_numbers_that_are_not_finite_are_null_and_stay_valid_json(tmp_path):
    write(tmp_path, 0, [1], other=float("nan"))
    (line,) = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert json.loads(line, parse_constant=pytest.fail)["other"] is None


def test_tensorboard_gets_numbers_and_purges_on_resume(tmp_path):
    write(tmp_path, 0, [4, 8])
    write(tmp_path, 4, [8])
    events = board_events(tmp_path)
    points = [(e.step, v.tag, v.simple_value) for e in events for v in e.summary.value]
    assert points == [(4, "loss", 4.0), (8, "loss", 8.0), (8, "loss", 8.0)]
    assert [e.step for e in events if e.session_log.status] == [5]  # the viewer drops step >= 5


def test_plain_lines_come_now_and_then_and_at_the_end_of_a_phase(capsys):
    times = iter([0.0, 0.0, 5.0, 11.0, 11.0, 12.0])
    progress = Progress(100, lambda: next(times), every_seconds=10)
    for step in (10, 20, 30, 40):
        progress.show("joint", step, 2.0, 40 - step)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[1] for line in lines] == ["10/100", "30/100", "40/100"]
    assert lines[0] == "joint 10/100 · 2.0 updates/s · ETA 0:15 (end of joint)"


def test_long_times_have_hours(capsys):
    Progress(10, lambda: 0.0).show("joint", 1, 1.0, 3_661)
    assert "ETA 1:01:01" in capsys.readouterr().out
