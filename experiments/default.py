"""A family's default preset: returns, what its minutes went into, and returns over seconds.

    time metastar collect --config=configs/metastar.py:cheetah_vel
    metastar sweep experiments/sweeps/default.py:cheetah_vel
    python experiments/default.py --argument=cheetah_vel

The seconds of the first are written to `collection.json` by hand, beside the result files of the
second. The third reads them, and the metrics in those workdirs that are there, of which it keeps
`curves.json`; it writes a figure there and a table to `docs/results.md`.
"""

import argparse
from pathlib import Path

import cells
import numpy as np
from matplotlib.figure import Figure
from sweeps.default import TOGETHER, label_of

from metastar import files
from metastar.tools.report import tables
from metastar.training import metrics

PAGE = cells.DOCS / "results.md"
SWEEP = Path(__file__).parent / "sweeps/default.py"
OTHERS = "cross_task expert"  # the source of contexts by policies of other tasks
CURVES = {  # what there may be of an evaluation during the training
    "few_shot": "few-shot",
    "few_shot_informative": "few-shot, windows with reward",
    "zero_shot": "zero-shot",
    "explored_posterior": "zero-shot, exploring: posterior",
}
SWAPPED = "swapped"
PARTS = {"": "test tasks", "ood_moderate": "moderate", "ood_extreme": "extreme"}
AUDITED = {  # title: form, and where it stands in `cells.on_test_tasks` of an audit
    "world model, observations after 1 step, in standard deviations": (
        "{:.2f}",
        ("open_loop", "obs", "right", 0),
    ),
    "after 8 steps": ("{:.2f}", ("open_loop", "obs", "right", 7)),
    "rewards after 1 step": ("{:.2f}", ("open_loop", "reward", "right", 0)),
    "rewards after 8 steps ": ("{:.2f}", ("open_loop", "reward", "right", 7)),
    "ratio of variances, policies over tasks": ("{:.4f}", ("trained", "ratio", "ratio")),
    "with contexts by policies of other tasks": ("{:.4f}", ("others", "ratio", "ratio")),
    "R² of the task, linear, fitted on training tasks": (
        "{:.3f}",
        ("trained", "task_of_training", "linear", "r2"),
    ),
    "which source? linear probe": ("{:.0%}", ("trained", "identity", "linear", "accuracy")),
    "its upper bound": ("{:.0%}", ("trained", "identity", "linear", "upper95")),
    "chance": ("{:.0%}", ("trained", "identity", "chance")),
    "tasks and pairs of sources that differ": (
        "{:.0%}",
        ("trained", "energy", "pairs", "share_differing"),
    ),
    "control": ("{:.0%}", ("trained", "energy", "control", "share_differing")),
    "I(code; source given the task), nats, at least": (
        "{:.3f}",
        ("trained", "information", "nats"),
    ),
    "return lost under a code of the same task by another source": (
        "{:.1f}",
        ("use", "other_source"),
    ),
    "return lost under the code of another task": ("{:.1f}", ("use", "other_task")),
}
# (hours, few-shot, zero-shot) of the reference, by its published curve and hours for 200 000
# updates on an RTX 4090 (arXiv 2606.00780), taken to be spent evenly.
REFERENCE = {
    "cheetah_vel": ((23.5 / 4, -43.0, -75.0), (23.5, -33.0, -58.0)),
    "cheetah_vel_sparse": ((17.5 / 4, 261.0, 208.0), (17.5, 294.0, 259.0)),
    "point_robot_sparse": ((13.0 / 4, 42.8, 15.3), (13.0, 42.3, 20.0)),
}


def minutes_of(rows: list[dict], results: dict) -> dict[str, float]:
    """What the minutes of a run went into, by its rows of metrics and its results."""
    first, seconds = rows[0]["seconds"], dict.fromkeys(row["phase"] for row in rows)
    steps = np.diff([0, *(row["step"] for row in rows)])
    own = [num / row["updates_per_second"] for num, row in zip(steps, rows, strict=True)]
    for phase in seconds:
        seconds[phase] = sum(x for x, row in zip(own, rows, strict=True) if row["phase"] == phase)
    seconds["compilation"] = first - own[0]
    seconds["evaluation during the training"] = results["wall_seconds"] - first - sum(own[1:])
    seconds["evaluation at the end"] = results["evaluation_seconds"]
    return {name: x / 60 for name, x in seconds.items()}


def curves_of(argument: str, kept: dict) -> dict:
    """Returns over minutes of every run of MetaSTAR, by the digest of its parameters.

    `kept` are earlier ones, for runs whose workdirs are gone; {} if there are none.
    """
    columns, runs = kept.get("columns"), {}
    for cell, file in cells.cells_of(f"{SWEEP}:{argument}"):
        if cell.cfg.method != "metastar" or not file.exists():
            continue
        workdir = cells.DOCS.parent / cell.workdir
        every = cells.results_of(file)
        folders = sorted((workdir / "seeds").glob("*")) or [workdir] * len(every)
        for folder, results in zip(folders, every, strict=True):
            digest = results["params_sha256"]
            if workdir.exists():
                rows = metrics.read_rows(folder / metrics.FILE)
                seen = [row for row in rows if "eval/few_shot" in row]
                if not columns:
                    found = (name for name in CURVES if f"eval/{name}" in seen[0])
                    columns = ["updates", "minutes", *found]
                names = [f"eval/{name}" for name in columns[2:]]
                points = [
                    [row["step"], row["seconds"] / 60, *(row[name] for name in names)]
                    for row in seen
                ]
                runs[digest] = {"curve": points, "minutes": minutes_of(rows, results)}
            elif digest in kept.get("runs", {}):
                runs[digest] = kept["runs"][digest]
    return {"columns": columns, "runs": runs}


