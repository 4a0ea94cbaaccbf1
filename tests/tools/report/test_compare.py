"""Runs side by side: numbers by hand, and every mixture that may not be compared."""

import copy
import json
from pathlib import Path

import numpy as np
import pytest

import stub_run
from metastar import files
from metastar.evaluation import results
from metastar.main import main
from metastar.ops.statistics import seed_task_interval
from metastar.tools.report import codes, compare, groups

ROOT = Path(__file__).parents[3]


def block(per_task, optimum=50.0, **fields):
    return {"per_task": per_task, "optimum": optimum, **fields}


def column(few, own=None, informative=None, ids=(7, 8), oracle=None):
    """One kind of held-out tasks, with what `compare` reads of it."""
    return {
        "tasks": {"ids": list(ids), "parameters": {"goal": [float(i) for i in ids]}},
        "protocols": {
            "few_shot": block(
                few, title="few-shot", informative=informative and block(informative)
            ),
            "zero_shot": block(few if own is None else own, title="zero-shot"),
        },
        "bounds": {"random": 0.0, "behavior_best": 30.0, "oracle": oracle, "optimum": 50.0},
    }


def make(few, seed=0, method="metastar", preset="quick", split="test", **fields):
    family = fields.pop("family", "point_robot_sparse")
    ood = {name: fields.pop(name) for name in ("ood_moderate", "ood_extreme") if name in fields}
    return {
        "method": method,
        "privileged": method == "oracle",
        "preset": preset,
        "family": family,
        "seed": seed,
        "updates": 100,
        "wall_seconds": 90.0,
        "commit": "abc",
        "split": split,
        **column(few, **fields),
        **ood,
    }


@pytest.fixture
def save(tmp_path):
    """Writes results as JSON files of a folder; returns their paths."""

    def write(*runs):
        paths = [tmp_path / f"run{i}.json" for i in range(len(runs))]
        for path, run in zip(paths, runs):
            path.write_text(json.dumps(run))
        return [str(path) for path in paths]

    return write


def tabulate(paths):
    found = groups.read(paths)
    scores = groups.measure(found)
    head, *rows = compare.table(found, scores)
    cells = {row[0]: dict(zip(head[1:], row[1:])) for row in rows}
    head, *rows = compare.differences(found, scores)
    return cells, {row[0]: dict(zip(head[1:], row[1:])) for row in rows}


def test_means_gaps_and_differences_by_hand(save):
    """Without variance every interval is a point."""
    runs = [make([10.0, 10.0], seed, own=[5.0, 5.0]) for seed in (0, 1)]
    runs += [make([20.0, 20.0], method="bc", preset="")]
    runs += [make([40.0, 40.0], method="oracle")]
    cells, difference = tabulate(save(*runs))
    ours, other = cells["metastar quick"], cells["bc default"]
    assert (ours["seeds"], ours["updates"], other["seeds"]) == ("2", "100", "1")
    assert ours["few-shot"] == "10.00 (10.00 to 10.00)"
    assert ours["zero-shot"] == "5.00 (5.00 to 5.00)"
    assert ours["gap closed, few-shot"] == "25 % (25 to 25)"
    assert ours["gap closed, zero-shot"] == "12 % (12 to 12)"
    assert other["gap closed, few-shot"] == "50 % (50 to 50)"
    assert cells["oracle quick"]["gap closed, few-shot"] == "–"
    assert cells["bound: uniform random actions"]["few-shot"] == "0.00"
    assert cells["bound: best behaviour"]["few-shot"] == "30.00"
    assert cells["bound: oracle"]["zero-shot"] == "40.00"
    assert cells["bound: analytic optimum"]["few-shot"] == "50.00"
    assert list(difference) == ["bc default", "oracle quick"]
    assert difference["bc default"]["few-shot"] == "+10.00 (+10.00 to +10.00)"
    assert difference["bc default"]["zero-shot"] == "+15.00 (+15.00 to +15.00)"


def test_swept_values_are_groups_and_what_all_runs_share_is_not_named(save):
    settings = [{"beta": beta, "gamma": 0.9} for beta in (0.5, 5.0)]
    runs = [
        make([x, x], seed) | {"hyper_params": hp}
        for seed in (0, 1)
        for x, hp in enumerate(settings)
    ]
    runs += [make([9.0, 9.0], method="bc") | {"hyper_params": {"beta": 7.0}}]
    found = groups.read(save(*runs))
    assert [(group.name, len(group.runs)) for group in found] == [
        ("metastar quick, beta 0.5", 2),
        ("metastar quick, beta 5", 2),
        ("bc quick", 1),
    ]
    with_older = groups.read(save(*runs[:1], make([1.0, 1.0], seed=1)))
    assert [group.name for group in with_older] == ["metastar quick"]


