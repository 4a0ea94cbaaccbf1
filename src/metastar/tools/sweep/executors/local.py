"""Processes on this machine, each held to its cores and its memory."""

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from metastar.errors import UserError
from metastar.tools.sweep import process
from metastar.tools.sweep.executor import Executor, Share
from metastar.tools.sweep.process import GIB

DEFAULTS = {}


class _Job(NamedTuple):
    process: subprocess.Popen
    cores: list[int]
    log: Path


def make(
    settings: Mapping[str, Any], share: Share, jobs: int | None = None, folder: Path = Path()
) -> Executor:
    """Builds the executor.

    Args:
        settings: none.
        share: cores and memory of each process.
        jobs: processes at most; None: as many as the cores of this process allow.
        folder: not needed.

    Raises:
        UserError: the machine has fewer cores or less memory than one process may take.
    """
    del settings, folder
    cores = process.cores()
    places = [cores[k : k + share.cores] for k in range(0, len(cores), share.cores)]
    places = [place for place in places if len(place) == share.cores]
    if not places:
        raise UserError(
            f"a cell takes {share.cores} cores and there are {len(cores)}; lower cores in the "
            "sweep file"
        )
    limit = int(share.memory_gb * GIB)
    total = _meminfo("MemTotal")
    if total is not None and limit > total:
        raise UserError(
            f"a cell may take {share.memory_gb:g} GiB and the machine has {total / GIB:.1f}; "
            "lower memory_gb in the sweep file"
        )
    most = jobs or len(places)

    def start(argv, log, taken):
        busy = [core for one in taken for core in one.get("cores", ())]
        least = min(places, key=lambda place: sum(busy.count(core) for core in place))
        left = _meminfo("MemAvailable")
        if left is not None:  # less what the others may still take
            known = [process.memory_of(one["pid"]) for one in taken if "pid" in one]
            left -= sum(max(limit - own, 0) for own in known if own is not None)
        if len(taken) >= most or (left is not None and left < limit):
            return None
        return _Job(process.start(argv, log, least), least, log)

    def poll(job):
        return process.poll(job.process, share.memory_gb, job.log)

    return Executor(start, poll, _stop, _place)


def _stop(jobs: Sequence[_Job]) -> None:
    for job in jobs:
        job.process.terminate()


def _place(job: _Job) -> dict:
    return {"pid": job.process.pid, "cores": job.cores}


def _meminfo(name: str) -> int | None:
    """Bytes; None where the system does not say."""
    lines = Path("/proc/meminfo")
    if not lines.exists():
        return None
    fields = dict(line.split(":") for line in lines.read_text().splitlines())
    return 1024 * int(fields[name].split()[0])
