"""A command of a cell as a process, held to its cores and its memory: what executors share."""

import contextlib
import fcntl
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from metastar.tools.sweep.executor import PROMPT

GIB = 2**30
_PAUSE = 0.2  # seconds between two looks at a process
# Linux then sends it SIGTERM when the process that started it dies; elsewhere it just goes on.
_TIE = "import ctypes; getattr(ctypes.CDLL(None), 'prctl', lambda *_: 0)(1, 15)"
_DEAF = "import signal; [signal.signal(number, signal.SIG_IGN) for number in {}]"
_GO_ON = "import os, sys; os.execv(sys.argv[1], sys.argv[1:])"


def cores() -> list[int]:
    """Those that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def start(
    argv: Sequence[str],
    log: Path,
    own: list[int],
    changes: Mapping[str, str] | None = None,
    folder: str | None = None,
    tied: bool = False,
    deaf: Sequence[int] = (),
) -> subprocess.Popen:
    """Starts `python -m metastar *argv`.

    XLA and MuJoCo count the cores that they may use, so what holds it to these holds their pools of
    threads too; OpenMP and OpenBLAS are told by a variable.

    Args:
        argv: the command.
        log: its output goes to the end of this file, after a line with the command.
        own: the cores that it is held to.
        changes: of the environment.
        folder: it runs in; None: the current one.
        tied: it is asked to save and end when this process dies.
        deaf: signals that it ignores; SIGINT asks it to save and end all the same.
    """
    number = str(len(own))
    threads = {"OMP_NUM_THREADS": number, "OPENBLAS_NUM_THREADS": number, "PYTHONUNBUFFERED": "1"}
    words = [sys.executable, "-m", "metastar", *argv]
    ahead = [_TIE] * tied + [_DEAF.format([int(number) for number in deaf])] * bool(deaf)
    if ahead:
        words = [sys.executable, "-S", "-c", "; ".join([*ahead, _GO_ON]), *words]
    with log.open("a") as stream, _held_to(own):
        stream.write(f"{PROMPT}{shlex.join(argv)}\n")
        stream.flush()
        return subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=subprocess.STDOUT,
            env=os.environ | threads | (changes or {}),
            cwd=folder,
            start_new_session=True,  # signals reach its starter alone, which asks it to save
        )


def poll(process: subprocess.Popen, memory_gb: float, log: Path) -> int | None:
    """The exit status, or None while it runs; ends it with a sentence if it takes more memory."""
    status = process.poll()
    if status is None and (memory_of(process.pid) or 0) > memory_gb * GIB:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        say(
            log,
            f"the process took more than {memory_gb:g} GiB of memory and was ended; raise "
            "memory_gb in the sweep file",
        )
        return process.wait()
    return status


def wait(process: subprocess.Popen, memory_gb: float, log: Path) -> int:
    """`poll` until the end; `KeyboardInterrupt` meanwhile asks the process to save and end."""
    while True:
        try:
            while (status := poll(process, memory_gb, log)) is None:
                time.sleep(_PAUSE)
            return status
        except KeyboardInterrupt:
            process.terminate()


def say(log: Path, sentence: str) -> None:
    """Adds a sentence to a log, as a command says it: that is what the sweep tells of it."""
    with log.open("a") as stream:
        stream.write(f"\nmetastar: {sentence}\n")


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


@contextlib.contextmanager
def free_cores(number: int) -> Iterator[list[int]]:
    """Yields `number` cores that no other cell holds which took its cores here, while there are.

    For cells that a scheduler brought to this machine: they agree by locks on files, which the
    kernel frees. Where the scheduler has confined this process to so many, these are they.
    """
    mine = cores()
    if len(mine) <= number:
        yield mine
        return
    folder = Path(tempfile.gettempdir(), f"metastar-cores-{os.getuid()}")
    folder.mkdir(mode=0o700, exist_ok=True)
    free, busy = [], []
    with contextlib.ExitStack() as stack:
        for core in mine:
            lock = stack.enter_context(open(folder / str(core), "w"))
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                free.append(core)
            except BlockingIOError:
                busy.append(core)
            if len(free) == number:
                break
        yield (free + busy)[:number]


@contextlib.contextmanager
def _held_to(own: list[int]) -> Iterator[None]:
    """Holds this thread to some cores, where the system can: what it starts is born on them."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, own)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
