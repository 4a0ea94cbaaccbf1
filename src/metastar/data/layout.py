"""Concatenated transitions: episodes of any length stored one after the other.

Fields of a data set, as on disk. P and E count the transitions and the episodes of all N tasks
together, ordered by task, then by time:

    obs       [P + E, O]  one more row per episode: where its last action led
    next_obs  [P, O]      only for imported data in which an action does not lead to the next row
    action    [P, A]      reward [P]      done [P]
    length    [E]         transitions of each episode; episodes begin at its running sums
    policy    [E]         stage [E]       collector [E]
    episodes  [N]         episodes of each task

Two data sets of other tasks merge by the concatenation of every field.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from metastar.types import Array, TaskData

FIELDS = {  # name: type and axes
    "obs": ("float32", ("P+E", "O")),
    "action": ("float32", ("P", "A")),
    "reward": ("float32", ("P",)),
    "done": ("bool", ("P",)),
    "length": ("int32", ("E",)),
    "policy": ("int32", ("E",)),
    "stage": ("int32", ("E",)),
    "collector": ("int32", ("E",)),  # the task whose learner acted; on disk only
    "episodes": ("int32", ("N",)),
}
OPTIONAL = {"next_obs": ("float32", ("P", "O"))}
BLOCKS = {  # what `concatenate` takes: episodes as equal blocks, padded after their end
    "obs": ("float32", ("N", "E", "T+1", "O")),
    "action": ("float32", ("N", "E", "T", "A")),
    "reward": ("float32", ("N", "E", "T")),
    "done": ("bool", ("N", "E", "T")),
    "length": ("int32", ("N", "E")),
    "policy": ("int32", ("N", "E")),
    "stage": ("int32", ("N", "E")),
    "collector": ("int32", ("N", "E")),
}
PER_EPISODE = ("length", "policy", "stage")


class Offsets(NamedTuple):
    """Where the rows of each task begin, and where those of the last task end, all [N + 1]."""

    episode: np.ndarray  # rows [E]
    step: np.ndarray  # rows [P]
    obs: np.ndarray  # rows [P + E]


class Transitions(NamedTuple):
    """Where each transition [P] of a data set belongs."""

    task: np.ndarray  # [P]
    episode: np.ndarray  # [P] number of the episode within its task
    step: np.ndarray  # [P] number of the step within its episode
    obs: np.ndarray  # [P] its row of `obs`; the next row is its next observation


def concatenate(blocks: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Concatenates episodes of equal blocks, without their padding.

    Args:
        blocks: arrays as in `BLOCKS`; `length` says how many of the T steps are not padding.

    Returns:
        Fields of a data set.
    """
    blocks = {name: np.asarray(value) for name, value in blocks.items()}
    length, num_steps = blocks["length"], blocks["reward"].shape[2]
    is_step = np.arange(num_steps) < length[..., None]
    is_obs = np.arange(num_steps + 1) <= length[..., None]
    fields = {"obs": blocks["obs"][is_obs]}
    for name, value in blocks.items():
        if name != "obs":
            fields[name] = value.reshape(-1) if value.ndim == 2 else value[is_step]
    return {**fields, "episodes": np.full(len(length), length.shape[1])}


