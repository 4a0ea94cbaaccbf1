"""How much memory runs take together, and how many of them fit."""

import os
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from metastar.errors import UserError
from metastar.training import flops
from metastar.types import EnvSpec, Method, TaskData

_LOWER = "lower sizes such as sampler.batch_size, numbers of samples, or widths of networks"


def size(tree: Any) -> int:
    """Bytes of all leaves of a pytree, arrays or their shapes."""
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def available() -> int:
    """Bytes that this process may still take on the device it trains on."""
    stats = jax.local_devices()[0].memory_stats()  # None on CPUs
    if stats:
        return stats["bytes_limit"] - stats["bytes_in_use"]
    lines = Path("/proc/meminfo")
    if lines.exists():
        fields = dict(line.split(":") for line in lines.read_text().splitlines())
        return 1024 * int(fields["MemAvailable"].split()[0])
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def expect_possible(method: Method, data: TaskData, num: int) -> None:
    """Raises `UserError` if states and batches of `num` runs alone take more memory than is left.

    It only looks at shapes, before anything is made of them that could take all memory there is.
    """
    key = jax.eval_shape(lambda: jax.random.key(0))
    try:
        batches = [jax.eval_shape(phase.sample, data, key, 0) for phase in method.phases]
        needed = size(jax.eval_shape(method.init, key)) + max(map(size, batches), default=0)
    except OverflowError:
        raise UserError(
            f"a size in the config is beyond what an array can have; {_LOWER}"
        ) from None
    _expect_left(num * needed, num)


def expect_products(jaxpr: Any) -> None:
    """Raises `UserError` if one matrix product of a program takes more memory than is left.

    XLA may compile for hours what has arrays of such sizes.
    """
    sizes = [
        jnp.dtype(p.dtype).itemsize * p.batch * max(p.m * p.n, p.m * p.k, p.k * p.n)
        for p in flops.products(jaxpr)
    ]
    _expect_left(max(sizes, default=0), 1)


def expect_streams(spec: EnvSpec, protocol: str, num: int, episodes: int) -> None:
    """Raises `UserError` if the steps of `num` streams of episodes alone take more than is left."""
    needed = num * episodes * spec.episode_bytes
    if needed > (left := available()):
        raise UserError(
            f"protocol {protocol!r} plays {num} streams of {episodes} episodes at once, which take "
            f"{gibibytes(needed)} of memory, and {gibibytes(left)} are left; lower the numbers of "
            "the section eval"
        )


def expect_fit(peak_bytes: int, state: Any, data: Any, num: int, devices: int = 1) -> None:
    """Raises `UserError` unless `num` runs fit into the memory that is left; says how many do.

    They need the `peak_bytes` of their chunk, on each device, without the data, which are there
    already, and a second copy of their states, which are split by run for checkpoints.
    """
    _expect_left(peak_bytes - size(data) + size(state), num, devices)


def _expect_left(needed: int, num: int, devices: int = 1) -> None:
    """`needed` on each of the devices; those that are cores of one machine share its memory."""
    left = available() // (devices if jax.default_backend() == "cpu" else 1)
    if needed <= left:
        return
    who = f"{num} runs need" if num > 1 else "the run needs"
    remedy = f"{left * num // needed} fit; lower num_seeds or sweep fewer values"
    raise UserError(
        f"{who} about {gibibytes(needed)} of memory and {gibibytes(left)} are left"
        f"{f': {remedy}' if num > 1 else f'; {_LOWER}'}"
    )


def gibibytes(num: int) -> str:
    """Bytes as text, for people to read."""
    return f"{num / 2**30:.2f} GiB"
