"""`audit.md` and the summary on the terminal, from what `audit.json` holds."""

from pathlib import PurePath

from metastar import audit_figures, tables

HEAD = ("quantity", "train", "test")
KINDS = {"all": "all windows", "informative": "windows with reward"}
NOTES = """\
How to read it (formulas and sources: docs/audit.md of metastar):

- *Variance ratio*: how far a change of the collector moves the code of a task, against a change of
  the task, as variances without the windows' own noise. 0 is a code that tells the task alone. It
  is unbiased, so that it may fall below 0.
- *Energy distance* compares whole distributions, relative to that between tasks. *Control* is the
  same for two halves of one source's episodes: what differs there is not the policy. Only what
  exceeds the control speaks of the policy.
- *Which source?* is a probe's accuracy on tasks held out; *upper bound* is that of 95 % by a
  bootstrap over tasks; *shuffled* is the mean with the sources' names exchanged within each task.
- *Task removed* takes the task's mean from the codes (and from the target), so that what is left
  cannot come from policies that behave differently in different tasks.
- Intervals are 95 % by a bootstrap over tasks; they speak of this training run only.
"""


def page(report: dict, images: list[str]) -> str:
    """The Markdown page; `images` are paths from its folder."""
    text = [
        f"# Audit of {report['method']} on {report['family']}",
        f"Preset {report['preset'] or 'default'}, seed {report['seed']}, checkpoint at update "
        f"{report['step']}. {report['windows']} windows of {report['context_len']} steps of each "
        f"task and source; {report['seconds']:.0f} s.",
    ]
    for kind, title in KINDS.items():
        found = _blocks(report, kind)
        if found:
            text += [f"## Same model, different collectors: {title}", tables.markdown(rows(found))]
            text += [tables.markdown(windows(found))]
    absent = reasons(report)
    if absent:
        text += ["Not computed:", "\n".join(f"- {line}" for line in absent)]
    text += [NOTES.rstrip(), "## What it costs", _cost(report["cost"])]
    text += ["## Health of the code", tables.markdown(health(report["health"]))]
    if report["drift"]:
        text += [tables.markdown(drift(report))]
    if report["against"]:
        text += [f"## Against {report['against']['workdir']}", tables.markdown(against(report))]
        text += [
            "The same between two seeds on one data set is the noise to compare with: "
            "what exceeds it is due to the data."
        ]
    for image in images:
        name = PurePath(image).stem
        text += [f"![{name.replace('_', ' ')}]({image})", audit_figures.CAPTIONS[name]]
    return "\n\n".join(text) + "\n"


def summary(report: dict) -> str:
    """The tables as plain text."""
    text = [
        f"audit of {report['method']} on {report['family']}, update {report['step']}, "
        f"{report['seconds']:.0f} s"
    ]
    for kind, title in KINDS.items():
        found = _blocks(report, kind)
        if found:
            text += [f"{title}\n{tables.plain(rows(found))}"]
    text += [_cost(report["cost"], tables.plain), tables.plain(health(report["health"]))]
    if report["against"]:
        text += [f"against {report['against']['workdir']}\n{tables.plain(against(report))}"]
    return "\n\n".join(text)


def rows(found: dict[str, dict]) -> list[tuple[str, ...]]:
    """The main table from the blocks of `train` and `test`; reasons for what is absent below it."""
    cells = {
        "variance ratio, policies : tasks": lambda b: _interval(b["ratio"], "ratio"),
        "relative energy distance": lambda b: f"{b['energy']['pairs']['relative']:.3f}",
        "… control": lambda b: f"{b['energy']['control']['relative']:.3f}",
        "pairs of sources that differ": lambda b: _percent(b["energy"]["pairs"]["share_differing"]),
        "… control ": lambda b: _percent(b["energy"]["control"]["share_differing"]),
    }
    for key, title in (("identity", ""), ("identity_within_task", ", task removed")):
        for model in ("linear", "mlp"):
            name = f"which source? {model}{title}"
            cells[name] = lambda b, key=key, model=model: _accuracy(b[key], model)
    for name in ("mean action", "variance of the action", "mean observation"):
        for key, title in (("plain", ""), ("within_task", ", task removed")):
            cells[f"R² of {name}{title}"] = lambda b, name=name, key=key: _interval(
                b["statistics"][name][key], "r2"
            )
    for model in ("linear", "mlp"):
        cells[f"R² of the task parameters, {model}"] = lambda b, m=model: _interval(
            b["task"][m], "r2"
        )
        cells[f"RMSE of the task parameters, {model}"] = lambda b, m=model: _rmse(b["task"], m)
    for key in ("disentanglement", "completeness"):
        cells[key] = lambda b, key=key: f"{b['factors'][key]:.2f}"
    body = [
        (name, *(_cell(cell, found[split]) for split in HEAD[1:])) for name, cell in cells.items()
    ]
    return [HEAD, *(row for row in body if set(row[1:]) != {"–"})]