def merge(parts: Sequence[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Joins the fields of several data sets, of other tasks each, in the order given.

    `collector` must count all their tasks already.
    """
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def offsets(fields: dict[str, np.ndarray]) -> Offsets:
    """The rows at which each task's data begin."""
    episode = _running(fields["episodes"])
    step = _running(fields["length"])[episode]
    return Offsets(episode, step, step + episode)


def transitions(fields: dict[str, np.ndarray]) -> Transitions:
    """Task, episode and step of every transition, and its row of `obs`."""
    length, episodes = np.asarray(fields["length"]), np.asarray(fields["episodes"])
    task = np.repeat(np.arange(len(episodes)), episodes)  # [E]
    episode = np.arange(len(length)) - _running(episodes)[task]
    num = length.sum()
    of = np.repeat(np.arange(len(length)), length)  # [P] episode, counted over all tasks
    step = np.arange(num) - _running(length)[of]
    return Transitions(task[of], episode[of], step, np.arange(num) + of)


def episode_of(
    fields: dict[str, np.ndarray], task: int, episode: int
) -> tuple[np.ndarray, np.ndarray]:
    """Observations [T + 1, O] and rewards [T] of one episode of a task."""
    e = offsets(fields).episode[task] + episode
    start, end = _running(fields["length"])[e : e + 2]
    return fields["obs"][start + e : end + e + 1], fields["reward"][start:end]


def by_task(values: np.ndarray, counts: np.ndarray, fill: Any = 0) -> np.ndarray:
    """Rows [R, ...] in the order of tasks -> [N, max(counts), ...], padded with `fill`."""
    values, counts = np.asarray(values), np.asarray(counts)
    table = np.full((len(counts), counts.max(), *values.shape[1:]), fill, values.dtype)
    table[np.arange(counts.max()) < counts[:, None]] = values
    return table


def on_device(
    fields: dict[str, np.ndarray],
    tasks: Any,
    ids: Sequence[int] | None = None,
    visible: np.ndarray | None = None,
) -> TaskData:
    """Puts some tasks of a data set on the device.

    Args:
        fields: the data set's; `collector` is not needed.
        tasks: parameters of all its tasks, leaves [N, ...].
        ids: the tasks, in the order wanted; None for all.
        visible: bool [E], of all tasks: the episodes that draws may see; None for all.
    """
    start = offsets(fields)
    ids = np.arange(len(start.step) - 1) if ids is None else np.asarray(ids)
    visible = np.ones(len(fields["length"]), bool) if visible is None else visible

    def rows(values, first):
        part = [values[first[n] : first[n + 1]] for n in ids]
        return by_task(np.concatenate(part), (first[1:] - first[:-1])[ids])

    of_episode = {name: rows(fields[name], start.episode) for name in PER_EPISODE}
    of_step = {n: rows(fields[n], start.step) for n in ("action", "reward", "done")}
    if "next_obs" in fields:
        of_step["next_obs"] = rows(fields["next_obs"], start.step)
    of = transitions(fields)
    of_step |= {n: rows(getattr(of, n).astype(np.int32), start.step) for n in ("episode", "step")}
    data = TaskData(
        obs=jnp.asarray(rows(fields["obs"], start.obs)),
        **{name: jnp.asarray(value) for name, value in (of_step | of_episode).items()},
        task={name: jnp.asarray(np.asarray(value)[ids]) for name, value in tasks.items()},
        visible=None,
        index=None,
        count=None,
    )
    return show(data, rows(visible, start.episode))


def from_blocks(blocks: dict[str, np.ndarray], tasks: Any) -> TaskData:
    """Puts episodes of equal blocks on the device, as `concatenate` takes them."""
    return on_device(concatenate(blocks), tasks)


def show(data: TaskData, visible: np.ndarray) -> TaskData:
    """The same data with draws from the episodes `visible` [N, E] only; all else is shared.

    A task without such an episode has count 0.
    """
    visible, length = np.asarray(visible, bool), np.asarray(data.length)
    seen = by_task(np.repeat(visible.ravel(), length.ravel()), length.sum(1))  # [N, P]
    count = seen.sum(1).astype(np.int32)
    order = np.argsort(~seen, axis=1, kind="stable").astype(np.int32)
    index = np.where(np.arange(seen.shape[1]) < count[:, None], order, 0)
    return data._replace(
        visible=jnp.asarray(visible), index=jnp.asarray(index), count=jnp.asarray(count)
    )


def returns_of(data: TaskData) -> np.ndarray:
    """Undiscounted return [N, E] of every episode, also of those that draws may not see."""
    length = np.asarray(data.length)
    num_tasks, num_episodes = length.shape
    real = np.arange(data.reward.shape[1]) < length.sum(1)[:, None]
    episode = np.asarray(data.episode) + num_episodes * np.arange(num_tasks)[:, None]
    reward = np.asarray(data.reward, float)[real]
    return np.bincount(episode[real], reward, length.size).reshape(length.shape)


def transitions_seen(data: TaskData, values: Array) -> np.ndarray:
    """The entries of `values` [N, P, ...] that draws may see, of all tasks together, [P', ...]."""
    tables = zip(np.asarray(values), np.asarray(data.index), np.asarray(data.count))
    return np.concatenate([rows[index[:count]] for rows, index, count in tables])


def _running(counts: np.ndarray) -> np.ndarray:
    """Sums of the first 0, 1, ... counts."""
    return np.concatenate([[0], np.cumsum(counts)])
