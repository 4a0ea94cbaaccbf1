"""What a CQL penalty learns per second: exact or sampled gradient, fewer actions and states.

    python experiments/critics.py --family point_robot_sparse --num-seeds 3

Trains the oracle, which is all critic and actor, or another method, once for each form of the
CQL penalty, all seeds in one program, at constant learning rates, so that a point of a curve
is what a run of that length reaches; where there is a pretraining, all begin behind the first's.
Run it on an otherwise idle machine: it compares times by the curves of the runs, and is no sweep
therefore. Writes the curves of every seed and their seconds in the last phase to
`experiments/results/critics_<family>.json`, a figure beside it, and a table to
`docs/benchmarks.md`; a number of seeds other than the default is part of these names.
`--set field=value` changes every cell.
"""

import argparse
import io
import shlex
import subprocess
import sys
from pathlib import Path

import cells
import numpy as np
from matplotlib.figure import Figure
from sweeps.imagination import CQL, MOPO, variant

from metastar import files
from metastar.tools.bench import report as bench_report
from metastar.tools.report import tables
from metastar.training import metrics, provenance, workdir

PAGE = cells.DOCS / "benchmarks.md"
SHARED = {
    "train.updates": 1_500,
    "train.chunk": 100,
    "train.eval_every": 100,
    "train.checkpoint_every": 1_500,
    "train.keep_checkpoints": 9,  # that of the pretraining's end among them
    "train.lr_decay": "none",
    "eval.windows": 2,
    "eval.zero_shot_streams": 1,
}
PRETRAINING = ("metastar",)  # methods with a pretraining: their cells share that of the first
REACHED = 0.9  # of the way from uniform actions to the best end: what the table asks the time of


def form(num_actions: int, states: int, gradient: str = "exact") -> dict:
    """Actions of each of three sources at so many states of a task, 0 for all of them."""
    return {
        **CQL,
        "agent.conservative.num_actions": num_actions,
        "agent.conservative.cql_states": states,
        "agent.conservative.cql_gradient": gradient,
        "agent.conservative.tile_states": 0 if states else 64,
    }


CELLS = {
    "exact, 10 actions, all states (paper)": form(10, 0),
    "sampled, 10 actions, all states": form(10, 0, "sampled"),
    "exact, 10 actions, 16 states": form(10, 16),
    "exact, 4 actions, 16 states": form(4, 16),
    "sampled, 4 actions, 16 states": form(4, 16, "sampled"),
    "exact, 2 actions, 16 states": form(2, 16),
    "exact, 4 actions, 4 states": form(4, 4),
    "none on values, doubtful imagined rewards": MOPO,  # an oracle imagines none
}


def train(workdir: Path, config: str, fields: dict) -> list[Path]:
    """Trains all seeds of a cell in one program, unless that is done; returns their workdirs."""
    overrides = [f"--config.{name}={value}" for name, value in fields.items()]
    words = ["train", f"--workdir={workdir}", f"--config={config}", *overrides]
    subprocess.run([sys.executable, "-m", "metastar", *words], check=True)
    num = int(fields["num_seeds"])
    return [workdir / "seeds" / str(k) for k in range(num)] if num > 1 else [workdir]


def run(folder: Path, config: str, fields: dict) -> dict:
    """Trains one cell; returns its curves: updates [P], seconds [P], few-shot returns [S, P]."""
    folders = train(folder, config, fields)
    found = [curve(folder) for folder in folders]
    first = cells.read(folders[0], "results.json")
    return {
        "updates": found[0][0],
        "seconds": found[0][1],
        "few_shot": [returns for *_, returns in found],
        "random": first["bounds"]["random"],
        "commit": first["commit"],
    }


def curve(folder: Path) -> tuple[list[int], list[float], list[float]]:
    """Updates and seconds of a run's last phase, and few-shot return, at every evaluation."""
    rows = [row for row in metrics.read_rows(folder / "metrics.jsonl") if "phase" in row]
    rows = [row for row in rows if row["phase"] == rows[-1]["phase"]]
    steps = np.array([row["step"] for row in rows])
    updates = steps - (steps[-1] - workdir.read_config(folder).train.updates)
    rates = [row["updates_per_second"] for row in rows]
    seconds = np.cumsum(np.diff(updates, prepend=0) / rates)
    scored = ["eval/few_shot" in row for row in rows]
    returns = [row["eval/few_shot"] for row in rows if "eval/few_shot" in row]
    return updates[scored].tolist(), seconds[scored].tolist(), returns


