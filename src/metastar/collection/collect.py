"""Makes the data set of a config: draws tasks, runs behaviour policies and stores the episodes."""

import fcntl
import platform
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from importlib.metadata import version
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from metastar import config
from metastar.collection import blocks
from metastar.collection.behavior import Behavior, Episodes, expect_room
from metastar.config import schema
from metastar.config.fields import COUNT, NOT_NEGATIVE, RATE, SEED, Field
from metastar.data import layout, store
from metastar.data.manifest import config_of
from metastar.envs.make import family_of, make_env, profile_of, spec_of
from metastar.errors import UserError

DEFAULTS = {
    "behavior": Field("sac", "behavior", "what acts: a file of behaviors/", selector=True),
    "seed": Field(0, SEED, "of everything in a collection but the tasks"),
    "tasks_at_once": Field(
        0,
        NOT_NEGATIVE,
        "tasks that one program makes together; 0: all of them. Data are cut into blocks between "
        "these groups only (docs/data.md)",
        before=0,
    ),
    "random_episodes": Field(50, COUNT, "episodes of uniform actions at the start of each task"),
    "random_action_scale": Field(1.0, RATE, "s of the uniform actions on [-s, s]"),
}

# A data set serves every config that agrees with its own in these fields and sections.
IDENTITY = (
    "family",
    "collect",
    "env",
    "data.train_tasks",
    "data.test_tasks",
    "data.ood_tasks",
    "data.task_seed",
)
FREE = ("env.discount",)  # fields of these sections that the data do not depend on
_PACKAGES = ("metastar-jax", "jax", "jaxlib", "numpy", "mujoco")


def directory_of(cfg: ConfigDict) -> Path:
    """The folder of a config's data set: `cfg.data.dir`, or `data/<family>_<data.preset>`."""
    return Path(cfg.data.dir or f"data/{cfg.family}_{cfg.data.preset or 'own'}")


def ensure(cfg: ConfigDict, report: Callable = print) -> Path:
    """Returns the folder of a config's data set; arguments and errors are those of `data_set`."""
    return data_set(cfg, report).path


def data_set(cfg: ConfigDict, report: Callable = print) -> store.DataSet:
    """Opens and verifies the data set of a config, after making the data if there are none.

    Where there are blocks of the data, these are merged instead. Of several processes that start at
    once one makes the data and the others wait for them.

    Args:
        cfg: the run's config.
        report: takes a line of progress.

    Raises:
        UserError: the folder holds a data set of another family or of other collection settings,
            a damaged one, or something else; or blocks that share tasks, lack some, are damaged,
            or of another config or different versions.
    """
    directory = directory_of(cfg)
    if not _is_free(directory):
        return _verified(cfg, directory)
    with _lock(directory, report):
        if _is_free(directory):
            if parts := blocks.found(directory):
                _merge(cfg, directory, parts, report)
            else:
                collect(cfg, directory, report)
    return _verified(cfg, directory)


def block(cfg: ConfigDict, text: str, report: Callable = print) -> Path:
    """Makes some tasks of a config's data set in a folder of their own, unless they are there.

    Args:
        cfg: the config, the same for all blocks.
        text: the first and the last of the tasks, "0-9".
        report: takes a line of progress.

    Returns:
        The folder, after its data are verified.

    Raises:
        UserError: the behaviour makes all tasks together; the text names no block; another block
            has some of these tasks; the data set is made already; or as `data_set`.
    """
    directory = directory_of(cfg)
    behavior, whole = _planned(cfg)
    blocks.expect_apart(cfg.collect.behavior, behavior.together)
    ids = blocks.parse(text, _total(whole), cfg.collect.tasks_at_once)
    if not _is_free(directory):
        raise UserError(
            f"folder {directory} is not empty; delete it, or choose --config.data.dir, to make its "
            "data in blocks"
        )
    path = blocks.folder_of(directory) / text
    with _lock(path, report):
        blocks.expect_disjoint({**blocks.found(directory), path: ids})
        if _is_free(path):
            expect_room(whole.env_spec, len(ids), cfg.collect.random_episodes)
            report(f"collecting tasks {text} of {_total(whole)} of {cfg.family} into {path}")
            store.save(path, *blocks.cut(whole, _made(cfg, behavior, whole, ids, report), ids))
    blocks.merged({path: ids}, whole, partial(_expect_same, cfg))
    return path


