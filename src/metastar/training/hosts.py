"""Several processes, of one host or of many, that train one program together.

All are started with the same command, but for their number; `jax.distributed` makes one set of
devices of theirs, and every one computes its part of each update. Process 0 is the writer: it alone
evaluates, and writes data, checkpoints, metrics and results, into folders that all of them see.

JAX ends a process that waits for one which is gone, with words of its own and without a way to say
others; hence the witness.
"""

import atexit
import contextlib
import hashlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from jax.experimental import multihost_utils

from metastar import signals
from metastar.errors import Stopped, UserError, ending, one_line

AUTO = "auto"  # as SLURM or MPI says, by way of JAX
SECONDS = 300  # that the processes have to come together
_LONG = 7 * 24 * 3600  # seconds that they wait for the writer's work; it may take hours
_APART = (
    "the processes did not come together within {} seconds (JAX says more above); start each of "
    "them once, with its own --process and the same --coordinator and --processes"
)
_GONE = ("Gloo", "coordination service", "CoordinationService")  # in errors, if another one is
_LOST = (
    "this process was killed, or another one of the program is gone (see what that one says); "
    "the same commands go on from the newest checkpoint"
)


@contextlib.contextmanager
def joined(coordinator: str | None, process: int | None, processes: int | None) -> Iterator[None]:
    """Makes this process one of several until the context ends; call before devices are used.

    Without a coordinator it does nothing. After an error the process should end, which then takes a
    second at most: the others are not waited for, since they wait for it.

    Args:
        coordinator: `HOST:PORT`, on which process 0 listens, or `AUTO`.
        process: number of this one; None under `AUTO`.
        processes: how many there are; None under `AUTO`.

    Raises:
        UserError: the three do not fit together; there is nothing to detect; process 0 cannot
            listen there, or does not answer within `SECONDS`.
    """
    if coordinator is None:
        if (process, processes) != (None, None):
            raise UserError("--process and --processes need --coordinator=HOST:PORT of process 0")
        yield
        return
    chosen = {} if coordinator == AUTO else _checked(coordinator, process, processes)
    witness = _Witness(_APART.format(SECONDS))
    with signals.farewell(lambda stopped: witness.expect("")):
        try:
            _initialize(chosen)
            witness.expect(_LOST)
            yield
            jax.distributed.shutdown()  # which waits for the others
        except Stopped:  # all have agreed on it
            jax.distributed.shutdown()
            raise
        except BaseException as error:
            _leave(error, witness)
            raise
        finally:
            witness.expect("")
            witness.close()


def everyone(value: Any) -> np.ndarray:
    """What each process has there, [P, ...] for arrays [...] of one shape; all must ask."""
    return np.atleast_1d(multihost_utils.process_allgather(np.asarray(value)))


def expect_alike(what: Any, sentence: str) -> None:
    """Raises `UserError`, in every process, unless all of them have the same `repr(what)`."""
    digests = everyone(np.frombuffer(hashlib.sha256(repr(what).encode()).digest(), np.uint8))
    if (digests != digests[0]).any():
        raise UserError(sentence)


def agreed(received: Sequence[int]) -> int:
    """The signal that a process has received first, or the largest of several; 0 if none has."""
    return int(everyone(received[0] if received else 0).max())


def wait(name: str) -> None:
    """Waits until all processes are here, however long that is; each name serves once."""
    if jax.process_count() > 1:
        ocp.multihost.get_barrier_sync_fn()(key=f"metastar {name}", timeout_ms=1000 * _LONG)


def _checked(coordinator: str, process: int | None, processes: int | None) -> dict[str, Any]:
    """The arguments of `jax.distributed.initialize`, once process 0 can be reached."""
    host, _, port = coordinator.rpartition(":")
    if not (host and port.isdecimal() and 0 < int(port) < 2**16):
        raise UserError(f"--coordinator is {coordinator!r} but must be HOST:PORT or {AUTO}")
    if process is None or processes is None:
        raise UserError("--coordinator needs --process and --processes: this one, and how many")
    if not 0 <= process < processes:
        raise UserError(f"--process is {process} but must lie in [0, {processes}), see --processes")
    address = (host.strip("[]"), int(port))
    if process:
        _expect_answer(address)
    else:
        _expect_free(address[1])
    return {
        "coordinator_address": coordinator,
        "num_processes": processes,
        "process_id": process,
        "cluster_detection_method": "deactivate",
    }


def _expect_answer(address: tuple[str, int]) -> None:
    """Waits for process 0; JAX would end without a sentence."""
    until = time.monotonic() + SECONDS
    while True:
        try:
            socket.create_connection(address, timeout=5).close()
            return
        except OSError as error:
            if time.monotonic() > until:
                raise UserError(
                    f"the coordinator {address[0]}:{address[1]} does not answer within {SECONDS} "
                    f"seconds ({one_line(error)}); start process 0, and look at the address"
                ) from None
        time.sleep(0.2)


def _expect_free(port: int) -> None:
    """JAX would share the port with another process 0, and both would wait in vain."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", port))
        except OSError as error:
            raise UserError(
                f"process 0 cannot listen on port {port} ({error.strerror}); give another in "
                "--coordinator"
            ) from None


def _initialize(chosen: dict[str, Any]) -> None:
    # It would take SIGTERM away from `signals.caught`.
    jax.config.update("jax_enable_preemption_service", False)
    try:
        jax.distributed.initialize(
            **chosen, initialization_timeout=SECONDS, shutdown_timeout_seconds=_LONG
        )
    except ValueError as error:
        raise UserError(
            f"nothing here says which processes there are ({one_line(error)}); give "
            "--coordinator=HOST:PORT, --process and --processes"
        ) from None


def _leave(error: BaseException, witness: "_Witness") -> None:
    """Sees to it that this process ends soon; JAX would wait for those that wait for it."""
    if not jax.distributed.is_initialized():
        return
    status = ending(error)[0]
    if status is None and any(name in str(error) for name in _GONE):  # JAX may end this one now
        witness.close()
        os._exit(128 + signal.SIGABRT)
    # Runs ahead of what JAX does at exit.
    atexit.register(_end, 1 if status is None else status, jax.process_index() == 0)


def _end(status: int, is_coordinator: bool) -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    if is_coordinator:
        time.sleep(1)  # JAX ends the others with it: those that end by themselves say why
    os._exit(status)


class _Witness:
    """Says a sentence if this process ends without having taken it back, whatever ended it."""

    _SCRIPT = (
        "while IFS= read -r line; do last=$line; done; "
        '[ -z "$last" ] || printf "metastar: %s\\n" "$last" >&2'
    )

    def __init__(self, sentence: str):
        # A session of its own: what interrupts this process is not meant for it.
        self._shell = subprocess.Popen(
            ["sh", "-c", self._SCRIPT], stdin=subprocess.PIPE, text=True, start_new_session=True
        )
        self.expect(sentence)

    def expect(self, sentence: str) -> None:
        """Replaces the sentence; an empty one is none."""
        with contextlib.suppress(OSError, ValueError):
            self._shell.stdin.write(f"{sentence}\n")
            self._shell.stdin.flush()

    def close(self) -> None:
        """Ends it, as the end of this process does."""
        with contextlib.suppress(OSError):
            self._shell.stdin.close()
        self._shell.wait()
