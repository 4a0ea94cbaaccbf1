"""SIGINT and SIGTERM: one sentence, status 128 + n, at once or as soon as all is saved."""

import os
import signal
import subprocess
import sys
import time

import pytest

from metastar import signals
from metastar.errors import Stopped

# A mutex that is locked twice stands for XLA: C code during which no handler of Python's runs.
PROGRAM = """
import ctypes, sys
from metastar import signals
mutex, lock = ctypes.create_string_buffer(128), ctypes.CDLL(None).pthread_mutex_lock
def bye(stopped): print("bye", stopped, flush=True)
with signals.caught({held}) as received, signals.farewell(bye):
    lock(mutex)
    print("ready", flush=True)
    lock(mutex) if {busy} else sys.stdin.readline()
    print("went on", *received, flush=True)
"""


def start(held, busy):
    code = PROGRAM.format(held=held, busy=busy)
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    process = subprocess.Popen([sys.executable, "-c", code], **pipes, text=True)
    assert process.stdout.readline() == "ready\n"
    return process


@pytest.mark.parametrize(
    "number, word", [(signal.SIGINT, "interrupted"), (signal.SIGTERM, "terminated")]
)
def test_a_signal_ends_a_command_at_once_with_one_sentence(number, word):
    process = start(held=False, busy=True)
    process.send_signal(number)
    out, err = process.communicate(timeout=20)
    assert (out, err) == (f"bye {word}\n", f"metastar: {word}\n")
    assert process.returncode == 128 + number


def test_a_signal_that_is_held_is_noted_and_a_second_one_ends_the_process():
    process = start(held=True, busy=True)
    process.send_signal(signal.SIGTERM)
    assert process.stderr.readline().startswith("metastar: SIGTERM: stopping as soon as")
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=20)
    assert (out, err, process.returncode) == ("bye interrupted\n", "metastar: interrupted\n", 130)


def test_a_signal_that_is_held_is_raised_if_nobody_looked():
    process = start(held=True, busy=False)
    process.send_signal(signal.SIGTERM)
    process.stderr.readline()
    out, err = process.communicate("\n", timeout=20)
    assert out == "went on 15\n" and "Stopped" not in err and process.returncode == 143


def test_a_sigterm_that_is_ignored_from_the_start_stays_so():
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        with signals.caught(held=True) as received:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0)
        assert received == [] and signal.getsignal(signal.SIGTERM) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGTERM, before)


def test_handlers_are_as_before_when_the_context_ends():
    before = [signal.getsignal(number) for number in signals.NUMBERS]
    with pytest.raises(Stopped, match="terminated"), signals.caught(held=True) as received:
        assert [signal.getsignal(number) for number in signals.NUMBERS] != before
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0)  # handlers run between two instructions
        assert received == [signal.SIGTERM]
    assert [signal.getsignal(number) for number in signals.NUMBERS] == before
    assert signal.set_wakeup_fd(-1) == -1
