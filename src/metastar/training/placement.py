"""Where a program runs: one device, or a mesh of them with the axes `run` and `task`.

* `run` spreads the runs of a program (`num_seeds` x `sweep`), which need nothing of each other:
  each device trains its own, and the compiled program has no collective.
* `task` spreads the tasks of every batch, with their windows and rollouts; XLA adds gradients up
  over the devices.

Data are on every device once, however many runs there are. Where a run was computed is no part of
what it is: no `config.json` has this section, a checkpoint holds one run as a single device has it,
and a run goes on with any mesh. After one update the numbers agree with those of one device to
rounding, 1e-5; for `run` even bitwise where XLA compiles the runs of a device as it does them all.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
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
        UserError: there are not so many devices, or `run` does not divide the runs.
    """
    along_runs, along_tasks = mesh[RUN], mesh[TASK]
    number = along_runs * along_tasks
    if number == 1:
        return ONE
    if number > (found := len(jax.devices())):
        raise UserError(
            f"mesh.run x mesh.task asks for {number} devices and JAX sees {found}; lower them "
            "(on CPUs, JAX_NUM_CPU_DEVICES says how many there are)"
        )
    if num_runs % along_runs:
        raise UserError(
            f"mesh.run is {along_runs} and the program has {num_runs} runs; it must divide them"
        )
    # `make_mesh` would make explicit axes, under which a gather by a batch is an error.
    grid = jax.make_mesh((along_runs, along_tasks), (RUN, TASK), axis_types=(AxisType.Auto,) * 2)
    return Placement(
        grid, NamedSharding(grid, _of_runs(num_runs)), NamedSharding(grid, PartitionSpec())
    )


def put(tree: Any, sharding: Sharding | None) -> Any:
    """A pytree on the devices of a placement's `state` or `data`."""
    return jax.device_put(tree, sharding)


def on_one(tree: Any) -> Any:
    """A pytree on the default device alone; unchanged if it is on no more than one."""
    leaves = jax.tree.leaves(tree)
    many = any(isinstance(x, jax.Array) and len(x.sharding.device_set) > 1 for x in leaves)
    return jax.device_put(tree, jax.devices()[0]) if many else tree


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