def test_interval_is_over_seeds_and_tasks_in_the_order_of_the_seeds(save):
    per_task = [[3.0, 9.0], [1.0, 20.0], [4.0, 4.0]]
    runs = [make(x, seed) for x, seed in zip(per_task, (2, 0, 1))]
    (group,) = groups.read(save(*runs))
    assert [run.results["seed"] for run in group.runs] == [0, 1, 2]
    scores = groups.measure([group])[0]
    np.testing.assert_array_equal(scores.groups[0], [per_task[1], per_task[2], per_task[0]])
    low, high = seed_task_interval(scores.groups[0])
    cell = compare.table([group], [scores])[1][3]
    assert cell == f"{np.mean(per_task):.2f} ({low:.2f} to {high:.2f})" and low < high


def test_differences_are_paired_by_task(save):
    """Tasks far apart and a constant gain: the means are uncertain, the gain is not."""
    runs = [make([0.0, 100.0]), make([3.0, 103.0], method="bc")]
    cells, difference = tabulate(save(*runs))
    assert cells["bc quick"]["few-shot"] == "53.00 (3.00 to 103.00)"
    assert difference["bc quick"]["few-shot"] == "+3.00 (+3.00 to +3.00)"


def test_the_gap_is_paired_by_task_too(save):
    runs = [make([10.0, 40.0]), make([20.0, 80.0], method="oracle")]
    cells, _ = tabulate(save(*runs))
    assert cells["metastar quick"]["gap closed, few-shot"] == "50 % (50 to 50)"


def test_the_oracle_may_come_from_the_bounds_of_every_run(save):
    with_bound = [make([10.0, 10.0], seed, oracle=20.0) for seed in (0, 1)]
    cells, _ = tabulate(save(*with_bound))
    assert cells["metastar quick"]["gap closed, few-shot"] == "50 % (50 to 50)"
    assert cells["bound: oracle"]["few-shot"] == "20.00"
    cells, _ = tabulate(save(with_bound[0], make([10.0, 10.0], 1)))
    assert "gap closed, few-shot" not in cells["metastar quick"] and "bound: oracle" not in cells


def test_no_share_of_a_gap_that_is_none(save):
    """An oracle at random's level on one task: a resample may hold that task alone."""
    runs = [make([10.0, 10.0]), make([0.0, 80.0], method="oracle")]
    cells, _ = tabulate(save(*runs))
    assert cells["metastar quick"]["gap closed, few-shot"] == "–"


def test_a_task_without_rewarding_windows_in_one_run_counts_for_none(save):
    runs = [make([1.0, 2.0], informative=[30.0, 40.0])]
    runs += [make([1.0, 2.0], method="bc", informative=[None, 44.0])]
    cells, difference = tabulate(save(*runs))
    name = "few-shot, windows with reward (1 of 2 tasks)"
    assert cells["metastar quick"][name] == "40.00 (40.00 to 40.00)"
    assert difference["bc quick"][name] == "+4.00 (+4.00 to +4.00)"
    cells, _ = tabulate(save(make([1.0, 2.0], informative=[30.0, 40.0]), make([1.0, 2.0], 1)))
    assert not any("reward" in name for name in cells["metastar quick"])


def test_out_of_distribution_columns_where_all_have_them(save):
    ood = {"ood_moderate": column([5.0, 5.0, 5.0], ids=(1, 2, 3))}
    both = ood | {"ood_extreme": column([6.0], own=[8.0], ids=(4,))}
    cells, _ = tabulate(save(make([1.0, 2.0], **both), make([1.0, 2.0], 1, **ood)))
    ours = cells["metastar quick"]
    assert ours["moderate OOD, few-shot"] == "5.00 (5.00 to 5.00)"
    assert not any("extreme" in name for name in ours)
    assert cells["bound: best behaviour"]["moderate OOD, zero-shot"] == "30.00"
    cells, _ = tabulate(save(make([1.0, 2.0], **both)))
    assert cells["metastar quick"]["extreme OOD, zero-shot"] == "8.00 (8.00 to 8.00)"


