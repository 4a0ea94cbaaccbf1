"""The figures of the data card; each function returns a matplotlib `Figure`, no display needed."""

from collections.abc import Sequence

import numpy as np
from matplotlib.colors import LogNorm, to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from metastar.data import layout
from metastar.data.sources import Source
from metastar.data.store import Manifest
from metastar.tools.card.describe import describe
from metastar.tools.card.summary import Distances, StateMap, Summary, over_tasks, span, split_names

HUES = ("#7a7a7a", "#2066a8", "#e07b24", "#2f9e6b", "#8d5fb0", "#c23b5a")
MARKERS = "osD^vP*X"
DOTS = 4000  # of one source in the plot of the states


def overview(manifest: Manifest, fields: dict[str, np.ndarray], summary: Summary) -> Figure:
    """Learning, return by task, states seen, and windows with reward or returns."""
    label, values, sparse, goal = describe(manifest)
    names, colors = [s.name for s in summary.sources], source_colors(summary.sources)
    figure = Figure(figsize=(11, 8.5), layout="constrained")
    figure.suptitle(f"Data set of {manifest.family}: {len(values)} tasks")
    learning, by_task, states, last = figure.subplots(2, 2).flat
    _draw_learning(learning, manifest.policies, summary, colors)
    _draw_by_task(by_task, values, summary, colors)
    by_task.set_xlabel(label)
    _draw_states(states, fields, summary, colors)
    if goal is not None:
        states.scatter(*goal.T, marker="*", s=25, color="crimson", label="goal")
        states.legend(markerscale=2, loc="lower left")
    if sparse:
        for name, marker in zip(split_names(manifest.split), MARKERS):
            ids = manifest.split[name]
            last.plot(values[ids], summary.rewarded[ids], marker, label=name)
        title = f"Share of {summary.window}-step windows with reward"
        last.set(title=title, xlabel=label, ylabel="share", ylim=(0, 1))
        last.legend()
    else:
        returns = [summary.returns[summary.source == k] for k in range(len(names))]
        last.hist(returns, bins=40, stacked=True, color=colors)
        last.set(title="Returns", xlabel="return", ylabel="episodes")
    dots = [Line2D([], [], ls="none", marker="o", color=color) for color in colors]
    figure.legend(dots, names, loc="outside lower center", ncols=min(4, len(names)))
    return figure