def ends(report: dict) -> dict[str, np.ndarray]:
    """The mean of the last three evaluations of every seed, by cell."""
    return {n: np.array(c["few_shot"])[:, -3:].mean(1) for n, c in report["cells"].items()}


def table(report: dict) -> str:
    """One line per cell."""
    head = ("CQL penalty", "ms per update", "return at the end", "seeds from to")
    rows = [(*head, f"updates to {REACHED:.0%}", f"seconds to {REACHED:.0%}")]
    best = max(last.mean() for last in ends(report).values())
    for (name, cell), last in zip(report["cells"].items(), ends(report).values()):
        returns = np.array(cell["few_shot"]).mean(0)
        there = returns >= cell["random"] + REACHED * (best - cell["random"])
        at = [f"{cell[unit][np.argmax(there)]:.0f}" for unit in ("updates", "seconds")]
        rows.append(
            (
                name,
                f"{1e3 * cell['seconds'][-1] / cell['updates'][-1] / len(last):.1f}",
                f"{last.mean():.1f}",
                f"{last.min():.1f} to {last.max():.1f}",
                *(at if there.any() else ("–", "–")),
            )
        )
    machine = report["machine"]
    note = (
        f"`{report['method']}` on `{report['family']}:quick`, {report['num_seeds']} seeds in one "
        f"program on {machine['cpu']}, {machine['cores']} cores. Time is per update of one seed; "
        "the end is the mean of the last three evaluations; the time to 90 % is that of all seeds "
        "together until their mean is so far from uniform actions to the best end of the table. "
        f"Command: `{report['command']}`"
    )
    return f"{tables.markdown(rows)}\n\n{note}\n"


def figure(report: dict) -> Figure:
    """Return over seconds of training: the mean of the seeds, and all between the extremes."""
    canvas = Figure(figsize=(8, 4), layout="constrained")
    axes = canvas.subplots()
    for name, cell in report["cells"].items():
        returns = np.array(cell["few_shot"])
        (line,) = axes.plot(cell["seconds"], returns.mean(0), label=name)
        low, high = returns.min(0), returns.max(0)
        axes.fill_between(cell["seconds"], low, high, color=line.get_color(), alpha=0.12, lw=0)
    axes.set(xscale="log", xlabel="seconds of training, all seeds", ylabel="few-shot return")
    axes.legend(frameon=False, fontsize=8)
    return canvas


def _change(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is not FIELD=VALUE")
    return name, value


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    families = ("point_robot_sparse", "cheetah_vel")
    parser.add_argument("--family", default=families[0], choices=families)
    parser.add_argument("--num-seeds", type=int, default=3, metavar="S", help="seeds 0 to S - 1")
    parser.add_argument("--cells", nargs="+", default=list(CELLS), choices=list(CELLS))
    parser.add_argument("--set", nargs="+", default=[], type=_change, metavar="FIELD=VALUE")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="where workdirs go")
    parser.add_argument("--method", default="oracle", choices=("oracle", *PRETRAINING))
    args = parser.parse_args()
    label = f"critics_{args.family}" + f"_{args.method}" * (args.method != "oracle")
    label += f"_{args.num_seeds}_seeds" * (args.num_seeds != parser.get_default("num_seeds"))
    report = {
        "family": args.family,
        "method": args.method,
        "num_seeds": args.num_seeds,
        "machine": bench_report.machine(),
        "versions": provenance.versions(),
        "command": shlex.join(["python", "experiments/critics.py", *sys.argv[1:]]),
        "cells": {},
    }
    shared = {**SHARED, "num_seeds": args.num_seeds}
    config = f"configs/{args.method}.py:{args.family},quick"
    pretrained = {}
    for name in args.cells:
        folder = args.runs / label / variant(name)
        fields = {**shared, **CELLS[name], **pretrained, **dict(args.set)}
        report["cells"][name] = run(folder, config, fields)
        if args.method in PRETRAINING:
            pretrained = pretrained or {"train.pretrained": folder}
    out = cells.RESULTS / label
    files.write_json(out.with_suffix(".json"), report)
    drawn = io.BytesIO()
    figure(report).savefig(drawn, format="png")
    files.write_atomic(out.with_suffix(".png"), drawn.getvalue())
    tables.insert(PAGE, label, table(report))
    print(table(report))


if __name__ == "__main__":
    main()
