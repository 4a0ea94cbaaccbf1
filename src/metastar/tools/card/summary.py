"""The contents of the data card: returns, rewards, states and distances of the sources."""

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from metastar.data import layout
from metastar.data.sources import Source, sources
from metastar.ops.transport import wasserstein

GRID = 20  # cells per side for the coverage
BINS = 60  # cells per side for the pictures of the states
SAMPLE, MIN_SAMPLE = 128, 16  # transitions per source for a distance


class Summary(NamedTuple):
    """Numbers by episode and by task, for N tasks of at most E episodes, and K sources."""

    sources: list[Source]
    source: np.ndarray  # [N, E] index into `sources`; -1 for an episode without a step, or none
    returns: np.ndarray  # [N, E] undiscounted; 0 for these
    coverage: np.ndarray  # [N, K] share of the grid's cells that the task's source visits
    rewarded: np.ndarray  # [N] share of the windows of `window` steps with a positive reward
    window: int


class Distances(NamedTuple):
    """How far apart the sources act in each task."""

    value: np.ndarray  # [N, K, K] in standard deviations; NaN where the task lacks a source
    num: int  # transitions per sample


class StateMap(NamedTuple):
    """How often each source visits each cell of one plane through the states of all tasks."""

    count: np.ndarray  # [K, BINS, BINS] first axis horizontal
    edges: np.ndarray  # [2, BINS + 1]
    labels: tuple[str, str]


def summarize(
    fields: dict[str, np.ndarray], policies: Sequence[str], stages: Sequence[str], window: int
) -> Summary:
    """Computes returns, coverage and the share of windows with reward.

    The cells of the coverage are `GRID` x `GRID` rectangles over the first two dimensions of the
    observations (one dimension: `GRID` intervals). They span the data set's 1 % to 99 % quantiles;
    what lies outside counts to the nearest cell, so that one stray episode does not decide on the
    size of the cells. The windows are those of `data.sampler.sample_windows`, each start counted
    once, so that the share is exact.
    """
    length, episodes = np.asarray(fields["length"]), np.asarray(fields["episodes"])
    policy, stage = np.asarray(fields["policy"]), np.asarray(fields["stage"])
    found = sources(policies, stages, policy[length > 0], stage[length > 0])
    source = np.full(length.shape, -1)
    for k, (_, p, s) in enumerate(found):
        source[(policy == p) & (stage == s) & (length > 0)] = k
    source = layout.by_task(source, episodes, -1)

    of, reward = layout.transitions(fields), np.asarray(fields["reward"])
    obs = np.asarray(fields["obs"])[of.obs, :2]
    low, high = span(obs)
    scaled = (obs - low) / np.maximum(high - low, 1e-12)
    cell = np.clip((scaled * GRID).astype(int), 0, GRID - 1) @ GRID ** np.arange(obs.shape[-1])
    shape, cells = (len(episodes), len(found)), GRID ** obs.shape[-1]
    row = of.task * len(found) + source[of.task, of.episode]
    visited = np.unique(row * cells + cell) // cells  # once for each cell that the row visits
    coverage = np.bincount(visited, minlength=np.prod(shape)).reshape(shape) / cells
    start = layout.offsets(fields).step
    rewarded = np.zeros(len(episodes))
    for n, (first, last) in enumerate(pairwise(start)):
        positive = np.cumsum(np.pad(reward[first:last] > 0, (1, 0)))
        width = min(window, len(positive) - 1)
        rewarded[n] = (positive[width:] > positive[: len(positive) - width]).mean()
    number = np.repeat(np.arange(len(length)), length)
    returns = np.bincount(number, reward, minlength=len(length))
    return Summary(found, source, layout.by_task(returns, episodes), coverage, rewarded, window)