def collect(cfg: ConfigDict, directory: str | Path, report: Callable = print) -> None:
    """Makes a data set in a new folder.

    Task parameters are those of `draw_tasks`; everything else follows from `cfg.collect.seed`.
    The same config and versions give the same bytes, so a collection that was killed, which
    leaves nothing in `directory`, is simply made again.

    Args:
        cfg: the config.
        directory: must not exist, or be empty.
        report: takes a line of progress.

    Raises:
        UserError: the folder is not empty or cannot be written, a name is unknown, or there is no
            memory for so many episodes.
    """
    if not _is_free(Path(directory)):
        raise UserError(f"folder {directory} is not empty; delete it, or choose --config.data.dir")
    num_tasks = cfg.data.train_tasks + cfg.data.test_tasks + cfg.data.ood_tasks
    expect_room(spec_of(cfg.family, profile_of(cfg)), num_tasks, cfg.collect.random_episodes)
    behavior, manifest = _planned(cfg)
    num_tasks = _total(manifest)
    report(f"collecting {num_tasks} tasks of {cfg.family} into {directory}")
    store.save(directory, manifest, _made(cfg, behavior, manifest, range(num_tasks), report))


def _planned(cfg: ConfigDict) -> tuple[Behavior, store.Manifest]:
    """The behaviour of a config, and the manifest of its data set."""
    env = make_env(cfg)
    tasks, split = draw_tasks(cfg)
    behavior = config.make(cfg, "behavior", cfg.collect.behavior, env)
    if cfg.collect.tasks_at_once:
        blocks.expect_apart(cfg.collect.behavior, behavior.together)
    return behavior, store.Manifest(
        family=cfg.family,
        env_spec=env.spec,
        tasks=tasks,
        split=split,
        policies=behavior.policies,
        stages=behavior.stages,
        config=cfg.to_dict(),
        versions={name: version(name) for name in _PACKAGES}
        | {"python": platform.python_version()},
        files={},
    )


def _total(manifest: store.Manifest) -> int:
    """The number of all tasks."""
    return sum(map(len, manifest.split.values()))


def _made(cfg, behavior, manifest, ids: range, report: Callable) -> dict[str, np.ndarray]:
    """Fields of a data set of the tasks `ids`, which cut no group; `collector` counts all tasks."""
    key, parts = jax.random.key(cfg.collect.seed), []
    for group in blocks.groups(_total(manifest), cfg.collect.tasks_at_once):
        if group.start not in ids:
            continue
        tasks = {n: jnp.asarray(x[group.start : group.stop]) for n, x in manifest.tasks.items()}
        place = (group.start,) if cfg.collect.tasks_at_once else ()
        parts.append(_fields(behavior.run(tasks, key, report, *place)))
    return layout.merge(parts)


def _fields(episodes: Episodes) -> dict[str, np.ndarray]:
    """Episodes as fields of a data set."""
    trajectory = episodes.trajectory
    return layout.concatenate(
        {
            "obs": np.concatenate([trajectory.obs[:, :, :1], trajectory.next_obs], axis=2),
            "action": trajectory.action,
            "reward": trajectory.reward,
            "done": trajectory.done & trajectory.valid,
            "length": trajectory.valid.sum(-1),
            "policy": episodes.policy,
            "stage": episodes.stage,
            "collector": episodes.collector,
        }
    )


def _merge(cfg: ConfigDict, directory: Path, parts: dict[Path, range], report: Callable) -> None:
    """Makes a data set of its blocks, which stay where they are."""
    _, whole = _planned(cfg)
    blocks.expect_all(directory, parts, _total(whole))
    report(f"merging {len(parts)} blocks into {directory}")
    store.save(directory, *blocks.merged(parts, whole, partial(_expect_same, cfg)))
    report(f"merged; {blocks.folder_of(directory)} may be deleted")


