"""The data card: what is in a data set, as a text and a figure, for the eye before a training."""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from metastar import registry
from metastar.data import store
from metastar.errors import UserError
from metastar.files import write_atomic

TEXT, FIGURE = "data_card.txt", "data_card.png"
GRID = 20  # cells per side for the coverage
_QUANTILES = (0, 0.05, 0.25, 0.5, 0.75, 0.95, 1)


class Summary(NamedTuple):
    """What the card shows, for N tasks, E episodes and S stages."""

    returns: np.ndarray  # [N, E] undiscounted
    stage: np.ndarray  # [N, E]
    coverage: np.ndarray  # [N, S] share of the grid's cells that the task's stage visits
    rewarded: np.ndarray  # [N] share of the windows of `window` steps with a positive reward
    window: int


def verify(path: str | Path) -> str:
    """Checks every hash and every rule of a data set.

    Returns a sentence for the terminal; raises `UserError` as `store.verify` does.
    """
    manifest, fields = store.verify(path)
    num_tasks, num_episodes = fields["length"].shape
    return (
        f"{path}: every SHA-256 agrees; {num_tasks} tasks of {manifest.family} x {num_episodes} "
        f"episodes, {int(fields['length'].sum()):,} transitions"
    )


def inspect(path: str | Path, out: str | Path) -> str:
    """Verifies a data set and writes its card, `data_card.txt` and `data_card.png`.

    Args:
        path: folder of the data set.
        out: folder of the card; made if it is missing.

    Returns:
        The text of the card.

    Raises:
        UserError: the data set is damaged, or `out` cannot be written.
    """
    manifest, fields = store.verify(path)
    window = manifest.config["world_model"]["context_len"]
    summary = summarize(fields, len(manifest.stages), window)
    text = _text(path, manifest, fields, summary)
    try:
        Path(out).mkdir(parents=True, exist_ok=True)
        _draw(Path(out) / FIGURE, manifest, fields, summary)
        write_atomic(Path(out) / TEXT, text)
    except OSError as error:
        raise UserError(
            f"cannot write the data card to {out} ({error.strerror}); choose another folder"
        ) from error
    return f"{text}figure: {Path(out) / FIGURE}"


def summarize(fields: dict[str, np.ndarray], num_stages: int, window: int) -> Summary:
    """Computes what the card shows.

    The cells of the coverage are `GRID` x `GRID` rectangles over the first two dimensions of the
    observations (one dimension: `GRID` intervals). They span the data set's 1 % to 99 % quantiles;
    what lies outside counts to the nearest cell, so that one stray episode does not decide on the
    size of the cells. The windows are those of `data.sampler.sample_windows`, each start counted
    once, so that the share is exact.
    """
    length, reward = np.asarray(fields["length"]), np.asarray(fields["reward"])
    num_tasks, _, num_steps = reward.shape
    valid = np.arange(num_steps) < length[..., None]
    obs = np.asarray(fields["obs"])[:, :, :num_steps, :2]
    low, high = _span(obs[valid])
    scaled = (obs - low) / np.maximum(high - low, 1e-12)
    cell = np.clip((scaled * GRID).astype(int), 0, GRID - 1) @ GRID ** np.arange(obs.shape[-1])
    coverage = np.zeros((num_tasks, num_stages))
    rewarded = np.zeros(num_tasks)
    for n in range(num_tasks):
        for s in range(num_stages):
            seen = valid[n] & (fields["stage"][n] == s)[:, None]
            coverage[n, s] = len(np.unique(cell[n][seen])) / GRID ** obs.shape[-1]
        positive = np.cumsum(np.pad(reward[n][valid[n]] > 0, (1, 0)))
        width = min(window, len(positive) - 1)
        rewarded[n] = (positive[width:] > positive[: len(positive) - width]).mean()
    returns = np.where(valid, reward, 0).sum(-1, dtype=float)
    return Summary(returns, np.asarray(fields["stage"]), coverage, rewarded, window)


def _text(path, manifest, fields, summary: Summary) -> str:
    """The card in words and tables."""
    family = registry.find("family", manifest.family)
    num_tasks, num_episodes = summary.returns.shape
    split = manifest.split
    lines = [
        f"data set {path}",
        f"family {manifest.family}: {num_tasks} tasks ({len(split['train'])} train, "
        f"{len(split['test'])} test) x {num_episodes} episodes, "
        f"{int(fields['length'].sum()):,} transitions",
        "episodes per task by policy: " + _counts(manifest.policies, fields["policy"]),
        "episodes per task by stage: " + _counts(manifest.stages, summary.stage),
        "",
        "return by stage, all tasks",
        f"{'stage':>10} {'mean':>8} "
        + " ".join(_percent_name(q) for q in _QUANTILES)
        + "  coverage",
    ]
    for s, name in enumerate(manifest.stages):
        chosen = summary.returns[summary.stage == s]
        if chosen.size:
            quantiles = " ".join(f"{q:8.2f}" for q in np.quantile(chosen, _QUANTILES))
            share = summary.coverage[:, s].mean()
            lines.append(f"{name:>10} {chosen.mean():8.2f} {quantiles}  {share:8.0%}")
    lines.append(
        f"coverage: cells of a {GRID} x {GRID} grid over the first two observation dimensions "
        "that one task visits, mean over tasks"
    )
    if family.SPARSE:
        lines.append(
            f"windows of {summary.window} steps with reward: {summary.rewarded.mean():.1%} "
            f"(tasks from {summary.rewarded.min():.1%} to {summary.rewarded.max():.1%})"
        )
    return "\n".join([*lines, "", *_task_table(manifest, family, summary), ""])