def test_contexts_of_other_tasks_policies_have_a_column_where_all_have_them(save):
    def crossed(few, cross, seed=0):
        run = make(few, seed)
        run["protocols"]["few_shot"]["by_context_source"] = {"sac expert": block(few)} | cross
        return run

    pair = [crossed([9.0, 9.0], {"cross_task expert": block([x, 4.0])}, i)
            for i, x in enumerate((1.0, 3.0))]  # fmt: skip
    name = "few-shot, cross-task contexts"
    cells, _ = tabulate(save(*pair))
    assert cells["metastar quick"][name].startswith("3.00 (")  # ((1 + 3) / 2 + 4) / 2
    assert cells["bound: best behaviour"][name] == "30.00"
    cells, _ = tabulate(save(pair[0], crossed([9.0, 9.0], {}, 1)))
    assert name not in cells["metastar quick"]


def test_a_protocol_that_all_runs_have_is_a_column_without_an_edit(save):
    runs = [make([1.0, 1.0], seed) for seed in (0, 1)]
    for run in runs:
        run["protocols"]["bandit"] = block([6.0, 8.0], title="one pull")
    runs[0]["protocols"]["lone"] = block([1.0, 1.0], title="lone")
    cells, _ = tabulate(save(*runs))
    assert cells["metastar quick"]["one pull"].startswith("7.00 (")
    assert not any("lone" in name for name in cells["metastar quick"])
    head, _ = compare.steadiness(groups.read(save(*runs)))
    assert head[-1] == "one pull: success"


def old_shape(run, explored):
    """Results as versions wrote them that had a field for each protocol."""

    def column(part):
        rest = {name: x for name, x in part.items() if name != "protocols"}
        blocks = {k: dict(x) for k, x in part["protocols"].items()}
        for own in blocks.values():
            del own["title"]
        return {**rest, **blocks}

    ood = {name: column(run[name]) for name in ("ood_moderate",) if name in run}
    train = {f"train_{name}": {"mean": 9.0} for name in run["protocols"]}
    return {**column(run), **ood, **train, "explored": explored}


def test_results_of_older_versions_are_read_alike(save):
    new = make([1.0, 2.0], informative=[3.0, 4.0], ood_moderate=column([5.0], ids=(1,)))
    old = old_shape(new, {"idaq": block([6.0, 8.0])})
    again = results.translate(old)
    exploring = again["protocols"].pop("explored_idaq")
    assert exploring == block([6.0, 8.0], title="zero-shot, exploring: idaq")
    train = {"few_shot": ("few-shot", 9.0), "zero_shot": ("zero-shot", 9.0)}
    train = {k: {"title": title, "mean": x} for k, (title, x) in train.items()}
    assert again == new | {"train": {"protocols": train}}
    assert results.translate(again) is again
    cells, _ = tabulate(save(old, make([1.0, 2.0], 1, informative=[3.0, 4.0])))
    assert cells["metastar quick"]["few-shot, windows with reward"] == "3.50 (3.00 to 4.00)"
    before_names = results.translate(old_shape(new, block([6.0, 8.0])))
    assert list(before_names["protocols"]) == ["few_shot", "zero_shot"]


def test_stability_and_success_are_means_over_seeds(save):
    runs = [make([1.0, 1.0], seed) for seed in (0, 1)]
    for run, drop in zip(runs, (1.0, 4.0)):
        run["stability"] = {"few_shot": {"mean": 3.0, "drop": drop}}
        run["protocols"]["few_shot"]["success"] = drop / 10
    head, row = compare.steadiness(groups.read(save(*runs)))
    assert dict(zip(head, row)) == {
        "group": "metastar quick",
        "few-shot: last mean": "3.00",
        "few-shot: drop": "2.50",
        "few-shot: success": "25%",
        "zero-shot: last mean": "–",
        "zero-shot: drop": "–",
        "zero-shot: success": "–",
    }


