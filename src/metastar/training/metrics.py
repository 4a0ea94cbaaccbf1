"""Metrics of a run: `metrics.jsonl`, TensorBoard and the progress line."""

import json
import math
import os
import sys
from collections.abc import Callable
from pathlib import Path

from tensorboardX import SummaryWriter

from metastar import files
from metastar.errors import UserError

FILE = "metrics.jsonl"
TIMES = ("seconds", "updates_per_second")  # what a row says of the machine and not of the run


class MetricsWriter:
    """Appends rows to `metrics.jsonl` and their numbers to TensorBoard, each step once.

    A resumed run repeats what came after its checkpoint, so opening drops the rows beyond it, and
    with them a last line that a kill cut short.
    """

    def __init__(self, workdir: Path, step: int):
        """Opens the files of `workdir` for a run that continues after `step` updates."""
        path = Path(workdir) / FILE
        rows = [row for row in read_rows(path) if row["step"] <= step]
        files.write_atomic(path, "".join(json.dumps(row) + "\n" for row in rows))
        self._file = path.open("a")
        self._board = SummaryWriter(
            str(Path(workdir) / "tensorboard"),
            purge_step=step + 1 if step else None,
            filename_suffix=f".{step}",  # two files of one second would have one name
        )

    def write(self, row: dict) -> None:
        """Adds one row; it must hold "step". A number that is not finite becomes null."""
        clean = {
            k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in row.items()
        }
        for name, value in clean.items():
            if isinstance(value, int | float) and name != "step":
                self._board.add_scalar(name, value, row["step"])
        self._file.write(json.dumps(clean) + "\n")
        self._file.flush()

    def sync(self) -> None:
        """Forces all rows to disk; called before a checkpoint, which vouches for them."""
        self._board.flush()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Closes both files."""
        self._board.close()
        self._file.close()


def read_rows(path: Path) -> list[dict]:
    """Returns the rows of a `metrics.jsonl` without those cut short; [] if the file is missing.

    A value that is no number, text or null is left out. Raises `UserError` if it cannot be read.
    """
    rows = []
    try:
        lines = Path(path).read_text(errors="replace").split("\n")
    except FileNotFoundError:
        return []
    except OSError as error:
        raise UserError(f"cannot read {path} ({error.strerror}); move it away") from None
    for line in lines:
        try:
            row = files.parse_json(line)
        except ValueError:
            continue  # a kill met the file in the middle of a line
        if isinstance(row, dict) and type(row.get("step")) is int:
            rows.append({k: x for k, x in row.items() if isinstance(x, str | float | int | None)})
    return rows


class Progress:
    """One line that renews itself in a terminal; elsewhere a plain line now and then."""

    def __init__(
        self,
        total: int,
        clock: Callable[[], float],
        num_runs: int = 1,
        every_seconds: float = 10.0,
    ):
        """`total` updates of each run; outside a terminal one line per `every_seconds`."""
        self._total, self._clock, self._every = total, clock, every_seconds
        self._num_runs = num_runs
        self._terminal = sys.stdout.isatty()
        self._last, self._width = -math.inf, 0

    def show(self, phase: str, step: int, rate: float, left: int) -> None:
        """Shows the position: updates done, updates/s, and the time to the end of the phase.

        `rate` is that of one run; several runs are counted together.
        """
        runs = f" of {self._num_runs} runs" if self._num_runs > 1 else ""
        line = (
            f"{phase} {step}/{self._total} · {rate * self._num_runs:.1f} updates/s{runs} · "
            f"ETA {_minutes(left / rate)} (end of {phase})"
        )
        if self._terminal:
            print(f"\r{line:<{self._width}}", end="", flush=True)
            self._width = len(line)
        elif left == 0 or self._clock() - self._last >= self._every:
            self._last = self._clock()
            print(line, flush=True)

    def say(self, sentence: str) -> None:
        """Prints a sentence on a line of its own."""
        self.close()
        print(sentence, flush=True)

    def close(self) -> None:
        """Ends the line, so that what follows has one of its own."""
        if self._width:
            print(flush=True)
            self._width = 0


def _minutes(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"
