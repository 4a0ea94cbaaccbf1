"""FOCAL beside MetaSTAR on the same data: returns and codes, under two agents.

    python experiments/focal.py --family=point_robot_sparse --seeds 0 1 2

Trains and audits every run that is not complete yet, copies its `results.json` and `audit.json` to
`experiments/results/focal_<family>/<cell>_<seed>/`, and makes of all that lie there what `metastar
compare` makes: `compare.md` and `compare.png` beside them, and a table in `docs/results.md`. Cells
and seeds may be run one after the other, by several calls, from the root of the checkout.
"""

import argparse
from pathlib import Path

import cells

from metastar import files
from metastar.tools.report import codes, compare, groups, tables

# Under MetaSTAR's agent FOCAL has that agent's settings of MetaSTAR's recipe.
_AGENT = {
    "agent.name": "conservative",
    "agent.conservative.actor_lr": 1e-3,
    "agent.conservative.critic_lr": 1e-3,
    "agent.conservative.num_actions": 2,
    "agent.conservative.cql_states": 16,
    "agent.conservative.actor_average": 0.995,
}
CELLS = {
    "metastar": ("metastar", {}),
    "focal_iql": ("focal", {"preset": "FOCAL"}),
    "focal_conservative": ("focal", {"preset": "FOCAL under MetaSTAR's agent", **_AGENT}),
}
FAMILIES = ("point_robot_sparse", "cheetah_vel")


def page(out: Path, label: str) -> str:
    """The tables of all runs whose files lie in `out`; also writes the comparison there."""
    sources = [str(out / f"{cell}_{seed}") for cell in CELLS for seed in range(10)]
    sources = [source for source in sources if (Path(source) / "results.json").exists()]
    compare.compare(sources, out)
    found = groups.read(sources)
    scores = groups.measure(found)
    parts = [tables.markdown(compare.table(found, scores))]
    parts += [tables.markdown(rows) for rows in [codes.table(found)] if rows]
    parts.append(f"Command: `python experiments/focal.py --family={label}`; files: `{out}/`.")
    return "\n\n".join(parts) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--family", default=FAMILIES[0], choices=FAMILIES)
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2])
    parser.add_argument("--cells", nargs="+", default=list(CELLS), choices=list(CELLS))
    parser.add_argument("--preset", default="quick")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="where workdirs go")
    args = parser.parse_args()
    label = f"focal_{args.family}" + f"_{args.preset}" * (args.preset != "quick")
    out = (cells.RESULTS / label).relative_to(Path.cwd())
    for seed in args.seeds:
        for cell in args.cells:
            recipe, fields = CELLS[cell]
            config = f"configs/{recipe}.py:{args.family},{args.preset}"
            (run,) = cells.train(
                args.runs / label / f"{cell}_{seed}", config, {**fields, "seed": seed}
            )
            kept = out / f"{cell}_{seed}"
            kept.mkdir(parents=True, exist_ok=True)
            files.write_json(kept / "audit.json", cells.audited(run))
            files.write_json(kept / "results.json", cells.read(run, "results.json"))
    text = page(out, args.family)
    if args.preset == "quick":
        tables.insert(cells.DOCS / "results.md", label, text)
    print(text)


if __name__ == "__main__":
    main()
