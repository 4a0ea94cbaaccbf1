"""`audit.md` and the summary on the terminal, from what `audit.json` holds."""

from pathlib import PurePath

from metastar.tools.audit import figures as audit_figures
from metastar.tools.report import tables

HEAD = ("quantity", "train", "test")
MODEL_KINDS = ("obs", "reward")  # of open-loop errors
KINDS = {
    "trained": "sources that the run was trained on",
    "all": "all sources",
    "informative": "windows with reward, all sources",
}
FACTORS = {
    "disentanglement": "disentanglement",
    "completeness": "completeness",
    "infomec_modularity": "InfoM (modularity)",
    "infomec_compactness": "InfoC (compactness)",
    "infomec_explicitness": "InfoE (explicitness)",
    "spc_disentanglement": "disentanglement, SPC's form",
    "spc_completeness": "completeness, SPC's form",
    "spc_modularity": "InfoM, SPC's form",
    "spc_compactness": "InfoC, SPC's form",
    "spc_explicitness": "InfoE, SPC's form",
}
TREES = {
    "disentanglement": "disentanglement, trees",
    "completeness": "completeness, trees",
    "spc_disentanglement": "disentanglement, trees, SPC's form",
    "spc_completeness": "completeness, trees, SPC's form",
    "spc_informativeness": "informativeness, trees, SPC's form",
    "spc_modularity": "InfoM, neighbours, SPC's form",
    "spc_compactness": "InfoC, neighbours, SPC's form",
}
NOTES = """\
How to read it (formulas and sources: docs/audit.md of metastar):

- *Variance ratio*: how far a change of source moves the code of a task, relative to a change of
  task, as variances without the windows' own noise. 0 is a code that depends on the task alone. The
  estimate is unbiased, so it may fall below 0.
- *Energy distance* compares whole distributions, relative to that between tasks; *significant* is
  p at most 0.05 in a permutation test of one task and two sources. *Control* is the same for two
  halves of one source's episodes, which have the same policy. Only what exceeds the control is due
  to the policy.
- *Which source?* is a probe's accuracy on tasks held out; *upper bound* is that of 95 % by a
  bootstrap over tasks; *shuffled* is the mean with the sources' names exchanged within each task.
- *Task removed* subtracts the task's mean from the codes (and from the target), so that what is
  left cannot come from policies that behave differently in different tasks.
- *I(code; source | task)*: a lower bound of the mutual information of code and source within one
  task, from windows of other episodes than those it was fitted to, of at most the given entropy.
- *Open-loop error*: root mean square after so many imagined steps under recorded actions, of
  observations in standard deviations, of rewards in their own unit; under the code of another
  window of the task (right), of another task (wrong), and zeros (none). If the code is no input of
  the world model, the three are equal.
- Intervals are 95 % by a bootstrap over tasks, for this training run only.
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
            text += [f"## Same model, different sources: {title}", tables.markdown(rows(found))]
            text += [tables.markdown(windows(found))]
    absent = reasons(report)
    if absent:
        text += ["Not computed:", "\n".join(f"- {line}" for line in absent)]
    text += [NOTES.rstrip(), "## What it costs", _cost(report["cost"])]
    text += ["## What the agent does with its code", _use(report["use"])]
    text += ["## Health of the code", tables.markdown(health(report["health"]))]
    text += ["## Open-loop error of the world model", open_loop(report["open_loop"])]
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
    text += [_cost(report["cost"], tables.plain), _use(report["use"], tables.plain)]
    text += [tables.plain(health(report["health"]))]
    text += [open_loop(report["open_loop"], tables.plain)]
    if report["against"]:
        text += [f"against {report['against']['workdir']}\n{tables.plain(against(report))}"]
    return "\n\n".join(text)


def rows(found: dict[str, dict]) -> list[tuple[str, ...]]:
    """The main table, from the blocks of `train` and `test`."""
    columns = [_lines(found[split]) for split in HEAD[1:]]
    names = dict.fromkeys(name for column in columns for name in column)
    return [HEAD, *((name, *(column.get(name, "–") for column in columns)) for name in names)]


def _lines(block: dict) -> dict[str, str]:
    """Every number of a block that could be computed, as text by name."""
    found = {}
    if "ratio" in block.get("ratio", {}):
        found["variance ratio, policies : tasks"] = _interval(block["ratio"], "ratio")
    for key, name in (("pairs", "two sources"), ("control", "control: one source")):
        part = block.get("energy", {}).get(key, {})
        if "relative" in part:
            found[f"relative energy distance, {name}"] = f"{part['relative']:.3f}"
            share = f"{_percent(part['share_differing'])} of {part['count']}"
            found[f"significant differences, {name}"] = share
    for key, title in (("identity", ""), ("identity_within_task", ", task removed")):
        for model in ("linear", "mlp"):
            if model in block.get(key, {}):
                found[f"which source? {model}{title}"] = _accuracy(block[key][model])
    if "nats" in block.get("information", {}):
        part = block["information"]
        found["I(code; source | task), nats, at least"] = (
            f"{_interval(part, 'nats')} of {part['entropy']:.3f}"
        )
    for name, part in block.get("statistics", {}).items():
        for key, title in (("plain", ""), ("within_task", ", task removed")):
            if name != "not_computed" and "r2" in part[key]:
                found[f"R² of {name}{title}"] = _interval(part[key], "r2")
    for key, title in (("task", ""), ("task_of_training", ", fitted on training tasks")):
        task = block.get(key, {})
        for model in ("linear", "mlp"):
            if model in task:
                found[f"R² of the task parameters, {model}{title}"] = _interval(task[model], "r2")
                rmse = f"{task[model]['rmse']:.3g} (of {task['std']:.3g})"
                found[f"RMSE of the task parameters, {model}{title}"] = rmse
    factors = block.get("factors", {})
    for part, names in ((factors, FACTORS), (factors.get("trees", {}), TREES)):
        found |= {name: _decimal(part[key]) for key, name in names.items() if key in part}
    return found


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
        "feature rank": lambda b: f"{b['feature_rank']} of {b['dimensions']}",
        "rank, tolerance 0.01": lambda b: f"{b['matrix_rank']} of {b['dimensions']}",
        "dormant ratio, mean activation": lambda b: _percent(b["dormant_spc"]),
    }
    return [HEAD, *((k, *(cell(found[split]) for split in HEAD[1:])) for k, cell in cells.items())]


def open_loop(found: dict, table=tables.markdown) -> str:
    """Errors of predictions by horizon and by the code they are under, of both splits."""
    if absent := [block["not_computed"] for block in found.values() if "not_computed" in block]:
        return f"Not computed: {absent[0]}."
    codes = list(found["test"]["obs"])
    head = ("imagined steps", *(f"{kind}, {code} code" for kind in MODEL_KINDS for code in codes))
    horizon = found["test"]["horizon"]
    chosen = [h for h in horizon if h & (h - 1) == 0 or h == horizon[-1]]  # powers of two
    body = [
        (
            f"{split}, {h}",
            *(f"{block[kind][code][h - 1]:.3f}" for kind in MODEL_KINDS for code in codes),
        )
        for split, block in found.items()
        for h in chosen
    ]
    return table([head, *body])


def drift(report: dict) -> list[tuple[str, ...]]:
    """How far older checkpoints' codes are from the audited one's."""
    change = f"relative change until {report['step']}"
    head = ("checkpoint", "rms norm", change, "Procrustes residual")
    return [
        head,
        *(
            (
                str(row["step"]),
                f"{row['rms_norm']:.3g}",
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

    for name in ("splits", "cost", "use"):
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


def _use(found: dict, table=tables.markdown) -> str:
    if "not_computed" in found:
        return f"Not computed: {found['not_computed']}."
    other = found["other_source"]
    return table(
        [
            ("the code is exchanged for", "change of the return", "return"),
            ("none", "–", f"{found['own']:.2f}"),
            ("one of another source, same task", "–" if other is None else f"± {other:.2f}", "–"),
            ("one of another task", f"{-found['other_task']:.2f}", f"{found['swapped']:.2f}"),
        ]
    )


def _blocks(report: dict, kind: str) -> dict | None:
    found = {k: block[kind] for k, block in report["splits"].items() if kind in block}
    return found or None


def _interval(part, key):
    low, high = part["ci95"]
    return f"{part[key]:.3f} ({low:.3f} to {high:.3f})"


def _accuracy(part):
    upper, shuffled = _percent(part["upper95"]), _percent(part["shuffled"])
    return f"{_percent(part['accuracy'])} (upper bound {upper}, shuffled {shuffled})"


def _percent(value):
    return "–" if value is None else f"{100 * value:.0f} %"


def _decimal(value):
    return "–" if value is None else f"{value:.3f}"
