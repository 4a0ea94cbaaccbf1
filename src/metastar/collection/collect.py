"""Makes the data set of a config: draws tasks, runs behaviour policies and stores the episodes."""

import fcntl
import platform
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from metastar import config
from metastar.collection.behavior import expect_room
from metastar.config.fields import COUNT, RATE, SEED, Field
from metastar.data import layout, store
from metastar.data.manifest import config_of
from metastar.envs.make import family_of, make_env, profile_of, spec_of
from metastar.errors import UserError

DEFAULTS = {
    "behavior": Field("sac", "behavior", "what acts: a file of behaviors/", selector=True),
    "seed": Field(0, SEED, "of everything in a collection but the tasks"),
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

    Of several processes that start at once one makes the data and the others wait for them.

    Args:
        cfg: the run's config.
        report: takes a line of progress.

    Raises:
        UserError: the folder holds a data set of another family or of other collection settings,
            a damaged one, or something else.
    """
    directory = directory_of(cfg)
    if not _is_free(directory):
        return _verified(cfg, directory)
    with _lock(directory, report):
        if _is_free(directory):
            collect(cfg, directory, report)
    return _verified(cfg, directory)


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
    env = make_env(cfg)
    num_tasks = cfg.data.train_tasks + cfg.data.test_tasks + cfg.data.ood_tasks
    expect_room(env.spec, num_tasks, cfg.collect.random_episodes)
    tasks, split = draw_tasks(cfg)
    behavior = config.make(cfg, "behavior", cfg.collect.behavior, env)
    num_tasks = sum(map(len, split.values()))
    report(f"collecting {num_tasks} tasks of {cfg.family} into {directory}")
    episodes = behavior.run(
        jax.tree.map(jnp.asarray, tasks),
        jax.random.key(cfg.collect.seed),
        report,
    )
    trajectory = episodes.trajectory
    blocks = {
        "obs": np.concatenate([trajectory.obs[:, :, :1], trajectory.next_obs], axis=2),
        "action": trajectory.action,
        "reward": trajectory.reward,
        "done": trajectory.done & trajectory.valid,
        "length": trajectory.valid.sum(-1),
        "policy": episodes.policy,
        "stage": episodes.stage,
        "collector": episodes.collector,
    }
    manifest = store.Manifest(
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
    store.save(directory, manifest, layout.concatenate(blocks))


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
    store.check_family(directory, manifest, cfg)
    have, want = config_of(manifest), config.flatten(cfg)
    names = have.keys() | want.keys()
    if not have:  # imported, not made by a config: only the number of tasks can be compared
        have = names = _num_tasks(manifest)
    for name in sorted(names):
        if name in FREE or not any(name == p or name.startswith(f"{p}.") for p in IDENTITY):
            continue
        old, new = have.get(name), want.get(name)
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
    return store.verify(directory, manifest)


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
