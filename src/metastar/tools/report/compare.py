"""`metastar compare`: systems side by side, with intervals over tasks and seeds."""

import io
from collections.abc import Sequence
from itertools import cycle
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from metastar import files
from metastar.errors import UserError
from metastar.ops.statistics import percentile_interval, seed_task_interval, seed_task_means
from metastar.tools.report import codes, figures, groups, tables
from metastar.tools.report.groups import Group, Scores

FILE = "compare.md"
FIGURE = "compare.png"
COLORS = (figures.BLUE, figures.ORANGE, figures.PURPLE, "#b5495b", "#6b7a2f", "#3aa6b9")
LINES = {  # bound: name, colour, style
    "random": ("uniform random actions", figures.GREY, "--"),
    "behavior_best": ("best behaviour", "#a8863c", "-."),
    "oracle": ("oracle", "black", ":"),
    "optimum": ("analytic optimum", figures.GREEN, "--"),
}
NOTES = """\
- Every cell is a mean over seeds and held-out tasks with its 95 % interval, by a bootstrap that
  draws seeds and tasks with replacement: it speaks of tasks and seeds like these. With one seed it
  speaks of tasks only, and with a few it is too narrow about seeds.
- A difference is paired by task: where its interval leaves out 0, one group is better.
- *Cross-task contexts* were collected in the very task, by policies that had learned other tasks.
- *Gap closed* is 0 % for uniform random actions and 100 % for the oracle.
- *Last mean* and *drop* are of the last five evaluations during training: their mean, and the
  largest fall from one of them to a later one, each a mean over seeds. *Success* is the share of
  episodes (zero-shot: of streams) that met the goal, in families that have one.
- Bounds are means over runs: *best behaviour* is the mean return of each task's best behaviour
  policy and stage in the data set; the *oracle* is told the true task. The optimum is that of the
  evaluation's own starts; the other bounds are of the few-shot episodes, but for the oracle's where
  it is among the groups.
"""
CAPTION = (
    "Left: means over seeds and tasks with their 95 % intervals. Right: return on each held-out "
    "task, mean over seeds; bars span the seeds from the lowest to the highest."
)


def compare(sources: Sequence[str], out: str | Path) -> str:
    """Writes `compare.md` and `compare.png` into the folder `out`; returns the tables as text.

    Args:
        sources: workdirs with `results.json`, or such files.
        out: made if it is not there.

    Raises:
        UserError: the runs cannot be compared (`groups.read`), or the folder is not writable.
    """
    found = groups.read(sources)
    scores = groups.measure(found)
    out = Path(out)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"cannot write in {str(out)!r} ({error.strerror}); give another folder with --out"
        ) from None
    with matplotlib.rc_context(figures.STYLE):
        buffer = io.BytesIO()
        draw(found, scores).savefig(buffer, format="png")
    files.save(out / FIGURE, buffer.getvalue())

    first = found[0].runs[0].results
    kind = "test" if first["split"] == "test" else "withheld training"
    title = f"{first['family']}, {len(first['tasks']['ids'])} {kind} tasks"
    rows = table(found, scores)
    page, text = [f"# Comparison on {title}", tables.markdown(rows)], [title, tables.plain(rows)]
    if len(found) > 1:
        head, rows = f"Difference to {found[0].name}", differences(found, scores)
        page += [f"## {head}", tables.markdown(rows)]
        text += [f"{head}\n{tables.plain(rows)}"]
    page += ["## Stability and success", tables.markdown(steadiness(found))]
    text += [tables.plain(steadiness(found))]
    if rows := codes.table(found):
        page += ["## Codes", tables.markdown(rows), codes.NOTE]
        text += [f"Codes, by audit\n{tables.plain(rows)}"]
    page += [NOTES.rstrip(), f"![comparison]({FIGURE})", CAPTION]
    page += ["## Runs", tables.markdown(provenance(found))]
    files.save(out / FILE, "\n\n".join(page) + "\n")
    return "\n\n".join([*text, f"files in {out}: {FILE}, {FIGURE}"])


def table(found: Sequence[Group], scores: Sequence[Scores]) -> list[tuple[str, ...]]:
    """Rows of text cells: one of each group, then the bounds; "–" where not known."""
    shared = [s for s in scores if s.whole and s.oracle is not None]
    names = [s.name for s in scores] + [f"gap closed, {s.name}" for s in shared]
    rows = [("group", "seeds", "updates", *names)]
    for i, group in enumerate(found):
        cells = [_cell(s.groups[i].mean(), seed_task_interval(s.groups[i])) for s in scores]
        cells += [_percent(gap_closed(s, i)) for s in shared]
        rows.append((group.name, str(len(group.runs)), _updates(group), *cells))
    for key, (name, _, _) in LINES.items():
        bounds = [s.bounds[key] for s in scores]
        if any(value is not None for value in bounds):
            cells = ["–" if value is None else f"{value:.2f}" for value in bounds]
            rows.append((f"bound: {name}", "–", "–", *cells, *["–"] * len(shared)))
    return rows