def draw_tasks(cfg: ConfigDict) -> tuple[dict[str, np.ndarray], dict[str, list[int]]]:
    """Draws the task parameters of a config from `numpy.random.default_rng(cfg.data.task_seed)`.

    Without tasks out of distribution all follow the family's law, the first
    `cfg.data.train_tasks` of them for training. With `cfg.data.ood_tasks = k > 0` training and
    test tasks follow the family's law "id" instead, which leaves gaps, and k more tasks follow
    each of the laws in `store.OOD` that the family has.

    Returns:
        Parameters, leaves [N, ...], and the split: indices of tasks by name.

    Raises:
        UserError: the family draws no tasks, none out of distribution, or not so many.
    """
    law = family_of(cfg.family, profile_of(cfg)).law
    rng = np.random.default_rng(cfg.data.task_seed)
    if not law:
        raise UserError(
            f"family {cfg.family!r} has no law to draw tasks from, so that no data can be made in "
            f"{directory_of(cfg)}; name the folder of its data with --config.data.dir, or give it "
            "a law"
        )
    sizes = {"train": cfg.data.train_tasks, "test": cfg.data.test_tasks}
    num_id, num_ood = sum(sizes.values()), cfg.data.ood_tasks
    if num_ood == 0:
        tasks = law["own"](rng, num_id)
    elif "id" in law:
        ood = {name: num_ood for name in store.OOD if name in law}
        asked = {"id": num_id} | ood
        drawn = [law[name](rng, num) for name, num in asked.items()]
        tasks = {name: np.concatenate([part[name] for part in drawn]) for name in drawn[0]}
        sizes |= ood
    else:
        raise UserError(
            f"family {cfg.family!r} defines no tasks out of distribution; set data.ood_tasks=0"
        )
    ends = np.cumsum(list(sizes.values()))
    split = {
        name: list(range(int(end) - size, int(end)))
        for (name, size), end in zip(sizes.items(), ends)
    }
    return tasks, split


def _is_free(directory: Path) -> bool:
    """Whether a data set may be made there: nothing is, or an empty folder."""
    if not directory.exists():
        return True
    return directory.is_dir() and not any(directory.iterdir())


def _verified(cfg: ConfigDict, directory: Path) -> store.DataSet:
    """Raises `UserError` unless the folder holds the undamaged data of this very config."""
    manifest = store.read_manifest(directory)
    if blocks.is_block(manifest):
        raise UserError(
            f"{directory} holds some tasks of a data set only ({manifest.origin}); name the folder "
            "of all of them with --config.data.dir"
        )
    _expect_same(cfg, directory, manifest)
    return store.verify(directory, manifest)


def _expect_same(cfg: ConfigDict, directory: Path, manifest: store.Manifest) -> None:
    """Raises `UserError` unless a data set was made with the settings of this very config."""
    store.check_family(directory, manifest, cfg)
    have, want = config_of(manifest), config.flatten(cfg)
    names = have.keys() | want.keys()
    before = {path: field.before for path, field in schema.of(want).fields.items()}
    if not have:  # imported, not made by a config: only the number of tasks can be compared
        have = names = _num_tasks(manifest)
    for name in sorted(names):
        if name in FREE or not any(name == p or name.startswith(f"{p}.") for p in IDENTITY):
            continue
        old, new = have.get(name, before.get(name)), want.get(name)
        if old != new:
            raise UserError(
                f"data set {directory} was made with {name}={old!r}, but the config has {new!r}; "
                "set it back, or name another folder with --config.data.dir"
            )
    spec = spec_of(cfg.family, profile_of(cfg))
    for name in ("obs_dim", "action_dim", "max_episode_steps"):
        old, new = getattr(manifest.env_spec, name), getattr(spec, name)
        if old != new:
            raise UserError(
                f"data set {directory} has {name}={old}, but family {cfg.family!r} has {new}; "
                "name another folder with --config.data.dir"
            )


def _num_tasks(manifest: store.Manifest) -> dict[str, int]:
    """The fields of a config that say how many tasks a data set has."""
    parts = {"data.train_tasks": "train", "data.test_tasks": "test", "data.ood_tasks": store.OOD[0]}
    return {path: len(manifest.split.get(name, ())) for path, name in parts.items()}


@contextmanager
def _lock(directory: Path, report: Callable) -> Iterator[None]:
    """Holds a lock beside a folder, which the system gives back even if the process is killed."""
    file = directory.absolute().with_name(f".{directory.name}.lock")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        stream = file.open("w")
    except OSError as error:
        raise UserError(
            f"cannot write the data set {directory} ({error.strerror}); "
            "choose another folder with --config.data.dir"
        ) from error
    with stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            report(f"another process is making {directory}; waiting for it")
            fcntl.flock(stream, fcntl.LOCK_EX)
        yield