def coverage(
    manifest: Manifest, summary: Summary, states: StateMap, apart: Distances | None
) -> Figure:
    """Where each source's states lie, on common axes, and how far apart the sources act."""
    names = [source.name for source in summary.sources]
    num = len(names)
    columns = num if num <= 3 else min(4, -(-num // 2))
    rows = -(-num // columns)
    widths = [2.6 * columns + 1] + [0.55 * num + 2.2] * (apart is not None)
    figure = Figure(figsize=(sum(widths), max(2.5 * rows + 0.8, 3.6)), layout="constrained")
    left, *right = figure.subfigures(1, len(widths), width_ratios=widths, squeeze=False)[0]
    left.suptitle(f"States of {manifest.family} by source, all tasks")
    axes = left.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    norm = LogNorm(1, max(10, states.count.max()))
    for axis, name, count in zip(axes.flat, names, states.count):
        # Cells that nobody visited stay white.
        cells = np.ma.masked_equal(count.T, 0)
        drawn = axis.pcolormesh(*states.edges, cells, norm=norm, cmap="viridis_r")
        axis.set_title(name, fontsize="medium")
    for axis in axes.flat[num:]:
        axis.set_axis_off()
    bar = left.colorbar(drawn, ax=axes, label="states in a cell", format="%g")
    bar.ax.minorticks_off()
    left.supxlabel(states.labels[0], fontsize="medium")
    left.supylabel(states.labels[1], fontsize="medium")
    if apart is not None:
        _draw_matrix(right[0].subplots(), names, apart)
    return figure


def source_colors(found: Sequence[Source]) -> list[tuple]:
    """A hue for each policy; the stages of one policy go from light to full, in their order."""
    colors = []
    for source in found:
        stages = [s.stage for s in found if s.policy == source.policy]
        full = (stages.index(source.stage) + 1) / len(stages)
        hue = np.array(to_rgb(HUES[source.policy % len(HUES)]))
        colors.append(tuple(1 - (0.4 + 0.6 * full) * (1 - hue)))
    return colors


def _draw_learning(axis, policies, summary: Summary, colors) -> None:
    """Return over the episodes in the order of the data, a line for each policy."""
    policy = np.array([s.policy for s in summary.sources] + [-1])[summary.source]
    last_color = {s.policy: color for s, color in zip(summary.sources, colors)}
    for p, color in last_color.items():
        here = policy == p
        there = here.any(0)
        returns = np.where(here, summary.returns, np.nan)[:, there]
        quantiles = np.full((3, len(there)), np.nan)  # a gap where others act in between
        quantiles[:, there] = np.nanquantile(returns, (0.1, 0.5, 0.9), axis=0)
        low, median, high = quantiles
        axis.fill_between(range(len(there)), low, high, color=color, alpha=0.25, lw=0)
        axis.plot(median, color=color, label=policies[p])
    axis.set(
        title="Return in time order (median over tasks, 10-90 %)",
        xlabel="episode",
        ylabel="return",
    )
    axis.legend()


def _draw_by_task(axis, values, summary: Summary, colors) -> None:
    """Median and quartiles of every task's return by source."""
    for k, color in enumerate(colors):
        here = summary.source == k
        tasks = np.flatnonzero(here.any(1))
        quartiles = [np.quantile(summary.returns[n, here[n]], (0.25, 0.5, 0.75)) for n in tasks]
        low, median, high = np.transpose(quartiles)
        # Side by side, so that equal returns do not hide each other.
        shift = 0.015 * np.ptp(values) * ((k + 0.5) / len(colors) - 0.5)
        error = (median - low, high - median)
        axis.errorbar(values[tasks] + shift, median, error, fmt="o", ms=4, color=color)
    axis.set(title="Return by task (median, quartiles)", ylabel="return")


def _draw_states(axis, fields, summary: Summary, colors) -> None:
    """The first two dimensions of the observations, coloured by source."""
    of = layout.transitions(fields)
    obs, owner = np.asarray(fields["obs"])[of.obs, :2], summary.source[of.task, of.episode]
    points = [obs[owner == k] for k in range(len(colors))]
    points = [p[:: len(p) // DOTS + 1] for p in points]
    color = np.repeat(colors, [len(p) for p in points], axis=0)
    points = np.concatenate(points)
    order = np.random.default_rng(0).permutation(len(points))  # no source lies on top of another
    axis.scatter(points[order, 0], points[order, -1], s=2, alpha=0.4, c=color[order])
    low, high = span(obs)
    margin = 0.15 * (high - low)  # a few stray episodes would shrink the rest to a dot
    axis.set_xlim(low[0] - margin[0], high[0] + margin[0])
    axis.set_ylim(low[-1] - margin[-1], high[-1] + margin[-1])
    axis.set(title="States", xlabel="observation 0", ylabel="observation 1")


def _draw_matrix(axis, names, apart: Distances) -> None:
    """The distances of every two sources, mean over tasks, written into the cells."""
    mean = over_tasks(apart.value)[0]
    axis.imshow(mean, cmap="Blues", vmin=0)
    dark = 0.6 * np.nanmax(mean)
    for (i, j), value in np.ndenumerate(mean):
        text = "-" if np.isnan(value) else f"{value:.2f}"
        color = "white" if value > dark else "black"
        axis.text(j, i, text, ha="center", va="center", color=color, fontsize="small")
    axis.set_xticks(range(len(names)), names, rotation=45, ha="right", rotation_mode="anchor")
    axis.set_yticks(range(len(names)), names)
    title = f"2-Wasserstein distance, {apart.num} pairs\n(diagonal: within one source)"
    axis.set_title(title, fontsize="medium")