def differences(found: Sequence[Group], scores: Sequence[Scores]) -> list[tuple[str, ...]]:
    """Rows of text cells: each further group's mean less that of the first, paired by task."""
    rows = [("group", *(s.name for s in scores))]
    for i, group in enumerate(found[1:], 1):
        cells = []
        for s in scores:
            first, own = seed_task_means([s.groups[0], s.groups[i]])
            difference = s.groups[i].mean() - s.groups[0].mean()
            cells.append(_cell(difference, percentile_interval(own - first), sign="+"))
        rows.append((group.name, *cells))
    return rows


def steadiness(found: Sequence[Group]) -> list[tuple[str, ...]]:
    """Rows of text cells: the last evaluations during training, and success; means over seeds.

    "–" where a run has no such number, for instance one evaluated before there was any.
    """

    def mean_of(group, *path):
        values = [run.results for run in group.runs]
        for key in path:
            values = [value.get(key) for value in values]
            if None in values:
                return None
        return float(np.mean(values))

    def text(value, form):
        return "–" if value is None else form.format(value)

    blocks = found[0].runs[0].results["protocols"]
    names = {name: blocks[name]["title"] for name in groups.protocols_of(found)}
    head = [f"{t}: {what}" for t in names.values() for what in ("last mean", "drop", "success")]
    rows = [("group", *head)]
    for group in found:
        cells = []
        for key in names:
            cells += [
                text(mean_of(group, "stability", key, what), "{:.2f}") for what in ("mean", "drop")
            ]
            cells.append(text(mean_of(group, "protocols", key, "success"), "{:.0%}"))
        rows.append((group.name, *cells))
    return rows


def gap_closed(scores: Scores, i: int) -> tuple[float, float, float] | None:
    """Share of the way from random actions to the oracle: (mean - random) / (oracle - random).

    Returns:
        The share of group i with the ends of its interval; None for the oracle itself, and where
        the oracle is not above random actions in every resample.
    """
    own, oracle, random = scores.groups[i], scores.oracle, scores.bounds["random"]
    if own is oracle:
        return None
    own_means, oracle_means = seed_task_means([own, oracle])
    if (oracle_means <= random).any():
        return None
    share = (own.mean() - random) / (oracle.mean() - random)
    low, high = percentile_interval((own_means - random) / (oracle_means - random))
    return float(share), low, high


def provenance(found: Sequence[Group]) -> list[tuple[str, ...]]:
    """Rows of text cells, one of each run."""
    rows = [("run", "group", "seed", "updates", "minutes", "commit")]
    for group in found:
        for run in group.runs:
            found = run.results
            minutes = f"{found['wall_seconds'] / 60:.1f}"
            numbers = (str(found["seed"]), str(found["updates"]), minutes)
            rows.append((run.source, group.name, *numbers, found["commit"]))
    return rows


def draw(found: Sequence[Group], scores: Sequence[Scores]) -> Figure:
    """The groups' means with intervals beside their returns by task, for each protocol."""
    shown = [s for s in scores if s.whole]
    figure = Figure(figsize=(11, 3.4 * len(shown) + 0.8), layout="constrained")
    axes = figure.subplots(len(shown), 2, sharey="row", width_ratios=[1, 2.6], squeeze=False)
    for (left, right), s in zip(axes, shown):
        for key, (name, color, style) in LINES.items():
            if s.bounds[key] is not None:
                for axis in (left, right):
                    axis.axhline(s.bounds[key], color=color, ls=style, lw=1.2, label=name)
        looks = zip(s.groups, cycle(COLORS), cycle(figures.MARKERS))
        for i, (values, color, marker) in enumerate(looks):
            look = {"color": color, "fmt": marker, "ms": 5, "lw": 1.2, "label": found[i].name}
            mean, (low, high) = values.mean(), seed_task_interval(values)
            _bar(left, np.array([i]), mean, low, high, **look)
            shift = (i - (len(found) - 1) / 2) * 0.6 / len(found)
            tasks = np.arange(len(s.task_id)) + shift
            _bar(right, tasks, values.mean(0), values.min(0), values.max(0), **look)
        left.set(title=s.name, ylabel="return per episode", xticks=[], xlim=(-1, len(found)))
        right.set(title=f"{s.name}, by task", xlim=(-0.7, len(s.task_id) - 0.3))
        small = {"fontsize": 7, "rotation": 90} if len(s.task_id) > 20 else {}
        right.set_xticks(range(len(s.task_id)), map(str, s.task_id), **small)
        right.grid(axis="x", visible=False)
    axes[-1, 1].set_xlabel("held-out task")
    legend = dict(zip(*axes[0, 0].get_legend_handles_labels()[::-1]))
    figure.legend(legend.values(), legend.keys(), loc="outside lower center", ncols=5)
    return figure


def _bar(axis, at, mean, low, high, **look):
    """Points with bars from `low` to `high`; rounding may put the mean just outside."""
    errors = np.maximum(np.stack([mean - low, high - mean]), 0)
    axis.errorbar(at, mean, errors.reshape(2, -1), ls="none", **look)


def _cell(mean, interval, sign=""):
    low, high = interval
    return f"{mean:{sign}.2f} ({low:{sign}.2f} to {high:{sign}.2f})"


def _percent(share):
    if share is None:
        return "–"
    mean, low, high = (100 * x for x in share)
    return f"{mean:.0f} % ({low:.0f} to {high:.0f})"


def _updates(group):
    counts = {run.results["updates"] for run in group.runs}
    return " to ".join(map(str, sorted({min(counts), max(counts)})))