def _task_table(manifest, family, summary: Summary) -> list[str]:
    """A line per task: its number, and quartiles of its return by stage."""
    label, values = family.label(manifest.tasks)
    test = set(manifest.split["test"])
    header = f"task split {label:>18}" + "".join(f"{name:>24}" for name in manifest.stages)
    lines = [
        "return by task and stage: lower quartile, median, upper quartile",
        header + ("  windows with reward" if family.SPARSE else ""),
    ]
    for n, value in enumerate(values):
        line = f"{n:4d} {'test' if n in test else 'train':5} {value:18.3f}"
        for s in range(len(manifest.stages)):
            chosen = summary.returns[n, summary.stage[n] == s]
            quartiles = np.quantile(chosen, (0.25, 0.5, 0.75)) if chosen.size else [np.nan] * 3
            line += "".join(f"{q:8.2f}" for q in quartiles)
        lines.append(line + (f"{summary.rewarded[n]:21.0%}" if family.SPARSE else ""))
    return lines


def _draw(file: Path, manifest, fields, summary: Summary) -> None:
    """The figure: learning, return by task, states seen, and windows with reward or returns."""
    from matplotlib import colormaps
    from matplotlib.figure import Figure

    family = registry.find("family", manifest.family)
    label, values = family.label(manifest.tasks)
    colors = [colormaps["viridis"](x) for x in np.linspace(0.85, 0.1, len(manifest.stages))]
    figure = Figure(figsize=(11, 8.5), layout="constrained")
    figure.suptitle(f"Data set of {manifest.family}: {len(values)} tasks")
    learning, by_task, states, last = figure.subplots(2, 2).flat

    median = np.median(summary.returns, axis=0)
    low, high = np.quantile(summary.returns, (0.1, 0.9), axis=0)
    learning.fill_between(range(len(median)), low, high, color=colors[-1], alpha=0.25, lw=0)
    learning.plot(median, color=colors[-1])
    learning.set(
        title="Return in time order (median over tasks, 10-90 %)",
        xlabel="episode",
        ylabel="return",
    )

    plane = np.asarray(fields["obs"])[:, :, :-1, :2]
    for s, (name, color) in enumerate(zip(manifest.stages, colors)):
        here = summary.stage == s
        quartiles = np.array(
            [
                np.quantile(r[h], (0.25, 0.5, 0.75)) if h.any() else [np.nan] * 3
                for r, h in zip(summary.returns, here)
            ]
        )
        error = np.abs(quartiles[:, [0, 2]] - quartiles[:, [1]]).T
        by_task.errorbar(values, quartiles[:, 1], error, fmt="o", ms=4, color=color, label=name)
        points = plane[here].reshape(-1, plane.shape[-1])
        points = points[:: len(points) // 4000 + 1]
        states.scatter(points[:, 0], points[:, -1], s=2, alpha=0.4, color=color, label=name)
        if not family.SPARSE:
            last.hist(summary.returns[here], bins=40, alpha=0.6, color=color, label=name)
    by_task.set(title="Return by task (median, quartiles)", xlabel=label, ylabel="return")
    by_task.legend()
    if np.shape(manifest.tasks.get("goal"))[1:] == (2,):
        states.scatter(*manifest.tasks["goal"].T, marker="*", s=25, color="crimson", label="goal")
    low, high = _span(plane.reshape(-1, plane.shape[-1]))
    margin = 0.15 * (high - low)  # a few stray episodes would shrink the rest to a dot
    states.set_xlim(low[0] - margin[0], high[0] + margin[0])
    states.set_ylim(low[-1] - margin[-1], high[-1] + margin[-1])
    states.set(title="States", xlabel="observation 0", ylabel="observation 1")
    states.legend(markerscale=2, loc="lower left")

    if family.SPARSE:
        for name, marker in (("train", "o"), ("test", "s")):
            ids = manifest.split[name]
            last.plot(values[ids], summary.rewarded[ids], marker, label=name)
        title = f"Share of {summary.window}-step windows with reward"
        last.set(title=title, xlabel=label, ylabel="share", ylim=(0, 1))
    else:
        last.set(title="Returns", xlabel="return", ylabel="episodes")
    last.legend()

    temporary = file.with_name(f".{file.name}.tmp")
    figure.savefig(temporary, dpi=110, format="png")
    temporary.replace(file)


def _span(points: np.ndarray) -> np.ndarray:
    """1 % and 99 % quantile of each column of points [P, D]: [2, D]."""
    return np.quantile(points, (0.01, 0.99), axis=0)


def _counts(names, index) -> str:
    """How many episodes per task each entry of a table has, as a mean over tasks."""
    counts = [(np.asarray(index) == i).sum(1).mean() for i in range(len(names))]
    return ", ".join(f"{name} {count:g}" for name, count in zip(names, counts))


def _percent_name(quantile: float) -> str:
    return {0: "     min", 0.5: "  median", 1: "     max"}.get(quantile, f"{quantile:8.0%}")
