"""`report.md` and the summary on the terminal, from a workdir's files alone."""

from collections.abc import Sequence
from pathlib import Path

from metastar import files
from metastar.errors import UserError
from metastar.evaluation import results
from metastar.tools.report import figures, tables

FILE = "report.md"
COLUMNS = (
    "evaluation",
    "mean return",
    "95 % interval",
    "IQM",
    "contexts",
    "of optimum",
    "scale",
    "of oracle's gap",
    "success",
)
OOD = {"ood_moderate": "moderately out of distribution", "ood_extreme": "far out of distribution"}
NOTES = """\
How to read the table:

- *Few-shot*: the task code comes from a context window of the task's own data, drawn uniformly and
  fixed for the episode; *zero-shot*: the agent acts at random until its own history fills a
  context, then infers the code anew at every step, and the return of its second episode counts;
  where episodes may end early, the mean return of those that begin after as many steps as a full
  one has. *Exploring* it acts until then on codes of training tasks, chosen by the strategy.
- Means are over tasks of the task's mean. Intervals are bootstrap intervals stratified over tasks
  (windows or streams are resampled within each task): they hold for these tasks and this training
  run, not for other tasks or seeds. IQM is the mean of the middle half of all scores.
- *Contexts* is the share of the windows (zero-shot: of the streams, which are missing if all their
  episodes began too early to count) a row is made of; *of optimum* compares with the analytic
  optimum from the same starts, averaged alike; *scale* is 0 for uniform random actions and 1 for
  the optimum; *of oracle's gap* is 0 for uniform random actions and 100 % for the oracle.
- *Success* is the share of episodes (zero-shot: of streams, in any episode) that met the goal,
  in families that have one.
- *Last evaluations* are the last five during training: their mean, and the largest fall from one of
  them to a later one.
- Rows that name a behaviour policy draw all contexts from its episodes: *cross_task* ones were
  made in the very task by policies that had learned other tasks.
- Tasks *out of distribution* lie between (moderately) or beyond (far) the training tasks.
- Bounds: *best behaviour* is the mean return of each task's best behaviour policy and stage in the
  data set, from the data's own starts; the *oracle* is trained on the true task parameters.
"""


def write(workdir: str | Path) -> Path:
    """Draws the figures and writes `report.md`; returns its path.

    Raises `UserError` if the run has not been evaluated or the folder is read-only.
    """
    workdir = Path(workdir)
    report = _read(workdir)
    try:
        (workdir / figures.FOLDER).mkdir(exist_ok=True)
    except OSError as error:
        raise UserError(
            f"cannot write in {str(workdir)!r} ({error.strerror}); make the folder writable"
        ) from None
    images = [
        f"![{name.replace('_', ' ')}]({figures.FOLDER}/{name}.png)\n\n{figures.CAPTIONS[name]}\n"
        for name in figures.write(workdir)
    ]
    files.save(workdir / FILE, _page(report, images))
    return workdir / FILE


def _page(report: dict, images: Sequence[str]) -> str:
    return "\n".join(
        [
            f"# {report['method']} on {report['family']}\n",
            f"{_origin(report)}\n",
            "```\n" + report["command"] + "\n```\n",
            f"## Results on {_tasks(report)}\n",
            tables.markdown(table(report)),
            *([tables.markdown(stability(report))] if report.get("stability") else []),
            NOTES,
            *(line for block in report["protocols"].values() for line in _values(block)),
            "## Figures\n",
            *images,
            "## Provenance\n",
            tables.markdown([("item", "value"), *_provenance(report)]),
        ]
    )


def summary(workdir: str | Path) -> str:
    """The table of results as plain text, with where the files are."""
    workdir = Path(workdir)
    report = _read(workdir)
    rows = tables.plain(table(report)).splitlines()
    names = (
        FILE,
        results.FILE,
        figures.FOLDER,
        results.ARRAYS_FILE,
        "config.json",
        "metrics.jsonl",
    )
    found = [name for name in names if (workdir / name).exists()]
    return "\n".join(
        [
            f"{report['method']} on {report['family']}, {_tasks(report)}; {_origin(report)}",
            "",
            *(line.rstrip() for line in rows),
            "",
            *([tables.plain(stability(report)), ""] if report.get("stability") else []),
            f"files in {workdir}: {', '.join(found)}",
        ]
    )


