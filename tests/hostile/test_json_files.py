"""Any content of a JSON file of a run is read, or refused in one sentence."""

import json

import pytest
from hypothesis import strategies as st
from matplotlib.figure import Figure

from hostile import tries
from hostile.test_command_lines import SOURCE
from hostile.tries import asked, attempt, few_or_many, for_all, refused
from metastar.evaluation import summaries
from metastar.tools.report import compare
from metastar.tools.sweep import state
from metastar.training import metrics, workdir

COMMANDS = {  # what reads a file, without any training
    "config.json": lambda run: asked(workdir.read_config, run),
    "spec.json": lambda run: asked(workdir.read_spec, run),
    "results.json": lambda run: attempt(["compare", run, f"--out={run}"]),
    "audit.json": lambda run: attempt(["compare", run, f"--out={run}"]),
    "cell.json": lambda run: attempt(["compare", run / "cell.json", f"--out={run}"]),
    "metrics.jsonl": lambda run: asked(
        lambda: summaries.stability(metrics.read_rows(run / metrics.FILE))
    ),
}
AUDIT = {
    "splits": {
        "test": {
            "all": {
                "ratio": {"ratio": 0.1},
                "identity": {"linear": {"accuracy": 0.2}, "chance": 0.2},
                "task_of_training": {"linear": {"r2": 0.9}},
            }
        }
    }
}
SPREAD = {"median": 0.1, "quartile_1": 0.09, "quartile_3": 0.2}
CASE = {"unit": "update", "per_second": 10.0, "per_unit": SPREAD}
BENCH = {
    "part": "critic",
    "axis": "batch",
    "device": "cpu",
    "cases": {f"batch={n}, as configured": CASE for n in (1, 2)},
    "config": {"method": "metastar", "family": "point_robot", "preset": "quick"},
}


@pytest.fixture
def no_drawing(monkeypatch):
    """Drawing takes most of the time of a comparison."""
    monkeypatch.setattr(compare, "draw", lambda *args: Figure(figsize=(1, 1)))


@pytest.mark.parametrize("name", COMMANDS)
@few_or_many(20, 100)
def test_any_bytes_are_one_sentence(name, num, run, no_drawing):
    def one(content):
        (run / name).write_bytes(content)
        return COMMANDS[name](run)

    for_all(tries.RAW, num, one)


@pytest.mark.parametrize("name", COMMANDS)
@few_or_many(60, 1000)
def test_any_object_is_taken_or_one_sentence(name, num, run, no_drawing):
    file = run / name
    if name == "audit.json":
        tries.write(file, AUDIT)
    if name == "cell.json":  # of a sweep
        one_run = {"results": json.loads((run / "results.json").read_text()), "audit": AUDIT}
        tries.write(file, {"cell": "a", "runs": [one_run]})
    lines = file.read_text()
    if is_lines := name.endswith("jsonl"):  # of which the last ones hold evaluations
        lines = lines.splitlines()[-1]

    def one(content):
        tries.write(file, content, sealed=not is_lines)
        return COMMANDS[name](run)

    for_all(tries.changed(json.loads(lines)), num, one)


@pytest.mark.parametrize("name", COMMANDS)
def test_a_folder_in_the_place_of_a_file(name, run, no_drawing):
    (run / name).unlink(missing_ok=True)
    (run / name).mkdir()
    tries.check(COMMANDS[name](run))


@few_or_many(30, 300)
def test_any_result_of_a_benchmark_is_drawn_or_one_sentence(num, tmp_path):
    def one(content):
        tries.write(tmp_path / "one.json", content)
        return attempt(["bench", "plot", f"--out={tmp_path}"])

    for_all(tries.changed(BENCH), num, one)


@few_or_many(0, 150)
def test_any_results_and_metrics_are_drawn_or_one_sentence(num, run):
    """With all figures, which take a second."""
    clean = json.loads((run / "results.json").read_text())
    row = json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])

    def one(contents):
        tries.write(run / "results.json", contents[0])
        tries.write(run / "metrics.jsonl", contents[1], sealed=False)
        return attempt(["report", f"--workdir={run}"])

    for_all(st.tuples(tries.changed(clean), tries.changed(row)), num, one)


def test_a_bound_must_be_a_run_that_is_told_the_task(run, data, tmp_path):
    """The run here is of MetaSTAR; its results are intact."""
    argv = ["train", f"--config={SOURCE}", f"--config.data.dir={data}", "--workdir=w"]
    sentence = refused([*argv, f"--config.eval.oracle={run}"])
    assert "is a run of method 'metastar', which is not told the task" in sentence
    assert "there is no results.json in 'nowhere'" in refused(
        [*argv, "--config.eval.oracle=nowhere"]
    )
    assert not (tmp_path / "w/config.json").exists()


def test_names_with_a_dollar_are_no_formulas(run, tmp_path):
    found = json.loads((run / "results.json").read_text())
    tries.write(tmp_path / "a.json", {**found, "preset": "$\\frac$"})
    assert attempt(["compare", tmp_path / "a.json"]).status == 0


def test_a_row_of_metrics_that_is_none_is_left_out(run):
    rows = [{"step": 1, "eval/few_shot": x} for x in (2.0, "3", None, [4.0])]
    rows += [{"step": "1"}, {}, [], {"step": 2, "eval/few_shot": 5}]
    (run / "metrics.jsonl").write_text("\n".join(map(json.dumps, [*rows, "["])))
    found = metrics.read_rows(run / "metrics.jsonl")
    assert [row["step"] for row in found] == [1, 1, 1, 1, 2]
    assert summaries.stability(found)["few_shot"] == {"mean": 3.5, "drop": 0.0, "evaluations": 2}


@few_or_many(60, 500)
def test_any_state_of_a_sweep_is_read_or_one_sentence(num, tmp_path):
    """And any status of a run that it shows."""
    entry = state.Entry(str(tmp_path), "running", 1.0, 2.0, {"pid": 1}, {"few_shot": 1.0}, "why")
    status = {"state": "training", "step": 1, "updates": 2, "updates_per_second": 0.5}
    status |= {"updated": 9.0, "returns": {"eval/few_shot": 1.0}}
    cells = {"cells": {"a": entry._asdict()}}

    def one(contents):
        tries.write(tmp_path / state.FILE, contents[0])
        tries.write(tmp_path / "status.json", contents[1])
        return attempt(["sweep", "status", tmp_path])

    for_all(st.tuples(tries.changed(cells), tries.changed(status)), num, one)
