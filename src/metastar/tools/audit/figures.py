"""The figures of an audit; each function returns a matplotlib `Figure`, or None if it is empty."""

import io
from itertools import cycle, product
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from metastar import files
from metastar.errors import UserError
from metastar.tools.audit import parts
from metastar.tools.audit.codes import Codes
from metastar.tools.report import figures

CAPTIONS = {
    "audit_codes": "Task codes less their task's mean, in the plane of their two largest principal "
    "components; colour is the source of the context, large marks are the sources' means. A code "
    "that tells the task alone leaves one cloud around the origin.",
    "audit_sources": "*Relative energy distance*: between the codes of one task under two sources, "
    "in units of the distance between tasks, with the share of tasks where it is significant; on "
    "the diagonal between two halves of one source. *Error of the task probe*: of a linear probe "
    "for the task parameters, trained on one source and tested on another, on tasks held out.",
    "audit_probes": "All sources. *Which source?*: how often the source is told from a code, with "
    "its upper 95 % bound; dashes are shuffled labels, dots chance. *What else?*: R² of linear "
    "probes for what the policy did in the window and for the task parameters.",
    "audit_cost": "Few-shot return on test tasks by the source of the context.",
}
COLORS = (figures.GREY, figures.BLUE, figures.ORANGE, figures.GREEN, figures.PURPLE, "#c23b5a")
DOTS = 2000  # per panel


def write(workdir: Path, report: dict, codes: Codes, side: np.ndarray) -> list[str]:
    """Draws every figure into `figures/`; returns their paths from the workdir.

    Args:
        workdir: the run's folder.
        report: what `audit.json` holds.
        codes: of N tasks.
        side: [N] the name of the split that each task belongs to.

    Raises:
        UserError: the folder is read-only.
    """
    try:
        (workdir / figures.FOLDER).mkdir(exist_ok=True)
    except OSError as error:
        raise UserError(
            f"cannot write in {str(workdir)!r} ({error.strerror}); make the folder writable"
        ) from None
    with matplotlib.rc_context(figures.STYLE):
        drawn = {
            "audit_codes": within_task(codes, side, report["sources"]),
            "audit_sources": matrices(report["splits"]),
            "audit_probes": probes(report["splits"]),
            "audit_cost": cost(report["cost"]),
        }
        drawn = {f"{figures.FOLDER}/{k}.png": v for k, v in drawn.items() if v is not None}
        for name, figure in drawn.items():
            buffer = io.BytesIO()
            figure.savefig(buffer, format="png")
            files.save(workdir / name, buffer.getvalue())
    return list(drawn)


def within_task(codes: Codes, side: np.ndarray, names: list[str]) -> Figure | None:
    """Codes less their task's mean, by source, in one plane for all splits."""
    keep = codes.keep
    if not keep.any() or len(names) < 2:
        return None
    offset = codes.code - parts.task_means(codes.code, keep)[:, None, None]
    plane, share = figures.principal_plane(offset[keep])
    points = np.full((*keep.shape, 2), np.nan)
    points[keep] = plane
    found = [name for name in ("train", "test") if keep[side == name].any()]
    figure = Figure(figsize=(4.8 * len(found) + 0.5, 4.8), layout="constrained")
    axes = figure.subplots(1, len(found), sharex=True, sharey=True, squeeze=False)[0]
    rng = np.random.default_rng(0)
    for axis, split in zip(axes, found):
        for k, (name, color) in enumerate(zip(names, cycle(COLORS))):
            dots = points[side == split, k][keep[side == split, k]]
            if not len(dots):
                continue
            shown = rng.permutation(len(dots))[: DOTS // len(names)]
            axis.plot(*dots[shown].T, ".", ms=3, alpha=0.35, color=color)
            style = {"ms": 10, "mec": "white", "color": color, "zorder": 3}
            axis.plot(*dots.mean(0), figures.MARKERS[k % len(figures.MARKERS)], label=name, **style)
        axis.set(title=f"{split} tasks", xlabel=f"component 1 ({share[0]:.0%} of the variance)")
    axes[0].set_ylabel(f"component 2 ({share[1]:.0%})")
    shown = {}  # a source may have windows in one split alone
    for axis in axes:
        shown |= dict(zip(*reversed(axis.get_legend_handles_labels())))
    listed = [name for name in names if name in shown]
    handles = [shown[name] for name in listed]
    figure.legend(handles, listed, loc="outside lower center", ncols=4)
    return figure


def matrices(splits: dict) -> Figure | None:
    """Energy distances between sources, and the task probe across sources: a row for each split."""
    panels = {}
    for split, block in splits.items():
        energy, task = block["all"].get("energy", {}), block["all"].get("task", {})
        if "relative" in energy:
            title, small = f"{split} tasks: relative energy distance", energy["share_differing"]
            panel = (title, energy["sources"], energy["relative"], small, "source", "source")
            panels[split, "energy"] = panel
        if "rmse" in task:
            title = f"{split} tasks: error of the task probe"
            panel = (title, task["sources"], task["rmse"], None, "tested on", "trained on")
            panels[split, "task"] = panel
    if not panels:
        return None
    rows = [split for split in splits if any(key[0] == split for key in panels)]
    columns = [kind for kind in ("energy", "task") if any(key[1] == kind for key in panels)]
    size = max(3.4, 0.75 * max(len(panel[1]) for panel in panels.values()) + 1.6)
    figure = Figure(figsize=(len(columns) * (size + 0.8), len(rows) * size), layout="constrained")
    axes = figure.subplots(len(rows), len(columns), squeeze=False)
    for key, axis in zip(product(rows, columns), axes.flat):
        if key not in panels:
            axis.set_axis_off()
            continue
        title, names, value, small, across, down = panels[key]
        _draw_matrix(axis, names, np.array(value, float), small)
        axis.set(title=title, xlabel=across, ylabel=down)
    return figure


def probes(splits: dict) -> Figure | None:
    """Accuracies of the identity probes, and R² of the others, for each split."""
    identity, explained = [], []
    for split, block in splits.items():
        found = block["all"]
        for key, kind in (("identity", ""), ("identity_within_task", ", task removed")):
            part = found.get(key, {})
            for model in ("linear", "mlp"):
                if model in part:
                    identity.append((f"{split}: {model}{kind}", part["chance"], part[model]))
        for name, part in found.get("statistics", {}).items():
            if isinstance(part, dict) and "r2" in part["within_task"]:
                explained.append((f"{split}: {name}, task removed", part["within_task"]))
        for key, kind in (("task", ""), ("task_of_training", ", fitted on training")):
            if "linear" in found.get(key, {}):
                explained.append((f"{split}: task parameters{kind}", found[key]["linear"]))
    if not identity and not explained:
        return None
    panels = ((identity, _draw_identity), (explained, _draw_explained))
    panels = [(rows, draw) for rows, draw in panels if rows]
    height = 0.32 * max(len(rows) for rows, _ in panels) + 1.4
    figure = Figure(figsize=(5.5 * len(panels), height), layout="constrained")
    for axis, (rows, draw) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels):
        draw(axis, rows)
        axis.set_xlim(0, 1.02)
        axis.set_yticks(range(len(rows)), [row[0] for row in rows])
        axis.invert_yaxis()
        axis.grid(axis="y", visible=False)
    return figure