def _read(workdir: Path) -> dict:
    """The results of a run; raises `UserError` unless they hold what a report shows."""
    report = results.read(workdir)
    try:
        _page(report, ())
    except (AttributeError, KeyError, TypeError, ValueError):
        raise UserError(
            f"{workdir / results.FILE} does not hold the results of a run; run "
            f"`metastar evaluate --workdir={workdir}` again"
        ) from None
    return report


def table(report: dict) -> list[tuple[str, ...]]:
    """Rows of text cells, one per evaluation and bound, under `COLUMNS`; "–" where not known."""
    blocks = _protocols(report)
    blocks += [part for block in report["protocols"].values() for part in _parts(block)]
    blocks += [(f"training tasks, {title}", block) for title, block in _protocols(report["train"])]
    rows = [(name, *_cells(block)) for name, block in blocks if block is not None]
    rows += _bounds(report["bounds"])
    for key, name in OOD.items():
        if key in report:
            column = report[key]
            rows += [(f"{name}: {kind}", *_cells(block)) for kind, block in _protocols(column)]
            rows += _bounds(column["bounds"], f"{name}: ")
    return [COLUMNS, *rows]


def stability(report: dict) -> list[tuple[str, ...]]:
    """Rows of text cells: mean and drop of the last evaluations during training."""
    head = ("last evaluations", "mean return", "drop", "evaluations")
    return [
        head,
        *(
            (name, f"{b['mean']:.2f}", f"{b['drop']:.2f}", str(b["evaluations"]))
            for name, b in report["stability"].items()
        ),
    ]


def _values(protocol):
    block = protocol.get("value")
    if block is None:
        return
    low, high = block["ci95"]
    yield (
        f"Values: at the first step of {protocol['title']} episodes the critics expect a "
        f"discounted return of "
        f"{block['value']:.2f}, and the episodes give {block['monte_carlo']:.2f}; overestimation "
        f"{block['mean']:.2f} ({low:.2f} to {high:.2f}), discount {block['gamma']:g}.\n"
    )


def _protocols(column):
    """Title and block of every protocol."""
    return [(block["title"], block) for block in column["protocols"].values()]


def _parts(block):
    """Titles and blocks of parts of a protocol's contexts."""
    title = block["title"]
    yield f"{title}, windows with reward", block.get("informative")
    yield f"{title}, windows without reward", block.get("uninformative")
    for name, part in block.get("by_context_source", {}).items():
        yield f"{title}, {name} contexts", part


def _bounds(bounds, prefix=""):
    names = {
        "random": "bound: uniform random actions",
        "behavior_best": "bound: best behaviour",
        "oracle": "bound: oracle",
        "optimum": "bound: analytic optimum",
    }
    return [
        (prefix + name, f"{bounds[key]:.2f}", *["–"] * (len(COLUMNS) - 2))
        for key, name in names.items()
        if bounds[key] is not None
    ]


def _cells(block):
    if block["mean"] is None:
        return "–", "–", "–", "0 %", *["–"] * (len(COLUMNS) - 5)
    low, high = block["ci95"]
    of_optimum, scale, gap = block["of_optimum"], block["normalized"], block["gap_closed"]
    success = block.get("success")
    return (
        f"{block['mean']:.2f}",
        f"{low:.2f} to {high:.2f}",
        f"{block['iqm']:.2f}",
        f"{100 * block['share']:.0f} %",
        "–" if of_optimum is None else f"{100 * of_optimum:.1f} %",
        "–" if scale is None else f"{scale:.3f}",
        "–" if gap is None else f"{100 * gap:.1f} %",
        "–" if success is None else f"{100 * success:.0f} %",
    )


def _origin(report):
    preset = report["preset"] or "default"
    minutes = report["wall_seconds"] / 60
    return (
        f"preset {preset}, seed {report['seed']}, {report['updates']} updates, "
        f"{minutes:.1f} minutes on {report['device']}"
    )


def _tasks(report):
    kind = "test" if report["split"] == "test" else "withheld training"
    return f"{len(report['tasks']['ids'])} {kind} tasks"


def _provenance(report):
    versions = ", ".join(f"{k} {v}" for k, v in report["versions"].items())
    ids = ", ".join(map(str, report["tasks"]["ids"]))
    return [
        ("commit", report["commit"]),
        ("versions", versions),
        ("parameters (SHA-256)", report["params_sha256"]),
        ("held-out tasks", ids),
        ("inference.choice", report.get("inference", "encoder")),
    ]