def distances(fields: dict[str, np.ndarray], source: np.ndarray, num: int) -> Distances | None:
    """2-Wasserstein distance between the state-action pairs of every two sources, by task.

    Of each source one task gives two disjoint samples of equally many of its transitions, drawn
    uniformly by a fixed generator: `SAMPLE`, or half of the fewest that a source of a task has. A
    source with less than `2 * MIN_SAMPLE` counts as absent there. Observations and actions are
    divided by their standard deviation over the data set; a constant column stays as it is.

    The diagonal is the distance between a source's two samples: not 0, but what chance alone gives
    at this sample size. Two sources differ as far as their distance exceeds it.

    Args:
        fields: the data set's.
        source: int [N, E] as in `Summary`.
        num: K, the number of sources.

    Returns:
        The distances, or None where no task has two sources.
    """
    of, start = layout.transitions(fields), layout.offsets(fields).step
    owner = source[of.task, of.episode]
    count = np.bincount(of.task * num + owner, minlength=len(source) * num).reshape(-1, num)
    enough = count >= 2 * MIN_SAMPLE
    if enough.sum(1).max() < 2:
        return None
    size = min(SAMPLE, count[enough].min() // 2)
    obs, action = np.asarray(fields["obs"])[of.obs], np.asarray(fields["action"])
    scale = np.concatenate([_scale(obs), _scale(action)])
    rng = np.random.default_rng(0)
    value = np.full((len(source), num, num), np.nan)
    for n, present in enumerate(enough):
        samples = {}
        for k in np.flatnonzero(present):
            own = start[n] + np.flatnonzero(owner[start[n] : start[n + 1]] == k)
            drawn = rng.choice(own, 2 * size, replace=False)
            pair = np.concatenate([obs[drawn], action[drawn]], axis=1)
            samples[k] = np.split(pair / scale, 2)
            for i, other in samples.items():
                value[n, i, k] = value[n, k, i] = wasserstein(other[0], samples[k][int(i == k)])
    return Distances(value, int(size))


def over_tasks(value: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Mean, least and largest over tasks [N, ...] that are not NaN, NaN if none; their number."""
    masked = np.ma.masked_invalid(value)
    mean, low, high = (f(0).filled(np.nan) for f in (masked.mean, masked.min, masked.max))
    return mean, low, high, masked.count(0)


def state_map(fields: dict[str, np.ndarray], source: np.ndarray, num: int) -> StateMap:
    """Counts the valid states of all tasks by source, on a grid over one plane.

    The plane is that of the observations if they have one or two dimensions; else that of the two
    leading principal components of the standardised observations, over all sources together. Each
    source's 1 % to 99 % quantiles lie within the grid; what lies outside of it is not counted.

    Args: as `distances`.
    """
    of = layout.transitions(fields)
    owner = source[of.task, of.episode]
    points, labels = _plane(np.asarray(fields["obs"])[of.obs])
    points = [points[owner == k] for k in range(num)]
    spans = np.array([span(p) for p in points])  # [K, 2, 2]
    low, high = spans[:, 0].min(0), spans[:, 1].max(0)
    margin = np.where(high > low, 0.1 * (high - low), 0.5)
    edges = np.linspace(low - margin, high + margin, BINS + 1).T
    count = np.stack([np.histogram2d(*p.T, bins=edges)[0] for p in points])
    return StateMap(count, edges, labels)


def split_names(split: dict[str, list[int]]) -> list[str]:
    """The names of a split's parts in reading order: train, test, then the others."""
    return sorted(split, key=lambda name: (name != "train", name != "test", name))


def span(points: np.ndarray) -> np.ndarray:
    """1 % and 99 % quantile of each column of points [P, D]: [2, D]."""
    return np.quantile(points, (0.01, 0.99), axis=0)


def _plane(obs: np.ndarray) -> tuple[np.ndarray, tuple[str, str]]:
    """Two coordinates [P, 2] of each observation [P, O], and their names."""
    last = obs.shape[-1] - 1
    if last < 2:
        return obs[:, [0, last]], ("observation 0", f"observation {last}")
    scaled = (obs - obs.mean(0, dtype=float)) / _scale(obs)
    variance, axes = np.linalg.eigh(scaled.T @ scaled)
    axes = axes[:, [-1, -2]]
    # An axis has no sign of its own: make its largest entry positive.
    axes = axes * np.sign(axes[np.abs(axes).argmax(0), [0, 1]])
    share = variance[[-1, -2]] / variance.sum()
    names = (f"component {i + 1} ({share[i]:.0%} of the variance)" for i in range(2))
    return scaled @ axes, tuple(names)


def _scale(x: np.ndarray) -> np.ndarray:
    """Standard deviation of each column of x [P, D]; 1 for a constant one."""
    std = x.std(0, dtype=float)
    return np.where(std > 1e-6, std, 1)