def windows(found: dict[str, dict]) -> list[tuple[str, ...]]:
    """How many windows of how many tasks each source has."""
    head = ("source", "train windows", "train tasks", "test windows", "test tasks")
    train, test = (found[split]["windows"] for split in HEAD[1:])
    return [
        head,
        *(
            (k, *(str(v) for part in (train[k], test[k]) for v in (part["windows"], part["tasks"])))
            for k in train
        ),
    ]


def health(found: dict) -> list[tuple[str, ...]]:
    """Scale and rank of the codes."""
    cells = {
        "rms norm": lambda b: f"{b['rms_norm']:.3g}",
        "effective rank": lambda b: f"{b['effective_rank']:.2f} of {b['dimensions']}",
        "dormant dimensions": lambda b: _percent(b["dormant"]),
    }
    return [HEAD, *((k, *(cell(found[split]) for split in HEAD[1:])) for k, cell in cells.items())]


def drift(report: dict) -> list[tuple[str, ...]]:
    """How far older checkpoints' codes are from the audited one's."""
    head = ("checkpoint", f"relative change until {report['step']}", "Procrustes residual")
    return [
        head,
        *(
            (
                str(row["step"]),
                _decimal(row["relative_change"]),
                _decimal(row["procrustes_residual"]),
            )
            for row in report["drift"]
        ),
    ]


def against(report: dict) -> list[tuple[str, ...]]:
    """The two models' codes of the same windows."""
    found = report["against"]
    names = {"procrustes_residual": "Procrustes residual", "cka": "linear CKA"}
    return [
        HEAD,
        *(
            (f"{title}, {of}", *(_decimal(found[split][side][key]) for split in HEAD[1:]))
            for side, of in (("windows", "windows"), ("task_means", "task means"))
            for key, title in names.items()
        ),
    ]


def reasons(report: dict) -> list[str]:
    """Why parts are absent, each once."""
    found: dict[str, list[str]] = {}

    def visit(part, where):
        if isinstance(part, dict):
            if "not_computed" in part:
                found.setdefault(part["not_computed"], []).append(" ".join(where))
            for key, value in part.items():
                visit(value, [*where, key.replace("_", " ")])

    for name in ("splits", "cost"):
        visit(report[name], [] if name == "splits" else [name])
    return [f"{', '.join(where)}: {reason}" for reason, where in found.items()]


def _cost(found: dict, table=tables.markdown) -> str:
    if "not_computed" in found:
        return f"Not computed: {found['not_computed']}."
    head = ("context", "return", "of oracle's gap")
    body = [
        (name, f"{block['return']:.2f}", _percent(block["gap_closed"]))
        for name, block in found["by_source"].items()
    ]
    drop = found["drop"]
    normalized = drop["normalized"]
    known = not isinstance(normalized, dict)
    body.append(
        (
            f"drop from {drop['best']} to {drop['worst']}",
            f"{drop['return']:.2f}",
            _percent(normalized) if known else "–",
        )
    )
    return table([head, *body])


def _blocks(report: dict, kind: str) -> dict | None:
    found = {split: block[kind] for split, block in report["splits"].items()}
    return None if None in found.values() else found


def _cell(cell, block) -> str:
    """A cell's text; "–" where the block lacks the part."""
    try:
        return cell(block)
    except KeyError:
        return "–"


def _interval(part, key):
    low, high = part["ci95"]
    return f"{part[key]:.3f} ({low:.3f} to {high:.3f})"


def _accuracy(part, model):
    of = part[model]
    upper, shuffled = _percent(of["upper95"]), _percent(of["shuffled"])
    return f"{_percent(of['accuracy'])} (upper bound {upper}, shuffled {shuffled})"


def _rmse(part, model):
    return f"{part[model]['rmse']:.3g} (of {part['std']:.3g})"


def _percent(value):
    return "–" if value is None else f"{100 * value:.0f} %"


def _decimal(value):
    return "–" if value is None else f"{value:.3f}"
