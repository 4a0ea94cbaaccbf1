"""The figures of a report, drawn from a workdir's files alone: no JAX, no display.

Every function takes plain arrays (names as in `results.write_arrays`) and returns a matplotlib
`Figure`, or None where the run has nothing to draw.
"""

import io
from itertools import cycle, pairwise
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Circle

from metastar import files
from metastar.errors import UserError, explain
from metastar.evaluation import results
from metastar.training import metrics

FOLDER = "figures"
CAPTIONS = {
    "learning_curves": "Returns in the evaluations during training, and every training metric.",
    "return_by_task": "Return of every task over its parameter. Bars span the windows or streams "
    "of a task from the lower to the upper quartile; the lines are averaged over the starts of "
    "the blue points.",
    "task_codes": "Task codes, one dot per context window, in the plane of their two largest "
    "principal components; colour is the task's parameter, shape the behaviour policy "
    "and stage that made the window. Both panels share the components.",
    "trajectories": "Paths on held-out tasks. Few-shot: blue from a context with reward, orange "
    "from one without. Zero-shot: grey is episode 1 (with the random warm-up), blue the last. "
    "Dots are starts, circles goals.",
}
BLUE, ORANGE, GREEN, PURPLE = "#2066a8", "#e07b24", "#2f9e6b", "#8d5fb0"
GREY = "#8c8c8c"
CURVE_COLORS = {
    "few shot": BLUE,
    "few shot informative": PURPLE,
    "zero shot": ORANGE,
    "train few shot": GREY,
}
MARKERS = "osD^vP*X"
LOOKS = ((BLUE, "o"), (ORANGE, "s"), ("#b5495b", "D"), ("#6b7a2f", "^"), ("#3aa6b9", "P"))
STYLE = {
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e6e6e6",
    "axes.axisbelow": True,
    "legend.frameon": False,
    "savefig.dpi": 130,
    "text.parse_math": False,  # names are names, also those with a dollar
}


def write(workdir: str | Path) -> list[str]:
    """Draws every figure of a run into `figures/`; returns the names of those there are.

    Raises `UserError` if the run has not been evaluated, the folder is read-only, or
    `evaluation.npz` holds other arrays than the figures show.
    """
    workdir = Path(workdir)
    report, arrays = results.read(workdir), results.read_arrays(workdir)
    rows = metrics.read_rows(workdir / metrics.FILE)
    try:
        with matplotlib.rc_context(STYLE):
            drawn = _drawn(rows, report["bounds"], arrays)
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"the figures of {workdir} cannot be drawn from {results.ARRAYS_FILE} "
            f"({explain(error)}); run `metastar evaluate --workdir={workdir}` again"
        ) from error
    for name, content in drawn.items():
        files.save(workdir / FOLDER / f"{name}.png", content)
    return list(drawn)


def _drawn(rows: list[dict], bounds: dict, arrays: dict) -> dict[str, bytes]:
    """Every figure that there is, as PNG."""
    found = {
        "learning_curves": learning_curves(rows, bounds),
        "return_by_task": return_by_task(arrays),
        "task_codes": task_codes(arrays),
        "trajectories": trajectories(arrays),
    }
    drawn = {}
    for name, figure in found.items():
        if figure is not None:
            buffer = io.BytesIO()
            figure.savefig(buffer, format="png")
            drawn[name] = buffer.getvalue()
    return drawn


