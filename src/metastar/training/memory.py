"""How much memory runs take together, and how many of them fit."""

import os
from pathlib import Path
from typing import Any

import jax

from metastar.errors import UserError


def size(tree: Any) -> int:
    """Bytes of all leaves of a pytree, arrays or their shapes."""
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def available() -> int:
    """Bytes that this process may still take on the device it trains on."""
    stats = jax.devices()[0].memory_stats()  # None on CPUs
    if stats:
        return stats["bytes_limit"] - stats["bytes_in_use"]
    lines = Path("/proc/meminfo")
    if lines.exists():
        fields = dict(line.split(":") for line in lines.read_text().splitlines())
        return 1024 * int(fields["MemAvailable"].split()[0])
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def expect_fit(peak_bytes: int, state: Any, data: Any, num: int) -> None:
    """Raises `UserError` unless `num` runs fit into the memory that is left; says how many do.

    They need the `peak_bytes` of their chunk, without the data, which are on the device already,
    and a second copy of their states, which are split by run for checkpoints.
    """
    needed, left = peak_bytes - size(data) + size(state), available()
    if num > 1 and needed > left:
        raise UserError(
            f"{num} runs need about {gibibytes(needed)} of memory and {gibibytes(left)} are left: "
            f"{left * num // needed} fit; lower num_seeds or sweep fewer values"
        )


def gibibytes(num: int) -> str:
    """Bytes as text, for people to read."""
    return f"{num / 2**30:.2f} GiB"
