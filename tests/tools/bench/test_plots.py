"""Figures of scans, from result files alone."""

import json

import pytest

from metastar import files
from metastar import main as cli
from metastar.errors import UserError
from metastar.tools.bench import plots as bench_plots


def case(median):
    spread = {"median": median, "quartile_1": median / 2, "quartile_3": 2 * median}
    return {"unit": "update", "per_unit": spread, "per_second": 1 / median}


def report(axis, *labels):
    config = {"method": "metastar", "family": "point_robot", "preset": "paper"}
    cases = {label: case(1.0 + k) for k, label in enumerate(labels)}
    return {"part": "imagine", "axis": axis, "device": "cpu", "config": config, "cases": cases}


def test_a_scan_is_one_line_of_sizes_for_each_case():
    labels = ("horizon=1, a", "horizon=1, b, c", "horizon=4, a", "horizon=4, b, c")
    found = bench_plots.series(report("horizon", *labels))
    assert {name: [size for size, _ in points] for name, points in found.items()} == {
        "a": [1.0, 4.0],
        "b, c": [1.0, 4.0],
    }
    assert found["a"][1][1]["per_unit"]["median"] == 3.0


def test_what_is_no_scan_over_numbers_is_not_drawn():
    assert bench_plots.series(report(None, "as configured")) == {}
    assert bench_plots.series(report("simulator.backend", "simulator.backend=c, env")) == {}


def test_the_dotted_line_is_linear_in_the_size():
    drawn = bench_plots.figure(report("horizon", "horizon=1, a", "horizon=4, a"))
    lines = [line for axes in drawn.axes for line in axes.get_lines()]
    (linear,) = [line for line in lines if line.get_linestyle() == ":"]
    assert list(linear.get_xdata()) == [1, 4] and list(linear.get_ydata()) == [1e3, 4e3]
    assert drawn.axes[1].get_xscale() == drawn.axes[1].get_yscale() == "log"


def test_figures_lie_beside_the_results(tmp_path, capsys):
    (tmp_path / "scan.json").write_text(json.dumps(report("horizon", "horizon=1, a")))
    (tmp_path / "one.json").write_text(json.dumps(report(None, "as configured")))
    assert cli.main(["bench", "plot", f"--out={tmp_path}"]) == 0
    assert {file.name for file in tmp_path.iterdir()} == {"scan.json", "one.json", "scan.png"}
    assert "scan.png" in capsys.readouterr().out


def test_nothing_to_draw_and_damaged_files(tmp_path):
    with pytest.raises(UserError, match="no result in"):
        bench_plots.write(tmp_path)
    (tmp_path / "broken.json").write_text("{")
    with pytest.raises(UserError, match="damaged"):
        bench_plots.write(tmp_path)


def test_an_edited_result_is_refused(tmp_path):
    files.write_json(tmp_path / "scan.json", report("horizon", "horizon=1, a"))
    edited = (tmp_path / "scan.json").read_text().replace(": 1.0,", ": 1.1,")
    (tmp_path / "scan.json").write_text(edited)
    with pytest.raises(UserError, match="does not match its SHA-256; run its benchmark again"):
        bench_plots.write(tmp_path)
