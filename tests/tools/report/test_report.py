import json
import re
import shutil

import numpy as np
import pytest

import stub_run
from metastar.errors import UserError
from metastar.evaluation import results
from metastar.tools.report import figures, report
from stub_run import META


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    """An evaluated run with metrics, as the trainer leaves it."""
    folder = tmp_path_factory.mktemp("run")
    for name in (results.FILE, results.ARRAYS_FILE):
        shutil.copy(stub_run.evaluated()["seeker"] / name, folder)
    rows = [
        {"step": 10, "phase": "pretrain", "updates_per_second": 5.0, "recon": 2.0},
        {"step": 20, "phase": "pretrain", "updates_per_second": 5.0, "recon": None},
        {"step": 30, "phase": "joint", "recon": 1.0, "td_loss": 0.5, "eval/few_shot": 3.0},
    ]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def test_report_shows_every_figure_and_the_command(workdir):
    path = report.write(workdir)
    text = path.read_text()
    shown = re.findall(r"!\[.*?\]\((.*?)\)", text)
    assert shown == [f"figures/{name}.png" for name in figures.CAPTIONS]
    for name in shown:
        assert (workdir / name).read_bytes().startswith(b"\x89PNG")
    assert "metastar train --config=configs/metastar.py:point_robot_sparse,stub" in text
    assert META["params_sha256"] in text
    assert not list(workdir.glob("**/.*.tmp"))


def test_report_is_made_of_files_alone_and_again_the_same(workdir):
    first = report.write(workdir).read_text()
    assert report.write(workdir).read_text() == first


def test_numbers_in_the_table_are_those_of_results_json(workdir):
    stored = results.read(workdir)
    rows = {row[0]: row[1:] for row in report.table(stored)}
    few = stored["protocols"]["few_shot"]
    assert rows["few-shot"][0] == f"{few['mean']:.2f}"
    assert rows["few-shot, windows with reward"][3] == f"{100 * few['informative']['share']:.0f} %"
    assert rows["bound: analytic optimum"][0] == f"{stored['bounds']['optimum']:.2f}"
    assert "bound: oracle" in rows
    stored["bounds"]["oracle"] = None
    assert "bound: oracle" not in [row[0] for row in report.table(stored)]


def test_summary_is_an_aligned_table_with_the_files(workdir):
    text = report.summary(workdir)
    assert str(workdir) in text and "results.json" in text
    lines = text.splitlines()
    table = lines[2 : lines.index("", 2)]
    assert len({len(line) for line in table}) == 1
    assert "few-shot, stub expert contexts" in text


def test_summary_of_a_dense_family_has_no_rows_for_reward(workdir):
    stored = results.read(workdir)
    stored["protocols"]["few_shot"] |= {"informative": None, "uninformative": None}
    rows = [row[0] for row in report.table(stored)]
    assert not any("reward" in name for name in rows)


def test_a_run_without_metrics_still_has_a_report(workdir, tmp_path):
    for name in (results.FILE, results.ARRAYS_FILE):
        shutil.copy(workdir / name, tmp_path)
    text = report.write(tmp_path).read_text()
    assert "learning_curves" not in text and "task_codes" in text


def test_a_run_that_was_not_evaluated_is_refused(tmp_path):
    with pytest.raises(UserError, match="metastar evaluate"):
        report.write(tmp_path)
    with pytest.raises(UserError, match="metastar evaluate"):
        report.summary(tmp_path)


@pytest.mark.parametrize(
    "content, words",
    [("[1]", "holds no JSON object"), ("{}", "does not hold the results of a run; run `metastar")],
)
def test_what_are_no_results_is_one_sentence(workdir, tmp_path, content, words):
    shutil.copy(workdir / results.ARRAYS_FILE, tmp_path)
    (tmp_path / results.FILE).write_text(content)
    for shown in (report.write, report.summary):
        with pytest.raises(UserError, match=words):
            shown(tmp_path)


def test_principal_plane_finds_a_known_plane():
    rng = np.random.default_rng(0)
    flat = rng.normal(size=(200, 2)) * [3.0, 1.0]
    rotation, _ = np.linalg.qr(rng.normal(size=(5, 5)))
    plane, share = figures.principal_plane(flat @ rotation[:2] + 7.0)
    centred = flat - flat.mean(0)
    distance = np.linalg.norm(centred[:, None] - centred, axis=-1)
    np.testing.assert_allclose(np.linalg.norm(plane[:, None] - plane, axis=-1), distance, atol=1e-9)
    assert share.sum() == pytest.approx(1) and share[0] > share[1]


@pytest.mark.parametrize("x", [np.ones((4, 3)), np.arange(4.0)[:, None]])
def test_principal_plane_of_less_than_a_plane(x):
    plane, share = figures.principal_plane(x)
    assert plane.shape == (4, 2) and np.isfinite(plane).all() and np.isfinite(share).all()
    np.testing.assert_allclose(plane[:, 1], 0, atol=1e-12)