def cost(found: dict) -> Figure | None:
    """Returns by source of the context, between uniform random actions and the oracle."""
    if "by_source" not in found:
        return None
    names = list(found["by_source"])
    figure = Figure(figsize=(6, 0.35 * len(names) + 1.3), layout="constrained")
    axis = figure.subplots()
    axis.plot([found["by_source"][n]["return"] for n in names], range(len(names)), "o", ms=7)
    axis.axvline(found["random"], ls="--", lw=1, color=figures.GREY, label="uniform random actions")
    if found["oracle"] is not None:
        axis.axvline(found["oracle"], ls=":", lw=1.5, color="black", label="oracle")
    axis.set_yticks(range(len(names)), [f"{name} context" for name in names])
    axis.set(xlabel="few-shot return per episode", ylim=(len(names) - 0.5, -0.5))
    figure.legend(loc="outside lower center", ncols=2)
    return figure


def _draw_identity(axis, rows):
    """Accuracies with their upper bounds, in `rows` of (label, chance, scores)."""
    for row, (_, chance, part) in enumerate(rows):
        mean = part["accuracy"]
        axis.barh(row, mean, color=figures.BLUE, xerr=[[0], [part["upper95"] - mean]], height=0.6)
        axis.plot([part["shuffled"]] * 2, [row - 0.4, row + 0.4], "--", color="black", lw=1.5)
        axis.plot([chance] * 2, [row - 0.4, row + 0.4], ":", color=figures.ORANGE, lw=2)
    axis.set(title="which source?", xlabel="accuracy on tasks held out")


def _draw_explained(axis, rows):
    """R² with their intervals, in `rows` of (label, scores)."""
    for row, (_, part) in enumerate(rows):
        r2 = max(part["r2"], 0.0)  # worse than the mean is nothing explained
        low, high = np.clip(part["ci95"], 0, None)
        axis.barh(row, r2, color=figures.GREEN, height=0.6)
        axis.plot([low, high], [row, row], color="black", lw=1)
    axis.set(title="what else?", xlabel="R² on tasks held out (below 0: shown as 0)")


def _draw_matrix(axis, names, value, small):
    """A matrix of numbers with its values written in; `small` are shares below them, or None."""
    axis.imshow(np.ma.masked_invalid(value), cmap="Blues", vmin=0)
    top = max(np.nanmax(value), 1e-12)
    for i, j in np.argwhere(np.isfinite(value)):
        share = None if small is None else small[i][j]
        text = f"{value[i, j]:.2g}" + ("" if share is None else f"\n{share:.0%}")
        color = "white" if value[i, j] > 0.6 * top else "black"
        axis.text(j, i, text, ha="center", va="center", fontsize=7, color=color)
    axis.set_xticks(range(len(names)), names, rotation=40, ha="right")
    axis.set_yticks(range(len(names)), names)
    axis.grid(visible=False)
