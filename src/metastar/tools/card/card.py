"""The data card: what a data set contains, as text and figures, to look at before training."""

import io
from pathlib import Path

import numpy as np

from metastar.data import store
from metastar.errors import UserError
from metastar.files import write_atomic
from metastar.tools.card.describe import describe
from metastar.tools.card.summary import (
    GRID,
    MIN_SAMPLE,
    Distances,
    Summary,
    distances,
    over_tasks,
    split_names,
    state_map,
    summarize,
)

TEXT, FIGURE, COVERAGE = "data_card.txt", "data_card.png", "data_coverage.png"
_QUANTILES = (0, 0.05, 0.25, 0.5, 0.75, 0.95, 1)


def verify(path: str | Path) -> str:
    """Checks every hash and every rule of a data set.

    Returns a sentence for the terminal; raises `UserError` as `store.verify` does.
    """
    _, manifest, fields = store.verify(path)
    return (
        f"{path}: every SHA-256 agrees; {len(fields['episodes'])} tasks of {manifest.family} x "
        f"{_sizes(fields)}"
    )


def inspect(path: str | Path, out: str | Path) -> str:
    """Verifies a data set and writes its card: `data_card.txt` and two figures.

    Args:
        path: folder of the data set.
        out: folder of the card; made if it is missing.

    Returns:
        The text of the card.

    Raises:
        UserError: the data set is damaged, or `out` cannot be written.
    """
    import matplotlib

    from metastar.tools.card import figures as card_figures

    _, manifest, fields = store.verify(path)
    window = manifest.env_spec.max_episode_steps // 2
    summary = summarize(fields, manifest.policies, manifest.stages, window)
    num = len(summary.sources)
    apart = distances(fields, summary.source, num)
    text = _text(path, manifest, fields, summary, apart)
    states = state_map(fields, summary.source, num)
    drawn = {}
    with matplotlib.rc_context({"text.parse_math": False}):  # names are names
        figures = {
            FIGURE: card_figures.overview(manifest, fields, summary),
            COVERAGE: card_figures.coverage(manifest, summary, states, apart),
        }
        for name, figure in figures.items():
            buffer = io.BytesIO()
            figure.savefig(buffer, dpi=110, format="png")
            drawn[name] = buffer.getvalue()
    try:
        Path(out).mkdir(parents=True, exist_ok=True)
        for name, content in drawn.items():
            write_atomic(Path(out) / name, content)
        write_atomic(Path(out) / TEXT, text)
    except OSError as error:
        raise UserError(
            f"cannot write the data card to {out} ({error.strerror}); choose another folder"
        ) from error
    return f"{text}figures: {Path(out) / FIGURE}, {Path(out) / COVERAGE}"


def _text(path, manifest, fields, summary: Summary, apart: Distances | None) -> str:
    """The card in words and tables."""
    label, values, sparse, _ = describe(manifest)
    parts = ", ".join(f"{len(manifest.split[name])} {name}" for name in split_names(manifest.split))
    lines = [
        f"data set {path}",
        f"family {manifest.family}: {len(values)} tasks ({parts}) x {_sizes(fields)}",
        f"made by {manifest.origin}" + (f", from {manifest.source}" if manifest.source else ""),
        "",
        *_source_table(summary),
    ]
    if sparse:
        lines.append(
            f"windows of {summary.window} steps with reward: {summary.rewarded.mean():.1%} "
            f"(tasks from {summary.rewarded.min():.1%} to {summary.rewarded.max():.1%})"
        )
    names = [source.name for source in summary.sources]
    lines += ["", *_distance_tables(names, apart)]
    return "\n".join([*lines, "", *_task_table(manifest.split, label, values, sparse, summary), ""])


