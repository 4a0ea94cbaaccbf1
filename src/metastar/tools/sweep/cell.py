"""The result file of a finished cell: all that its runs found, under the digest of its config.

`<results>/<cell>.json` holds `cell`, `command`, `config`, `digests`, `then`, `commit` and `runs`,
of each of which it has the content of `results.json` and that of `audit.json`, or None. The digests
are those of the `config.json` of its runs, which `results.json` names too.
"""

import hashlib
import shlex
from pathlib import Path
from typing import Any

import numpy as np

from metastar import config, files
from metastar.data import store
from metastar.errors import UserError
from metastar.evaluation import results
from metastar.files import Each, Maybe
from metastar.tools.report import codes
from metastar.tools.sweep.grid import Cell, Sweep
from metastar.training import runs

_FORM = {
    "cell": str,
    "config": {},
    "digests": [str],
    "then": [str],
    "runs": [{"results": {"protocols": Each({"mean": Maybe(float)})}}],
}


def command(cell: Cell) -> str:
    """The line that a reader can copy."""
    return shlex.join(["metastar", *cell.argv])


def commands(cell: Cell) -> list[list[str]]:
    """All commands of a cell, without `metastar`: its training, then those on each of its runs."""
    folders = [run.workdir for run in runs.expand(cell.cfg, cell.workdir)]
    after = [shlex.split(words) for words in cell.then]
    follow = [
        [name, f"--workdir={folder}", *options] for folder in folders for name, *options in after
    ]
    return [list(cell.argv), *follow]


def file_of(cell: Cell, sweep: Sweep) -> Path:
    """The result file of a cell."""
    return sweep.results / f"{cell.name}.json"


def log_of(cell: Cell, sweep: Sweep) -> Path:
    """The file with the commands of a cell and their output."""
    return sweep.runs / f"{cell.name}.log"


def digests(cell: Cell) -> list[str]:
    """SHA-256 of the bytes of `config.json` of each run of a cell."""
    texts = [files.sealed(config.to_dict(run.cfg)) for run in runs.expand(cell.cfg, cell.workdir)]
    return [hashlib.sha256(text.encode()).hexdigest() for text in texts]


def write(cell: Cell, sweep: Sweep) -> dict[str, float]:
    """Writes the result file of a cell whose commands have ended well; returns its `returns`.

    One that is there already stays. A block has none: its folder is the result.

    Raises:
        UserError: the workdir lacks a file, or one is damaged; the folder is not writable.
    """
    if cell.is_block:
        store.read_manifest(cell.workdir)
        return {}
    file = file_of(cell, sweep)
    if not is_done(cell, sweep):
        found = [_content(run.workdir) for run in runs.expand(cell.cfg, cell.workdir)]
        files.write_json(
            file,
            {
                "cell": cell.name,
                "command": command(cell),
                "config": config.to_dict(cell.cfg),
                "digests": digests(cell),
                "then": list(cell.then),
                "commit": found[0]["results"]["commit"],
                "runs": found,
            },
        )
    return returns(read(file))


def is_done(cell: Cell, sweep: Sweep) -> bool:
    """Whether the result file of a cell is there, of this very config.

    Raises:
        UserError: it is damaged, or of another config, or had other commands after the training.
    """
    file = file_of(cell, sweep)
    if not file.exists():
        return False
    found = read(file)
    remedy = "move it away, or set the sweep file back"
    if found["then"] != list(cell.then):
        raise UserError(
            f"{file} is of a cell with then = {tuple(found['then'])!r}, and the sweep file has "
            f"{cell.then!r}; {remedy}"
        )
    if found["digests"] == digests(cell):
        return True
    stored = config.from_dict(found["config"], str(file))
    mine = config.from_dict(config.to_dict(cell.cfg))
    if difference := config.diff(stored, mine):  # None: fields were added since, with this value
        name, there, here = difference
        raise UserError(
            f"{file} is of a cell with {name} = {there!r}, and this one has {here!r}; {remedy}"
        )
    return True


def read(file: str | Path) -> dict[str, Any]:
    """The content of a result file; raises `UserError` if it is missing, damaged or none."""
    remedy = "move it away and run its sweep again"
    found = files.read_json(file, remedy)
    otherwise = f"{file} is not the result file of a cell"
    files.expect(found, _FORM, otherwise, remedy)
    if not found["runs"]:
        raise UserError(f"{otherwise}: it has no runs; {remedy}")
    return found


def returns(content: dict[str, Any]) -> dict[str, float]:
    """Mean return over the runs of a result file, by name of the protocol, where all have one."""
    blocks = [run["results"]["protocols"] for run in content["runs"]]
    shared = [name for name in blocks[0] if all(name in block for block in blocks)]
    means = {name: [block[name]["mean"] for block in blocks] for name in shared}
    return {name: float(np.mean(x)) for name, x in means.items() if None not in x}


def _content(workdir: Path) -> dict[str, Any]:
    file = workdir / codes.FILE
    audited = files.read_json(file, "audit the run again") if file.exists() else None
    return {"results": results.read(workdir), "audit": audited}
