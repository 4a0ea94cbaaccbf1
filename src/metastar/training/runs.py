"""The runs of a config, which are an axis [S] of one program."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict, FrozenConfigDict

from metastar import config
from metastar.config import sweep
from metastar.training import placement, precision, workdir
from metastar.training.schedule import decayed
from metastar.types import DataSpec, Method, Phase


class Run(NamedTuple):
    """One of the runs."""

    cfg: FrozenConfigDict  # as if it were the only one: no other seeds, nothing swept
    workdir: Path


def expand(cfg: ConfigDict, path: Path) -> list[Run]:
    """Returns the runs that a config stands for.

    A lone run has the workdir `path` itself; of several, run k has `path/seeds/<k>`, in the order
    of `sweep.changes`.
    """
    flat = config.flatten(cfg)
    if not sweep.is_many(flat):
        return [Run(FrozenConfigDict(cfg), path)]
    runs = []
    for k, changes in enumerate(sweep.changes(flat)):
        own = ConfigDict(cfg.to_dict())
        own.update_from_flattened_dict({**changes, "num_seeds": 1})
        if "sweep" in own:
            del own["sweep"]
        runs.append(Run(FrozenConfigDict(own), path / workdir.RUNS / str(k)))
    return runs


def make_method(cfg: ConfigDict, spec: DataSpec) -> Method:
    """Builds the method that a config names, ready for the loop.

    It has the traced numbers of the config (`hp`), learning rates that follow the schedule of the
    phase, and products in the precision that the config asks for.
    """
    return bind(config.make(cfg, "method", cfg.method, spec), cfg)


def bind(method: Method, cfg: ConfigDict) -> Method:
    """`make_method` for a method that is built already."""
    hp = jax.tree.map(jnp.asarray, config.swept(cfg))
    schedule = partial(decayed, decays=config.decaying(cfg), kind=cfg.train.lr_decay)
    phases = tuple(phase._replace(update=_scheduled(phase, schedule)) for phase in method.phases)
    method = method._replace(hp=hp, phases=phases)
    return precision.bind(method, cfg.train.precision)


def _scheduled(phase: Phase, schedule: Callable) -> Callable:
    """The update of a phase under rates that follow the schedule."""

    def update(state, batch, key, hp, step):
        rates = schedule(hp, updates_done=step, num_updates=phase.num_updates)
        return phase.update(state, batch, key, rates, step)

    return update


@contextlib.contextmanager
def opened(cfg: ConfigDict, path: str | Path) -> Iterator[tuple[Path, list[Run]]]:
    """Makes or reopens the workdir of a config and those of its runs, as `workdir.opened` does."""
    with contextlib.ExitStack() as stack:
        path = stack.enter_context(workdir.opened(cfg, path))
        runs = expand(cfg, path)
        for run in runs:
            if run.workdir != path:
                stack.enter_context(workdir.opened(run.cfg, run.workdir))
        yield path, runs


def stack(trees: Sequence[Any]) -> Any:
    """Stacks one pytree per run to leaves [S, ...]; the pytree of a lone run stays as it is.

    A lone run has no such axis, since under `vmap` its numbers would differ in the last digits.
    """
    return trees[0] if len(trees) == 1 else jax.tree.map(lambda *x: jnp.stack(x), *trees)


def unstack(tree: Any, num: int) -> list[Any]:
    """Undoes `stack` of `num` pytrees; they are on the default device, wherever `tree` is."""
    tree = placement.on_one(tree)
    return [tree] if num == 1 else _slices(tree, num)


@partial(jax.jit, static_argnums=1)
def _slices(tree, num):
    return [jax.tree.map(lambda x, k=k: x[k], tree) for k in range(num)]