def _source_table(summary: Summary) -> list[str]:
    """A line per source: episodes per task, quantiles of the return, coverage."""
    width = max(len("source"), *(len(source.name) for source in summary.sources))
    lines = [
        "return by source (which policy acted, at which stage of its learning), all tasks",
        f"{'source':>{width}}   episodes {'mean':>8} "
        + " ".join(_percent_name(q) for q in _QUANTILES)
        + "  coverage",
    ]
    for k, source in enumerate(summary.sources):
        here = summary.source == k
        episodes, chosen = here.sum(1), summary.returns[here]
        count = "-".join(str(n) for n in sorted({episodes.min(), episodes.max()}))
        quantiles = " ".join(f"{q:8.2f}" for q in np.quantile(chosen, _QUANTILES))
        lines.append(
            f"{source.name:>{width}} {count:>10} {chosen.mean():8.2f} {quantiles}  "
            f"{summary.coverage[episodes > 0, k].mean():8.0%}"
        )
    return [
        *lines,
        "episodes: per task, from the fewest to the most",
        f"coverage: cells of a {GRID} x {GRID} grid over the first two observation dimensions "
        "that one task visits, mean over the tasks with this source",
    ]


def _distance_tables(names: list[str], apart: Distances | None) -> list[str]:
    """Mean and range over tasks of the distance of every two sources."""
    if len(names) == 1:
        return ["distances between behaviours cannot be computed: there is only one behaviour"]
    if apart is None:
        return [
            "distances between behaviours cannot be computed: no task has two sources with "
            f"{2 * MIN_SAMPLE} transitions or more"
        ]
    mean, low, high, count = over_tasks(apart.value)
    means = [[f"{m:.2f}" if n else "-" for m, n in zip(*rows)] for rows in zip(mean, count)]
    ranges = [
        [f"{a:.2f}-{b:.2f}" if n else "-" for a, b, n in zip(*rows)]
        for rows in zip(low, high, count)
    ]
    lines = [
        f"distance between sources: 2-Wasserstein of {apart.num} state-action pairs each, in "
        "standard deviations",
        "diagonal: two samples of one source, the least that so many pairs can show",
        *_matrix("mean over tasks", names, means),
        *_matrix("least and largest of a task", names, ranges),
    ]
    if (count < len(apart.value)).any():
        counts = [[str(n) for n in row] for row in count]
        lines += _matrix(f"tasks that have both, of {len(apart.value)}", names, counts)
    return lines


def _matrix(title: str, names: list[str], cells: list[list[str]]) -> list[str]:
    """A table of pairs of sources; columns are named by number to stay narrow."""
    left = max(len(title), *(len(f"{i} {name}") for i, name in enumerate(names, 1)))
    width = max(len(cell) for row in cells for cell in row) + 2
    lines = [f"{title:<{left}}" + "".join(f"{i:>{width}}" for i in range(1, len(names) + 1))]
    for i, (name, row) in enumerate(zip(names, cells), 1):
        lines.append(f"{f'{i} {name}':<{left}}" + "".join(f"{cell:>{width}}" for cell in row))
    return lines


def _task_table(split, label: str, values, sparse: bool, summary: Summary) -> list[str]:
    """A line per task: its number, and quartiles of its return by source."""
    part = {n: name for name in split_names(split) for n in split[name]}
    width = max(5, *(len(name) for name in part.values()))
    names = [source.name for source in summary.sources]
    quantiles = (0.25, 0.5, 0.75) if len(names) <= 3 else (0.5,)  # else lines would be too long
    what = "lower quartile, median, upper quartile" if len(quantiles) > 1 else "median"
    cell = max(8 * len(quantiles), 2 + max(len(name) for name in names))
    lines = [
        f"return by task and source: {what}",
        f"task {'split':{width}} {label:>18}"
        + "".join(f"{name:>{cell}}" for name in names)
        + ("  windows with reward" if sparse else ""),
    ]
    for n, value in enumerate(values):
        line = f"{n:4d} {part[n]:{width}} {value:18.3f}"
        for k in range(len(names)):
            chosen = summary.returns[n, summary.source[n] == k]
            found = np.quantile(chosen, quantiles) if chosen.size else ()
            line += f"{''.join(f'{q:8.2f}' for q in found) or '-':>{cell}}"
        lines.append(line + (f"{summary.rewarded[n]:21.0%}" if sparse else ""))
    return lines


def _sizes(fields: dict[str, np.ndarray]) -> str:
    """Episodes of a task, from the fewest to the most, and transitions of all."""
    ends = sorted({int(fields["episodes"].min()), int(fields["episodes"].max())})
    return f"{'-'.join(map(str, ends))} episodes, {int(fields['length'].sum()):,} transitions"


def _percent_name(quantile: float) -> str:
    return {0: "     min", 0.5: "  median", 1: "     max"}.get(quantile, f"{quantile:8.0%}")
