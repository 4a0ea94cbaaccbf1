"""What SIGINT and SIGTERM do to a command: end it at once, or in order where there is what to save.

A thread sees to it. Python runs handlers between two instructions of the main thread only, and XLA
compiles and computes for minutes within one; and an exception that a handler raises is swallowed
or turned into another one if it meets C code or the collection of garbage. A thread may end the
process anywhere, since files are whole or absent at any instant.
"""

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator

from metastar.errors import Stopped

NUMBERS = (signal.SIGINT, signal.SIGTERM)
_END = 0  # no signal's number: the context ends
_farewells: list[Callable[[Stopped], None]] = []


@contextlib.contextmanager
def caught(held: bool = False) -> Iterator[list[signal.Signals]]:
    """Handles both signals until the context ends; yields the list of those noted.

    Outside of the main thread, which alone may handle signals, it does nothing. SIGTERM stays
    ignored if whoever started this process had it ignored; not so SIGINT, which shells have
    ignored in all that they start in the background.

    Args:
        held: the first one is only noted, and it is the caller who ends in order, at a point that
            is safe; a second one ends the process. Otherwise the first one does.

    Raises:
        Stopped: a signal is left in the list, since it arrived too late for the caller to see.
    """
    received: list[signal.Signals] = []
    if threading.current_thread() is not threading.main_thread():
        yield received
        return

    def note(number, frame):
        del frame
        received.append(signal.Signals(number))

    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    watch = threading.Thread(target=_watch, args=(reader, held), daemon=True)
    watch.start()
    outer = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    deaf = signal.getsignal(signal.SIGTERM) == signal.SIG_IGN
    heard = [number for number in NUMBERS if not (deaf and number == signal.SIGTERM)]
    before = {number: signal.signal(number, note) for number in heard}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(outer)
        os.write(writer, bytes([_END]))
        watch.join()
        os.close(writer)
        os.close(reader)
    if received:
        raise Stopped(received[0])


@contextlib.contextmanager
def farewell(say: Callable[[Stopped], None]) -> Iterator[None]:
    """Within this context `say` is called, in another thread, before a signal ends the process."""
    _farewells.append(say)
    try:
        yield
    finally:
        _farewells.remove(say)


def _watch(reader: int, held: bool) -> None:
    """Reads numbers of signals as they arrive, until the context ends."""
    while (number := os.read(reader, 1)[0]) != _END:
        if number not in NUMBERS:
            continue
        if not held:
            _end(Stopped(number))
        name = signal.Signals(number).name
        _print(f"{name}: stopping as soon as all is saved; once more stops at once")
        held = False


def _end(stopped: Stopped) -> None:
    for say in _farewells:
        say(stopped)
    _print(str(stopped))
    os._exit(stopped.code)


def _print(sentence: str) -> None:
    """Writes past Python's streams, which the main thread may be holding."""
    start = "\n" if os.isatty(2) else ""  # the line of progress has no end there
    with contextlib.suppress(OSError):
        os.write(2, f"{start}metastar: {sentence}\n".encode())
