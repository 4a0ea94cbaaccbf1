"""Measures of codes from the audits of runs, where there are any, for `metastar compare`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from metastar import files
from metastar.evaluation import results
from metastar.files import Maybe, MayLack
from metastar.tools.report.groups import Group, Run

FILE = "audit.json"  # of `metastar audit`, beside the run's results
NOTE = (
    "*Codes* are audited on held-out tasks under the sources that the agent learned from, means "
    "over seeds (`metastar audit`): the *ratio* of what the source moves codes by to what the task "
    "does; how well a linear *probe* names the source, and chance; and how well the task can be "
    "read off by a linear map fitted on the training tasks (*task R²*)."
)
_MEASURES = {
    "ratio": ("ratio", "ratio"),
    "probe": ("identity", "linear", "accuracy"),
    "chance": ("identity", "chance"),
    "task R²": ("task_of_training", "linear", "r2"),
}


def _table(form: Any, *names: str) -> dict:
    """An object that may lack the names that lead to a number: where it could not be computed."""
    for name in reversed(names):
        form = {name: MayLack(Maybe(form))}
    return form


_TABLE = {
    **_table(float, "ratio", "ratio"),
    "identity": MayLack(Maybe(_table(float, "linear", "accuracy") | _table(float, "chance"))),
    **_table(float, "task_of_training", "linear", "r2"),
}
_AUDIT = {"splits": {"test": {"all": _TABLE, "trained": MayLack(_TABLE)}}}
_FORMS = {"ratio": "{:.4f}", "probe": "{:.0%}", "chance": "{:.0%}", "task R²": "{:.3f}"}


def table(groups: Sequence[Group]) -> list[tuple[str, ...]]:
    """Rows of text cells, one of each group with "–" where its runs have no audit; [] if none has.

    Raises `UserError` if an audit is damaged.
    """
    rows, known = [("group", "audited", *_MEASURES)], False
    for group in groups:
        audits = [audit for run in group.runs if (audit := _audit(run)) is not None]
        known |= bool(audits)
        rows.append((group.name, f"{len(audits)} of {len(group.runs)}", *cells(audits).values()))
    return rows if known else []


def cells(audits: Sequence[dict]) -> dict[str, str]:
    """The measures of the audits of a group's runs as text, means over them, by name."""
    return {
        name: _cell(name, [_number(audit, path) for audit in audits])
        for name, path in _MEASURES.items()
    }


def _audit(run: Run) -> dict | None:
    source = Path(run.source)
    path = (source.parent if source.name == results.FILE else source) / FILE
    remedy = f"run `metastar audit --workdir={path.parent}` again"
    found, where = run.audit, run.source
    if found is None and path.exists():  # it is not there beside a file that was copied
        found, where = files.read_json(path, remedy), path
    if found is not None:
        files.expect(found, _AUDIT, f"{where} does not hold the audit of a run", remedy)
    return found


def _number(audit: dict, path: Sequence[str]) -> float | None:
    """A number of the held-out tasks; None where the audit could not compute it."""
    test = audit["splits"]["test"]
    found = test.get("trained", test["all"])  # one table where the agent learned from all sources
    for name in path:
        found = found.get(name) if isinstance(found, dict) else None
    return found


def _cell(name: str, values: list[float | None]) -> str:
    values = [value for value in values if value is not None]
    return _FORMS[name].format(np.mean(values)) if values else "–"