def table(argument: str) -> str:
    """The tables, from the result files alone."""
    family, label = argument.split(",")[0], label_of(*argument.split(","))
    every = cells.found_by(f"{SWEEP}:{argument}")
    found = {group.split("_")[0]: runs for group, runs in every.items()}
    audits = [run["audit"] for run in found["metastar"]]
    found = {method: [run["results"] for run in runs] for method, runs in found.items()}
    rows = [("return", "MetaSTAR", "oracle", "uniform actions")]
    for part, words in PARTS.items():
        blocks = {
            method: [run[part] if part else run for run in runs if not part or part in run]
            for method, runs in found.items()
        }
        if not blocks["metastar"]:
            continue
        bounds = blocks["metastar"][0].get("bounds", {}).get("random")
        uniform = "–" if bounds is None else f"{bounds:.1f}"
        best = [x["protocols"]["few_shot"] for x in blocks.get("oracle", [])]
        oracle = cells.interval(best) if best else "–"
        for name, block in blocks["metastar"][0]["protocols"].items():
            if name == SWAPPED:  # the audit has it
                continue
            title = block["title"]
            own = [x["protocols"][name] for x in blocks["metastar"]]
            rows.append((f"{title}, {words}", cells.interval(own), oracle, uniform))
            if all(x.get("informative") for x in own):  # windows of sparse rewards
                rewarded = cells.interval(own, "informative")
                rows.append((f"{title}, {words}, windows with reward", rewarded, oracle, uniform))
            sources = [x.get("by_context_source") or {} for x in own]
            if all(OTHERS in x for x in sources):
                others = cells.interval([x[OTHERS] for x in sources])
                rows.append((f"{title}, {words}, contexts by others", others, oracle, uniform))
    curves = files.read_json(cells.RESULTS / label / "curves.json", "make it again")
    parts = next(iter(curves["runs"].values()))["minutes"]
    collection = files.read_json(cells.RESULTS / label / "collection.json", "make it again")
    parts = {"collection": collection["wall_seconds"] / 60, **parts}
    spent = [("minutes of", *parts, "all"), ("", *(f"{x:.1f}" for x in parts.values()))]
    spent[1] += (f"{sum(parts.values()):.1f}",)
    commands = (
        f"`metastar sweep experiments/sweeps/default.py:{argument}`, then `python "
        f"experiments/default.py --argument={argument}`; files: `experiments/results/{label}/`"
    )
    return (
        f"{tables.markdown(rows)}\n\n{tables.markdown(audited(audits))}\n\n"
        f"{words_of(family, len(audits))}:\n\n{tables.markdown(spent)}\n\n"
        f"Commands: {commands}.\n"
    )


def words_of(family: str, num_seeds: int) -> str:
    """What the minutes below are of."""
    if family in TOGETHER:
        return (
            f"{num_seeds} seeds, trained in one program, whose time is that of all of them, but "
            "for the evaluation at the end, which is of one"
        )
    return f"Number of seeds: {num_seeds}, each trained on one core; the minutes of the first"


def audited(audits: list[dict]) -> list[tuple[str, ...]]:
    """The audits of MetaSTAR's runs: means with the least and the largest.

    Those of sparse rewards have a second column, of windows with a reward.
    """
    rows = [("audit, test tasks", "mean of seeds, least and largest")]
    audits = [cells.on_test_tasks(audit) for audit in audits]
    rewarded = all("rewarded" in audit for audit in audits)
    if rewarded:
        rows[0] += ("windows with reward, all sources",)

    def spread(form, path):
        return cells.spread([cells.at(path, audit) for audit in audits], form)

    for title, (form, path) in AUDITED.items():
        if any(path[0] not in audit for audit in audits):
            continue
        row = (title, spread(form, path))
        if rewarded:
            row += (spread(form, ("rewarded", *path[1:])) if path[0] == "trained" else "–",)
        rows.append(row)
    return rows


def figure(argument: str, curves: dict) -> Figure:
    """Returns of every seed over minutes, and the reference's over its own."""
    names = curves["columns"][2:]
    drawn = Figure((4.5 * len(names), 3.6), layout="constrained")
    reference = np.array(REFERENCE.get(argument.split(",")[0], ())).reshape(-1, 3).T
    published = dict(zip(("few_shot", "zero_shot"), reference[1:], strict=True))
    for k, (axis, name) in enumerate(zip(drawn.subplots(1, len(names)), names, strict=True)):
        for number, run in enumerate(curves["runs"].values()):
            points = np.array(run["curve"]).T
            axis.plot(points[1], points[2 + k], "C0.-", label="MetaSTAR" if not number else None)
        if name in published:
            axis.plot(60 * reference[0], published[name], "C3s--", label="reference, RTX 4090")
        axis.set(xscale="log", xlabel="minutes of training", ylabel="return", title=CURVES[name])
        axis.legend()
    return drawn


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--argument", default="cheetah_vel", metavar="FAMILY[,WITHHELD]")
    argument = parser.parse_args().argument
    label = label_of(*argument.split(","))
    folder = cells.RESULTS / label
    file = folder / "curves.json"
    kept = files.read_json(file, "make it again") if file.exists() else {}
    if (curves := curves_of(argument, kept))["runs"] != kept.get("runs", {}):
        files.write_json(file, curves)
        figure(argument, curves).savefig(folder / "curves.png", dpi=120)
    content = table(argument)
    if "," not in argument:
        tables.insert(PAGE, label, content)
    print(content)


if __name__ == "__main__":
    main()
