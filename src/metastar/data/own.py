"""A data set of your own recordings: `save` checks episodes and writes them as a whole.

What they are recorded from need not run here; training evaluates on a task family of the same name
(docs/own_data.md).
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from metastar.data import store
from metastar.errors import UserError
from metastar.ops.host_arrays import flags, numbers
from metastar.types import EnvSpec

ORIGIN = "metastar.data.own"


class Episode(NamedTuple):
    """One recorded episode of a task, T steps of it."""

    obs: Any  # [T + 1, O]: the last row is where the last action led
    action: Any  # [T, A] in [-1, 1]
    reward: Any  # [T]
    done: Any = None  # [T] bool: true terminals, a time limit is none; None: there are none
    policy: str = "unknown"  # what acted
    stage: str = ""  # how good it was by then, "expert" for instance; "": it has one stage


def save(
    directory: str | os.PathLike,
    spec: EnvSpec,
    tasks: Mapping[str, Any],
    episodes: Sequence[Sequence[Episode]],
    test: Sequence[int],
    source: str = "",
) -> None:
    """Writes a data set of N tasks: whole, or not at all.

    Args:
        directory: must not exist, or be empty.
        spec: the name of the task family and its sizes; no episode may be longer.
        tasks: parameters of the tasks by name, [N, ...], kept in full precision.
        episodes: those of each of the N tasks, in time order.
        test: numbers of the tasks that are held out for evaluation; all others are for training.
        source: where the recordings are from, such as an address or a paper.

    Raises:
        UserError: an argument is not what it should be; a task has no episode or no parameters; an
            array is of a wrong shape or type, holds no finite number or an action outside [-1, 1];
            too few tasks are left; or the folder is in use or cannot be written.
    """
    directory = _folder(directory)
    _expect_spec(spec)
    if not isinstance(source, str):
        raise UserError(
            f"source is {source!r}; give a text that says where the recordings are from"
        )
    if not isinstance(episodes, Sequence) or not all(isinstance(x, Sequence) for x in episodes):
        raise UserError("episodes must be a list with a list of episodes for each task")
    num_tasks = len(episodes)
    tasks, split = _tasks(tasks, num_tasks), _split(test, num_tasks)
    checked = [_checked(spec, n, e, one) for n, e, one in _numbered(episodes)]
    policies = tuple(sorted({one.policy for one in checked}))
    stages = tuple(sorted({one.stage for one in checked}))
    counts = [len(of_task) for of_task in episodes]
    fields = {
        "obs": np.concatenate([one.obs for one in checked]),
        "action": np.concatenate([one.action for one in checked]),
        "reward": np.concatenate([one.reward for one in checked]),
        "done": np.concatenate([one.done for one in checked]),
        "length": [len(one.reward) for one in checked],
        "policy": [policies.index(one.policy) for one in checked],
        "stage": [stages.index(one.stage) for one in checked],
        "collector": np.repeat(np.arange(num_tasks), counts),
        "episodes": counts,
    }
    manifest = store.Manifest(
        family=spec.name,
        env_spec=spec,
        tasks=tasks,
        split=split,
        policies=policies,
        stages=stages,
        config={},
        versions={"metastar-jax": version("metastar-jax"), "numpy": np.__version__},
        files={},
        origin=ORIGIN,
        source=source,
    )
    store.save(directory, manifest, fields)


def _folder(directory) -> Path:
    path = os.fspath(directory) if isinstance(directory, str | os.PathLike) else None
    if not isinstance(path, str) or not path or "\0" in path:
        raise UserError("the folder of a data set must be given as text or a pathlib.Path")
    return Path(path)


def _expect_spec(spec) -> None:
    if not isinstance(spec, EnvSpec):
        raise UserError(f"spec is of type {type(spec).__name__}; give a metastar.types.EnvSpec")
    if not isinstance(spec.name, str) or not spec.name.isidentifier():
        raise UserError(f"the EnvSpec has name={spec.name!r}; give the name of the family's file")
    for name in ("obs_dim", "action_dim", "max_episode_steps"):
        size = getattr(spec, name)
        if type(size) is not int or size < 1:
            raise UserError(f"the EnvSpec has {name}={size!r}; give a whole number of at least 1")


def _tasks(tasks, num_tasks: int) -> dict[str, np.ndarray]:
    """Task parameters in full precision."""
    named = isinstance(tasks, Mapping) and all(isinstance(name, str) for name in tasks)
    if not named or not tasks:
        raise UserError('tasks must map names of parameters to numbers: {"goal": [N] or [N, ...]}')
    for name, value in tasks.items():
        array = numbers(f"tasks[{name!r}]", value)
        if array.shape[:1] != (num_tasks,):
            raise UserError(
                f"tasks[{name!r}] has shape {array.shape}, but there are episodes of {num_tasks} "
                "tasks; give one row for each"
            )
    return {name: np.asarray(value, float) for name, value in tasks.items()}


def _split(test, num_tasks: int) -> dict[str, list[int]]:
    known = range(num_tasks)
    several = isinstance(test, Sequence) or np.ndim(test) == 1
    ids = [i.item() if isinstance(i, np.integer) else i for i in test] if several else []
    if not ids or not all(type(i) is int and i in known for i in ids) or len(set(ids)) < len(ids):
        raise UserError(
            f"test must name at least one of the tasks 0 to {num_tasks - 1} and none twice; the "
            "tasks that are held out for evaluation"
        )
    train = [i for i in known if i not in ids]
    if len(train) < 2:
        raise UserError(f"test leaves {len(train)} tasks for training; leave at least 2")
    return {"train": train, "test": ids}


def _numbered(episodes) -> Iterator[tuple[int, int, Any]]:
    """Yields task, number within the task, and episode."""
    for n, of_task in enumerate(episodes):
        if not len(of_task):
            raise UserError(f"task {n} has no episode; record some, or leave the task out")
        for e, episode in enumerate(of_task):
            yield n, e, episode


def _checked(spec: EnvSpec, n: int, e: int, episode) -> Episode:
    """An episode as arrays that fit the family's sizes."""
    where = f"task {n}, episode {e}"
    if not isinstance(episode, Episode):
        raise UserError(
            f"{where} is of type {type(episode).__name__}; give own.Episode(obs, action, reward)"
        )
    reward = numbers(f"{where}: reward", episode.reward)
    if reward.ndim != 1 or not 1 <= len(reward) <= spec.max_episode_steps:
        raise UserError(
            f"{where}: reward has shape {reward.shape}, but must have one axis of 1 to "
            f"{spec.max_episode_steps} steps (max_episode_steps)"
        )
    steps = len(reward)
    obs = numbers(f"{where}: obs", episode.obs, (steps + 1, spec.obs_dim))
    action = numbers(f"{where}: action", episode.action, (steps, spec.action_dim))
    if (outside := np.abs(action) > 1).any():
        step = np.argwhere(outside)[0, 0]
        raise UserError(f"{where}: action leaves [-1, 1] at step {step}; scale it into the range")
    done = np.zeros(steps, bool)
    if episode.done is not None:
        done = flags(f"{where}: done", episode.done, (steps,))
    if spec.done_ends_episode and done[:-1].any():
        raise UserError(
            f"{where}: done is True at step {int(np.argmax(done))} of {steps}, where the episode "
            "ends (done_ends_episode); cut it behind that step"
        )
    policy, stage = episode.policy, episode.stage
    named = all(isinstance(text, str) and "," not in text for text in (policy, stage))
    if not named or not policy.strip():
        raise UserError(
            f"{where}: policy is {policy!r} and stage {stage!r}; give names without a comma"
        )
    return Episode(obs, action, reward, done, policy, stage or policy)
