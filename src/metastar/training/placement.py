"""Where a program runs: one device, or a mesh of them with the axes `run` and `task`.

* `run` spreads the runs of a program (`num_seeds` x `sweep`), which need nothing of each other:
  each device trains its own, and the compiled program has no collective.
* `task` spreads the tasks of every batch, with their windows and rollouts; XLA adds gradients up
  over the devices.

Data are on every device once, however many runs there are. Where a run was computed is no part of
what it is: no `config.json` has this section, a checkpoint holds one run as a single device has it,
and a run goes on with any mesh. After one update the numbers agree with those of one device to
rounding, 1e-5; for `run` even bitwise where XLA compiles the runs of a device as it does them all.

The devices may be those of several processes (`hosts.py`). Each then holds its part of what is
spread, and all of them together move a pytree there (`put`) or back (`on_one`).
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec, Sharding

from metastar.config.fields import COUNT, Field
from metastar.errors import UserError
from metastar.types import Batch

RUN, TASK = "run", "task"
DEFAULTS = {
    RUN: Field(1, COUNT, "devices that the runs of a program are spread over", before=1),
    TASK: Field(1, COUNT, "devices that the tasks of each batch are spread over", before=1),
}


class Placement(NamedTuple):
    """Where the parts of a program are."""

    mesh: Mesh | None  # None: the default device alone
    state: Sharding | None  # of what has the axis of runs: states, run keys, traced numbers
    data: Sharding | None  # of the data: every device has them

    @property
    def num_devices(self) -> int:
        """How many take part."""
        return 1 if self.mesh is None else self.mesh.size

    @property
    def num_here(self) -> int:
        """How many of them are of this process."""
        return self.num_devices // jax.process_count()

    @property
    def is_writer(self) -> bool:
        """Whether this process writes what the program makes; one of several does."""
        return jax.process_index() == 0

    def along(self, axis: str) -> int:
        """How many of them there are along an axis."""
        return 1 if self.mesh is None else self.mesh.shape[axis]


ONE = Placement(None, None, None)


def make(mesh: Mapping[str, int], num_runs: int) -> Placement:
    """Builds the placement of a program.

    Args:
        mesh: `run` and `task`, the section of a config.
        num_runs: of the program.

    Raises:
        UserError: there are not so many devices, `run` does not divide the runs, or the processes
            cannot take part alike.
    """
    along_runs, along_tasks = mesh[RUN], mesh[TASK]
    number = along_runs * along_tasks
    if number == 1 and jax.process_count() == 1:
        return ONE
    devices = _devices(number)
    if num_runs % along_runs:
        raise UserError(
            f"mesh.run is {along_runs} and the program has {num_runs} runs; it must divide them"
        )
    # `make_mesh` would make explicit axes, under which a gather by a batch is an error.
    types = (AxisType.Auto, AxisType.Auto)
    grid = jax.make_mesh((along_runs, along_tasks), (RUN, TASK), types, devices=devices)
    return Placement(
        grid, NamedSharding(grid, _of_runs(num_runs)), NamedSharding(grid, PartitionSpec())
    )


def put(tree: Any, sharding: Sharding | None) -> Any:
    """A pytree on the devices of a placement's `state` or `data`.

    Of several processes all must call it, with the same numbers.
    """
    if sharding is None or sharding.is_fully_addressable:
        return jax.device_put(tree, sharding)
    return _moved(sharding)(jax.tree.map(_uncommitted, tree))


def on_one(tree: Any) -> Any:
    """A pytree on this process's first device alone; unchanged if it is on no more than one.

    Of several processes that share it all must call it.
    """
    arrays = [x for x in jax.tree.leaves(tree) if isinstance(x, jax.Array)]
    if shared := [x.sharding for x in arrays if not x.is_fully_addressable]:
        tree = _moved(NamedSharding(shared[0].mesh, PartitionSpec()))(tree)
        return jax.tree.map(lambda x: x.addressable_data(0), tree)
    many = any(len(x.sharding.device_set) > 1 for x in arrays)
    return jax.device_put(tree, jax.local_devices()[0]) if many else tree


def jit(chunk: Callable, place: Placement, num_runs: int) -> Callable:
    """Jits `(loop, data, run_key, hp, first, num) -> (loop, metrics)`, a chunk of `make_chunk`.

    Each device along `run` is given its own runs, as a program of so many.
    """
    if place.mesh is None:
        return jax.jit(chunk, donate_argnums=0)
    runs, alike = _of_runs(num_runs), PartitionSpec()
    of_metrics = PartitionSpec(None, *runs)
    out = (place.state, NamedSharding(place.mesh, of_metrics))
    if place.along(RUN) == 1:
        return jax.jit(chunk, donate_argnums=0, out_shardings=out)
    # XLA is left an axis only where it has something to spread along it: even one of a single
    # device changes how it rounds.
    apart = jax.shard_map(
        chunk,
        mesh=place.mesh,
        in_specs=(runs, alike, runs, runs, alike, alike),
        out_specs=(runs, of_metrics),
        axis_names={RUN} if place.along(TASK) > 1 else {RUN, TASK},
        check_vma=False,
    )
    return jax.jit(apart, donate_argnums=0, out_shardings=out)


def spread(batch: Batch, place: Placement) -> Batch:
    """A batch of one run with its tasks [M] spread along `task`, inside of a jitted chunk.

    Raises `UserError`, while it is traced, unless `mesh.task` divides the tasks.
    """
    if (number := place.along(TASK)) == 1:
        return batch
    if (tasks := batch.task_id.shape[0]) % number:
        raise UserError(
            f"mesh.task is {number} and a batch has {tasks} tasks (sampler.meta_batch); it must "
            "divide them"
        )
    spec = PartitionSpec(TASK)
    # Where `jit` gives each device its own runs, the mesh is known, and one axis of it is theirs.
    sharding = spec if place.along(RUN) > 1 else NamedSharding(place.mesh, spec)
    return jax.lax.with_sharding_constraint(batch, sharding)


def _of_runs(num_runs: int) -> PartitionSpec:
    """The spec of leaves [S, ...]; a lone run has no such axis."""
    return PartitionSpec(RUN) if num_runs > 1 else PartitionSpec()


def _devices(number: int) -> list[jax.Device]:
    """So many devices, as many of each process; raises `UserError` if there are not."""
    processes = jax.process_count()
    if number % processes:
        raise UserError(
            f"mesh.run x mesh.task is {number}, which {processes} processes do not divide; all of "
            "them take equally many devices, at least one"
        )
    own = [[d for d in jax.devices() if d.process_index == k] for k in range(processes)]
    found, where = min(map(len, own)), " in one of the processes" if processes > 1 else ""
    if number > found * processes:
        raise UserError(
            f"mesh.run x mesh.task asks for {number // processes} devices and JAX sees {found}"
            f"{where}; lower them (on CPUs, JAX_NUM_CPU_DEVICES says how many there are)"
        )
    return [device for devices in own for device in devices[: number // processes]]


@functools.cache
def _moved(sharding: Sharding) -> Callable:
    """A program that copies a pytree to devices of several processes."""
    return jax.jit(lambda tree: tree, out_shardings=sharding)


def _uncommitted(leaf: Any) -> Any:
    """A leaf that a program may move; of arrays that were put on a device, the numbers."""
    here = leaf.is_fully_addressable if isinstance(leaf, jax.Array) else True
    is_key = jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    return np.asarray(leaf) if here and not is_key else leaf
