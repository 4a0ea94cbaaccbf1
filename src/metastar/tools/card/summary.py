"""What the data card shows: returns, reward, states and distances of the behaviour sources."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from metastar.data.sources import Source, sources
from metastar.ops.transport import wasserstein

GRID = 20  # cells per side for the coverage
BINS = 60  # cells per side for the pictures of the states
SAMPLE, MIN_SAMPLE = 128, 16  # transitions per source for a distance


class Summary(NamedTuple):
    """Numbers by episode and by task, for N tasks, E episodes and K sources."""

    sources: list[Source]
    source: np.ndarray  # [N, E] index into `sources`; -1 for an episode without a step
    returns: np.ndarray  # [N, E] undiscounted
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
    length, reward = np.asarray(fields["length"]), np.asarray(fields["reward"])
    policy, stage = np.asarray(fields["policy"]), np.asarray(fields["stage"])
    found = sources(policies, stages, policy[length > 0], stage[length > 0])
    source = np.full(length.shape, -1)
    for k, (_, p, s) in enumerate(found):
        source[(policy == p) & (stage == s) & (length > 0)] = k

    num_tasks, _, num_steps = reward.shape
    valid = _valid(fields)
    obs = np.asarray(fields["obs"])[:, :, :num_steps, :2]
    low, high = span(obs[valid])
    scaled = (obs - low) / np.maximum(high - low, 1e-12)
    cell = np.clip((scaled * GRID).astype(int), 0, GRID - 1) @ GRID ** np.arange(obs.shape[-1])
    coverage = np.zeros((num_tasks, len(found)))
    rewarded = np.zeros(num_tasks)
    for n in range(num_tasks):
        for k in range(len(found)):
            seen = valid[n] & (source[n] == k)[:, None]
            coverage[n, k] = len(np.unique(cell[n][seen])) / GRID ** obs.shape[-1]
        positive = np.cumsum(np.pad(reward[n][valid[n]] > 0, (1, 0)))
        width = min(window, len(positive) - 1)
        rewarded[n] = (positive[width:] > positive[: len(positive) - width]).mean()
    returns = np.where(valid, reward, 0).sum(-1, dtype=float)
    return Summary(found, source, returns, coverage, rewarded, window)


def distances(fields: dict[str, np.ndarray], source: np.ndarray, num: int) -> Distances | None:
    """2-Wasserstein distance between the state-action pairs of every two sources, by task.

    Of each source one task gives two disjoint samples of equally many of its transitions, drawn
    uniformly by a fixed generator: `SAMPLE`, or half of the fewest that a source of a task has. A
    source with less than `2 * MIN_SAMPLE` counts as absent there. Observations and actions are
    divided by their standard deviation over the data set; a constant column stays as it is.

    The diagonal is the distance of a source's two samples: not 0 but the least that samples of
    this size can show. Two sources act differently as far as they lie above it.

    Args:
        fields: the data set's.
        source: int [N, E] as in `Summary`.
        num: K, the number of sources.

    Returns:
        The distances, or None where no task has two sources.
    """
    valid, num_steps = _valid(fields), fields["reward"].shape[-1]
    table = np.where(valid, source[..., None], -1).reshape(len(source), -1)  # [N, E * T]
    count = np.stack([(table == k).sum(1) for k in range(num)], axis=1)
    enough = count >= 2 * MIN_SAMPLE
    if enough.sum(1).max() < 2:
        return None
    size = min(SAMPLE, count[enough].min() // 2)
    obs, action = fields["obs"], fields["action"]
    scale = np.concatenate([_scale(obs[:, :, :num_steps][valid]), _scale(action[valid])])
    rng = np.random.default_rng(0)
    value = np.full((len(source), num, num), np.nan)
    for n, present in enumerate(enough):
        samples = {}
        for k in np.flatnonzero(present):
            drawn = rng.choice(np.flatnonzero(table[n] == k), 2 * size, replace=False)
            episode, step = np.divmod(drawn, num_steps)
            pair = np.concatenate([obs[n, episode, step], action[n, episode, step]], axis=1)
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
    valid = _valid(fields)
    owner = np.broadcast_to(source[..., None], valid.shape)[valid]
    points, labels = _plane(np.asarray(fields["obs"])[:, :, :-1][valid])
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


def _valid(fields: dict[str, np.ndarray]) -> np.ndarray:
    """Which steps [N, E, T] are no padding."""
    return np.arange(fields["reward"].shape[-1]) < np.asarray(fields["length"])[..., None]