def learning_curves(rows: list[dict], bounds: dict) -> Figure | None:
    """Evaluation returns with the bounds, above a small plot of each training metric."""
    names = sorted({k for row in rows for k, v in row.items() if _is_metric(k, v)})
    evaluations = [n for n in names if n.startswith("eval/")]
    terms = [n for n in names if not n.startswith("eval/")]
    if not names:
        return None
    columns = 4
    lines = -(-len(terms) // columns)
    figure = Figure(figsize=(11, 3.6 + 1.7 * lines), layout="constrained")
    grid = figure.add_gridspec(lines + 1, columns, height_ratios=[2.2] + [1] * lines)
    axis = figure.add_subplot(grid[0, :])
    for name in evaluations:
        label = name.removeprefix("eval/").replace("_", " ")
        axis.plot(*_series(rows, name), ".-", color=CURVE_COLORS.get(label), label=label)
    lines_of = (("optimum", GREEN, "--"), ("oracle", "black", ":"), ("random", GREY, "--"))
    for name, color, style in lines_of:
        if bounds[name] is not None:
            axis.axhline(bounds[name], color=color, ls=style, lw=1, label=name)
    axis.set(title="evaluation during training", xlabel="updates", ylabel="mean return per episode")
    axis.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    for i, name in enumerate(terms):
        small = figure.add_subplot(grid[1 + i // columns, i % columns])
        small.plot(*_series(rows, name), ".-", color=BLUE, lw=1, ms=2)
        small.set_title(name.replace("_", " "))
        small.tick_params(labelsize=7)
        small.set_xlabel("updates", fontsize=7)
    changes = [a["step"] for a, b in pairwise(rows) if a.get("phase") != b.get("phase")]
    for axis in figure.axes:
        axis.set_xlim(0, rows[-1]["step"])
        for step in changes:
            axis.axvline(step, color=GREY, lw=0.7, ls=":")
    return figure


def return_by_task(arrays: dict) -> Figure:
    """Return of each task over its parameter under every protocol, with the first one's bounds."""
    label, train = arrays["label"], arrays["split"] == "train"
    protocols = of_protocols(arrays)
    first = protocols[0]
    counted, kinds = np.isfinite(first["return"]), []
    for own, (color, marker) in zip(protocols, cycle(LOOKS)):
        title, score = str(own["title"]), own["return"]
        rewarded = own.get("rewarded", np.zeros(0))
        if not rewarded.size:
            kinds.append((title, score, color, marker))
            continue
        counted = rewarded if own is first else counted
        kinds += [
            (f"{title}, window with reward", np.where(rewarded, score, np.nan), color, marker),
            (f"{title}, without", np.where(rewarded, np.nan, score), PURPLE, "v"),
        ]
    figure = Figure(figsize=(9.5, 4.4), layout="constrained")
    axis = figure.add_subplot()
    order = [n for n in np.argsort(label) if counted[n].any()]
    bounds = (("optimum", GREEN, "optimum"), ("random_return", GREY, "uniform random actions"))
    for field, color, name in bounds:
        line = [first[field][n][counted[n]].mean() for n in order]
        if np.isfinite(line).all():
            axis.plot(label[order], line, color=color, lw=1.2, label=f"{name}, same starts")
    _draw_scores(axis, label, kinds[0][1], train, color=GREY, fmt="o", mfc="none", ms=4,
                 label=f"{kinds[0][0]}, training task", bars=False)  # fmt: skip
    for i, (name, score, color, marker) in enumerate(kinds):
        shift = (i - (len(kinds) - 1) / 2) * 0.006 * np.ptp(label)
        _draw_scores(axis, label + shift, score, ~train, color=color, fmt=marker, ms=5, label=name)
    if arrays["oracle_per_task"].size:
        at = label[arrays["split"] == "test"]
        axis.plot(at, arrays["oracle_per_task"], "k_", ms=12, label=f"oracle, {first['title']}")
    axis.set(xlabel=str(arrays["label_name"]), ylabel="return per episode")
    axis.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def task_codes(arrays: dict) -> Figure | None:
    """Codes of contexts of every source in the plane of their principal components."""
    own = next((own for own in of_protocols(arrays) if "source_code" in own), None)
    if own is None or not own["source_present"].any() or own["source_code"].shape[-1] == 0:
        return None
    present, code = own["source_present"], own["source_code"].astype(float)
    plane, share = principal_plane(code[present])
    points = np.full((*present.shape, 2), np.nan)
    points[present] = plane
    label = np.broadcast_to(arrays["label"][:, None], present.shape[1:])
    figure = Figure(figsize=(10.5, 4.6), layout="constrained")
    axes = figure.subplots(1, 2, sharex=True, sharey=True)
    limits = {"vmin": label.min(), "vmax": label.max(), "cmap": "viridis"}
    train = arrays["split"] == "train"
    splits = (("training tasks", train), ("held-out tasks", ~train))
    for axis, (title, rows) in zip(axes, splits):
        for source, marker in zip(range(len(present)), cycle(MARKERS)):
            xy = points[source, rows].reshape(-1, 2)
            drawn = axis.scatter(
                *xy.T, c=label[rows].ravel(), marker=marker, s=14, alpha=0.75, lw=0, **limits
            )
            name = str(own["sources"][source])
            axis.scatter([], [], c=GREY, marker=marker, s=20, label=f"{name} context")
        axis.set(title=title, xlabel=f"component 1 ({share[0]:.0%} of the variance)")
    axes[0].set_ylabel(f"component 2 ({share[1]:.0%} of the variance)")
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels))
    figure.colorbar(drawn, ax=axes, label=str(arrays["label_name"]))
    return figure


def trajectories(arrays: dict) -> Figure | None:
    """Paths under every protocol on up to five held-out tasks, with their goals."""
    protocols = [own for own in of_protocols(arrays) if "path" in own]
    if arrays["goal"].shape[-1:] != (2,) or not protocols or protocols[0]["path"].shape[-1] < 2:
        return None
    heldout = np.flatnonzero(arrays["split"] != "train")
    order = heldout[np.argsort(arrays["label"][heldout])]
    shown = order[np.linspace(0, len(order) - 1, min(5, len(order))).round().astype(int)]
    size = 2.6 * len(shown) + 0.6, 2.2 * len(protocols)
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(len(protocols), len(shown), sharex=True, sharey=True, squeeze=False)
    for row, own in zip(axes, protocols):
        for axis, task in zip(row, shown):
            _draw_paths(axis, own, task)
            goal, radius = arrays["goal"][task], float(arrays["goal_radius"])
            axis.add_patch(Circle(goal, radius, color=GREEN, alpha=0.35, lw=0))
            axis.set_aspect("equal")
        row[0].set_ylabel(f"{own['title']}\ny [length units]")
    for axis, task in zip(axes[0], shown):
        axis.set_title(f"task {arrays['task_id'][task]}")
    for axis in axes[-1]:
        axis.set_xlabel("x [length units]")
    return figure


def of_protocols(arrays: dict) -> list[dict]:
    """The arrays of each protocol by their names in `measure.make_measure`."""
    return [
        {k.removeprefix(f"{name}_"): x for k, x in arrays.items() if k.startswith(f"{name}_")}
        for name in arrays["protocols"]
    ]


def _draw_paths(axis, own, task):
    """The first episode of each stream, grey with the last one where it gathers its context."""
    rewarded = own.get("rewarded", np.zeros(0))
    for i, path in enumerate(own["path"][task]):
        if "first_return" in own:
            _draw_path(axis, path[0], GREY, lw=0.6)
            _draw_path(axis, path[-1], BLUE)
        else:
            seen = not rewarded.size or rewarded[task, i]
            _draw_path(axis, path[0], BLUE if seen else ORANGE)


def principal_plane(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Projects points [n, d] on their two leading principal components, by SVD.

    Returns:
        The projections [n, 2] of the centred points, and the shares [2] of the variance that the
        components hold. A direction that does not exist (d = 1, equal points) is zero.
    """
    centred = x - x.mean(0)
    _, size, directions = np.linalg.svd(centred, full_matrices=False)
    plane = np.zeros((len(x), 2))
    share = np.zeros(2)
    found = min(2, len(size))
    plane[:, :found] = centred @ directions[:found].T
    share[:found] = size[:found] ** 2 / max(np.sum(size**2), np.finfo(float).tiny)
    return plane, share


def _draw_scores(axis, at, score, tasks, bars=True, **style):
    """Mean and quartiles over the scores of each of `tasks`; NaN are scores that do not count."""
    tasks = tasks & np.isfinite(score).any(1)
    if not tasks.any():
        return
    mean = np.nanmean(score[tasks], 1)
    low, high = np.nanpercentile(score[tasks], [25, 75], axis=1)
    errors = np.maximum([mean - low, high - mean], 0) if bars else None
    axis.errorbar(at[tasks], mean, errors, ls="none", lw=1, **style)


def _draw_path(axis, path, color, lw=1.0):
    axis.plot(path[:, 0], path[:, 1], color=color, lw=lw, alpha=0.8)
    axis.plot(*path[0, :2], ".", color=color, ms=5)


def _is_metric(name, value):
    return isinstance(value, float) and name not in ("step", *metrics.TIMES)


def _series(rows, name):
    points = [(row["step"], row[name]) for row in rows if isinstance(row.get(name), int | float)]
    return zip(*points)
