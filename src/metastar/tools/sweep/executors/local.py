"""Processes on this machine, each held to its cores and its memory."""

import contextlib
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from metastar.errors import UserError
from metastar.tools.sweep.executor import PROMPT, Executor, Share

_GIB = 2**30


class _Job(NamedTuple):
    process: subprocess.Popen
    cores: list[int]
    log: Path


def make(share: Share, jobs: int | None = None) -> Executor:
    """Builds the executor.

    Args:
        share: cores and memory of each process.
        jobs: processes at most; None: as many as the cores of this process allow.

    Raises:
        UserError: the machine has fewer cores or less memory than one process may take.
    """
    cores = _cores()
    places = [cores[k : k + share.cores] for k in range(0, len(cores), share.cores)]
    places = [place for place in places if len(place) == share.cores]
    if not places:
        raise UserError(
            f"a cell takes {share.cores} cores and there are {len(cores)}; lower cores in the "
            "sweep file"
        )
    limit = int(share.memory_gb * _GIB)
    total = _meminfo("MemTotal")
    if total is not None and limit > total:
        raise UserError(
            f"a cell may take {share.memory_gb:g} GiB and the machine has {total / _GIB:.1f}; "
            "lower memory_gb in the sweep file"
        )
    most = jobs or len(places)

    def start(argv, log, taken):
        busy = [core for one in taken for core in one.get("cores", ())]
        least = min(places, key=lambda place: sum(busy.count(core) for core in place))
        left = _meminfo("MemAvailable")
        if left is not None:  # less what the others may still take
            known = [memory_of(one["pid"]) for one in taken if "pid" in one]
            left -= sum(max(limit - own, 0) for own in known if own is not None)
        if len(taken) >= most or (left is not None and left < limit):
            return None
        return _start(argv, log, least)

    def poll(job):
        status = job.process.poll()
        if status is None and (memory_of(job.process.pid) or 0) > limit:
            _kill(job.process)
            with job.log.open("a") as stream:
                stream.write(
                    f"\nmetastar: the process took more than {share.memory_gb:g} GiB of memory and "
                    "was ended; raise memory_gb in the sweep file\n"
                )
            return job.process.wait()
        return status

    return Executor(start, poll, _stop, _place)


def memory_of(pid: int) -> int | None:
    """Bytes of memory that a process and those that it started hold; None where not known."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        tasks = Path(f"/proc/{pid}/task").iterdir()
        children = [pid for task in tasks for pid in (task / "children").read_text().split()]
    except (OSError, IndexError):  # no Linux, or it has just ended
        return None
    own = pages * os.sysconf("SC_PAGE_SIZE")
    return own + sum(memory_of(int(child)) or 0 for child in children)


def _start(argv: Sequence[str], log: Path, cores: list[int]) -> _Job:
    number = str(len(cores))
    threads = {"OMP_NUM_THREADS": number, "OPENBLAS_NUM_THREADS": number, "PYTHONUNBUFFERED": "1"}
    with log.open("a") as stream, _held_to(cores):
        stream.write(f"{PROMPT}{shlex.join(argv)}\n")
        stream.flush()
        process = subprocess.Popen(
            [sys.executable, "-m", "metastar", *argv],
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=subprocess.STDOUT,
            env=os.environ | threads,
            start_new_session=True,  # Ctrl-C reaches the sweep alone, which asks its cells to save
        )
    return _Job(process, cores, log)


@contextlib.contextmanager
def _held_to(cores: list[int]) -> Iterator[None]:
    """Holds this thread to some cores, where the system can: what it starts is born on them."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _stop(job: _Job) -> None:
    job.process.terminate()


def _place(job: _Job) -> dict:
    return {"pid": job.process.pid, "cores": job.cores}


def _kill(process: subprocess.Popen) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def _cores() -> list[int]:
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def _meminfo(name: str) -> int | None:
    """Bytes; None where the system does not say."""
    lines = Path("/proc/meminfo")
    if not lines.exists():
        return None
    fields = dict(line.split(":") for line in lines.read_text().splitlines())
    return 1024 * int(fields[name].split()[0])
