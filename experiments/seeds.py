"""Methods on a family over seeds, side by side: the tables of `docs/results.md`.

    metastar sweep experiments/sweeps/seeds.py:cheetah_vel
    python experiments/seeds.py --argument=cheetah_vel

The second reads the result files of the first, writes the tables of `metastar compare`, the returns
by source of the context and what audits say to `docs/results.md`, and a figure beside the files.
`--argument` is what follows the sweep file's name; only that of a preset `quick` without withheld
tasks is written into the page.
"""

import argparse
import os
from pathlib import Path

import cells
import numpy as np
from default import audited
from sweeps.seeds import label_of

from metastar.ops.statistics import seed_task_interval
from metastar.tools.report import compare, groups, tables

PAGE = cells.DOCS / "results.md"
SWEEP = Path(__file__).parent / "sweeps/seeds.py"


def sources(argument: str) -> list[str]:
    """The result files that there are."""
    found = cells.cells_of(f"{SWEEP}:{argument}")
    return sorted(os.path.relpath(file) for _, file in found if file.exists())


def text(argument: str) -> str:
    """The tables of one sweep, from its result files alone."""
    found = groups.read(sources(argument))
    found = sorted(found, key=lambda group: group.method != "metastar")
    scores = groups.measure(found)
    runs = [run.results for group in found for run in group.runs]
    minutes = [run["wall_seconds"] / 60 for run in runs]
    every = cells.found_by(f"{SWEEP}:{argument}")
    own = next(runs for group, runs in every.items() if group.startswith("metastar"))
    lines = [
        tables.markdown(compare.table(found, scores)),
        "",
        f"Difference to {found[0].name}, paired by task:",
        "",
        tables.markdown(compare.differences(found, scores)),
        "",
        "Few-shot return by the source of the context:",
        "",
        tables.markdown(by_source(found)),
        "",
        "Codes and world model of MetaSTAR:",
        "",
        tables.markdown(audited([run["audit"] for run in own])),
        "",
        f"{len(found[0].runs)} seeds, {len(runs[0]['tasks']['ids'])} test tasks; "
        f"{min(minutes):.1f} to {max(minutes):.1f} minutes of training a run on "
        f"{runs[0]['device']}. Command: `metastar sweep experiments/sweeps/seeds.py:{argument}`",
    ]
    return "\n".join(lines) + "\n"


def by_source(found: list[groups.Group]) -> list[tuple[str, ...]]:
    """Rows of text cells: mean few-shot return of each group with its interval, by source."""
    names = [group.name for group in found]
    blocks = [
        [run.results["protocols"]["few_shot"]["by_context_source"] for run in group.runs]
        for group in found
    ]
    rows = [("context from", *names)]
    for source in blocks[0][0]:
        line = []
        for of_group in blocks:
            scores = np.array([block[source]["per_task"] for block in of_group], float)
            scores = scores[:, np.isfinite(scores).all(0)]
            low, high = seed_task_interval(scores)
            line.append(f"{scores.mean():.1f} ({low:.1f} to {high:.1f})")
        rows.append((source, *line))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--argument", required=True, metavar="FAMILY[,PRESET[,WITHHELD]]")
    argument = parser.parse_args().argument
    label, content = label_of(*argument.split(",")), text(argument)
    compare.compare(sources(argument), cells.RESULTS / label)
    if label == label_of(argument.split(",")[0]):
        tables.insert(PAGE, label, content)
    print(content)


if __name__ == "__main__":
    main()