def test_command_writes_the_page_and_the_figure(save, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    runs = [make([10.0, 12.0], seed) for seed in (0, 1)] + [make([20.0, 21.0], method="bc")]
    paths = save(*runs)
    assert main(["compare", *paths]) == 0
    out = capsys.readouterr().out
    page = (tmp_path / "compare" / "compare.md").read_text()
    for text in (out, page):
        assert "metastar quick" in text and "Difference to metastar quick" in text
    assert "files in compare: compare.md, compare.png" in out and paths[2] in page
    assert (tmp_path / "compare" / "compare.png").read_bytes().startswith(b"\x89PNG")
    assert main(["compare", *paths, "--out=again/there"]) == 0
    assert (tmp_path / "again/there/compare.md").read_text() == page
    assert not list(tmp_path.glob("**/.*.tmp"))


def test_audits_beside_the_results_are_a_table_of_codes(save, tmp_path):
    """Of two seeds one is audited, and the other group is not."""
    folders = [tmp_path / name for name in ("a", "b", "c")]
    of = make([1.0, 2.0]), make([2.0, 3.0], seed=1), make([3.0, 4.0], preset="other")
    for folder, run in zip(folders, of):
        folder.mkdir()
        results.write(folder, run)
    sources = [str(folder) for folder in folders]
    assert "Codes" not in compare.compare(sources, tmp_path / "out")
    trained = {
        "ratio": {"ratio": 0.25},
        "identity": {"chance": 0.5, "linear": {"accuracy": 0.75}},
        "task_of_training": {"linear": {"r2": 0.9}},
    }
    audit = {"splits": {"test": {"all": {}, "trained": trained}}}
    files.write_json(folders[0] / "audit.json", audit)
    rows = codes.table(groups.read(sources))
    assert rows[1][1:] == ("1 of 2", "0.2500", "75%", "50%", "0.900")
    assert rows[2][1:] == ("0 of 1", "–", "–", "–", "–")
    assert "Codes, by audit" in compare.compare(sources, tmp_path / "out")
    assert "## Codes" in (tmp_path / "out" / "compare.md").read_text()
    files.write_json(folders[0] / "audit.json", {"splits": {"test": {"all": trained}}})
    assert codes.table(groups.read(sources)) == rows  # all sources are those it learned from
    del trained["ratio"]["ratio"]  # an audit says why where it could not compute a measure
    files.write_json(folders[0] / "audit.json", audit)
    assert codes.table(groups.read(sources))[1][2] == "–"


def test_a_single_group_has_no_differences(save, tmp_path):
    text = compare.compare(save(make([1.0, 2.0])), tmp_path / "out")
    assert (
        "Difference" not in text and "Difference" not in (tmp_path / "out/compare.md").read_text()
    )


def test_figure_shows_every_group_task_and_bound(save):
    runs = [make([1.0, 2.0], informative=[3.0, 4.0]), make([1.0, 2.0], method="bc")]
    found = groups.read(save(*runs))
    figure = compare.draw(found, groups.measure(found))
    assert [axis.get_title() for axis in figure.axes] == [
        *("few-shot", "few-shot, by task", "zero-shot", "zero-shot, by task"),
    ]
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert set(labels) == {
        *("metastar quick", "bc quick", "uniform random actions", "best behaviour"),
        "analytic optimum",
    }
    assert [text.get_text() for text in figure.axes[3].get_xticklabels()] == ["7", "8"]


def test_a_file_given_twice_and_a_workdir_count_once(save, tmp_path):
    workdir = tmp_path / "work"
    workdir.mkdir()
    results.write(workdir, make([1.0, 2.0]))
    sources = [str(workdir), str(workdir / results.FILE), f"{workdir}/../work"]
    (group,) = groups.read(sources)
    assert len(group.runs) == 1


GOOD = make([1.0, 2.0])


def changed(**fields):
    return {**copy.deepcopy(GOOD), "seed": 1, **fields}


def few_shot(**fields):
    """With a changed few-shot block; None leaves a field of it out."""
    block = {**GOOD["protocols"]["few_shot"], **fields}
    return changed(protocols={"few_shot": {k: x for k, x in block.items() if x is not None}})


@pytest.mark.parametrize(
    "other, words",
    [
        (GOOD, "are both seed 0 of metastar quick; leave one of them out, or"),
        (changed(family="point_robot"), "is a run on point_robot but"),
        (changed(split="validation"), "was evaluated on validation tasks but"),
        (make([1.0, 2.0], 1, ids=(7, 9)), "on other held-out tasks than"),
        (make([1.0, 2.0], method="bc", ids=(7, 9)), "on other held-out tasks than"),
        ({k: v for k, v in GOOD.items() if k != "protocols"}, "does not hold the results of a run"),
        (changed(protocols={}), "does not hold the results of a run"),
        (few_shot(per_task=[1.0]), "does not hold the results of a run"),
        (few_shot(per_task=["a", "b"]), "does not hold the results of a run"),
        (few_shot(informative={}), "does not hold the results"),
        (few_shot(title=None), "does not hold the results"),
        (changed(bounds={}), "does not hold the results of a run"),
        ([1, 2], "is damaged: it holds no JSON object; copy it again from its run"),
        ({"num_seeds": 3}, "does not hold the results of a run"),
    ],
)
def test_runs_that_may_not_be_compared(other, words, save, tmp_path, capsys):
    err = refused(save(GOOD, other), words, tmp_path, capsys)
    assert "run1.json" in err


def test_runs_that_share_no_protocol_are_refused(save, tmp_path, capsys):
    other = changed(protocols={"bandit": block([1.0, 2.0], title="bandit")})
    refused(save(GOOD, other), "have no evaluation in common", tmp_path, capsys)


def test_other_tasks_out_of_distribution_are_refused(save, tmp_path, capsys):
    runs = [make([1.0, 2.0], s, ood_extreme=column([1.0], ids=(s,))) for s in (0, 1)]
    refused(save(*runs), "on other held-out tasks than", tmp_path, capsys)


def test_runs_without_results_are_refused(save, tmp_path, capsys):
    (good,) = save(GOOD)
    damaged, empty = tmp_path / "damaged.json", tmp_path / "empty"
    damaged.write_text(json.dumps(GOOD)[:-9])
    empty.mkdir()
    refused([good, str(damaged)], "it is not JSON; copy it again from its run", tmp_path, capsys)
    refused([good, str(tmp_path / "no.json")], "there is no file", tmp_path, capsys)
    refused([good, str(empty)], "there is no results.json in", tmp_path, capsys)
    (empty / results.FILE).write_text("{")
    refused([good, str(empty)], "it is not JSON; run `metastar evaluate", tmp_path, capsys)
    results.write(empty, GOOD)
    edited = (empty / results.FILE).read_text().replace("50.0", "49.0")
    (empty / results.FILE).write_text(edited)
    refused([good, str(empty)], "does not match its SHA-256", tmp_path, capsys)
    refused([good, str(empty / results.FILE)], "does not match its SHA-256", tmp_path, capsys)
    refused([], "RUN", tmp_path, capsys)


def test_an_out_that_is_a_file_is_refused(save, tmp_path, capsys):
    (good,) = save(GOOD)
    assert main(["compare", good, f"--out={good}"]) == 2
    assert "give another folder with --out" in capsys.readouterr().err


def refused(paths, words, tmp_path, capsys):
    """One sentence, status 2, and nothing written."""
    assert main(["compare", *paths, f"--out={tmp_path / 'out'}"]) == 2
    out, err = capsys.readouterr()
    assert words in err and err.startswith("metastar: ") and err.count("\n") == 1 and not out
    assert not (tmp_path / "out").exists()
    return err


def test_what_evaluate_writes_can_be_compared(save):
    """The knower acts optimally, so the seeker's gap is that to the analytic optimum."""
    seeker, knower = (results.read(stub_run.evaluated()[name]) for name in ("seeker", "oracle"))
    found = groups.read(save(seeker, knower | {"method": "oracle"}))
    scores = {s.name: s for s in groups.measure(found)}
    assert {"few-shot", "zero-shot"} < set(scores)
    few = scores["few-shot"]
    assert few.groups[0].mean() == pytest.approx(seeker["protocols"]["few_shot"]["mean"])
    assert few.bounds["oracle"] == pytest.approx(seeker["bounds"]["optimum"])


def test_the_committed_runs_have_the_published_means():
    folder = ROOT / "experiments/results/point_robot_sparse_quick"
    found = groups.read(sorted(map(str, folder.glob("*_point_*.json"))))
    scores = {s.name: s for s in groups.measure(found)}
    published = json.loads((folder / "summary.json").read_text())
    ours = [group.method for group in found].index("metastar")
    for name, row in (("few-shot", "few-shot, uniform windows"),
                      ("few-shot, windows with reward", "few-shot, windows with reward"),
                      ("zero-shot", "zero-shot (episode 2)")):  # fmt: skip
        assert scores[name].groups[ours].mean() == pytest.approx(published["metastar"][row]["mean"])
