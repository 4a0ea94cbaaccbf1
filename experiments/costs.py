"""What the whole table of the field costs, on paper: nine systems, ten families, ten seeds.

    python experiments/costs.py

From measured updates (`benchmarks/results/systems_*.json`, one CPU core) and the updates of the
presets: seconds of a run, core hours of the table, and its products, which tell what accelerators
would need at a speed that is assumed and named. Writes a table to `docs/scaling.md`. Call it from
the root of the checkout.
"""

from pathlib import Path

import cells

from metastar import config, files
from metastar.tools.report import tables
from metastar.training import plan, runs

BENCHMARKS = Path("benchmarks/results")
SYSTEMS = {  # the table's nine, by recipe
    "metastar": "MetaSTAR",
    "meta_dt": "Meta-DT",
    "spc": "SPC",
    "er_trl": "ER-TRL",
    "focal": "FOCAL",
    "unicorn_ss": "UNICORN",
    "csro": "CSRO",
    "corro": "CORRO",
    "idaq": "IDAQ",
}
SEEDS = 10
MEASURED = {  # family and preset that was measured: how many of the ten families are counted so
    ("point_robot_sparse", "quick"): 3,
    ("cheetah_vel", "quick"): 7,
    ("point_robot_sparse", "paper"): 10,
}
MACHINES = (1, 8, 64)
SUSTAINED = 5e12  # product FLOP/s of an accelerator; assumed


def cost(name: str, family: str, preset: str, speeds: dict) -> tuple[float, float]:
    """Seconds on one core and product FLOPs of a run's updates, at the speed of its last phase."""
    recipe = f"configs/{name}.py:{family},{preset}"
    cfg = config.load_preset(recipe)
    method = runs.make_method(cfg, plan.expected_spec(cfg))
    updates, case = sum(phase.num_updates for phase in method.phases), speeds[recipe]
    return (
        updates / case["per_second"] + case["compile_seconds"],
        updates * case["matmul_flops"],
    )


def measured(family: str, preset: str) -> dict:
    file = BENCHMARKS / f"systems_metastar_{family.replace('_', '-')}_{preset}_cpu.json"
    return files.read_json(file, "run experiments/benchmarks.py again")["cases"]


def page() -> str:
    columns = {
        key: {name: cost(name, *key, measured(*key)) for name in SYSTEMS} for key in MEASURED
    }
    titles = [f"`{family},{preset}`, minutes of a core" for family, preset in MEASURED]
    rows = [("", *titles)]
    for name, title in SYSTEMS.items():
        minutes = (f"{of[name][0] / 60:,.1f}" for of in columns.values())
        rows.append((title, *minutes))
    hours = {
        key: SEEDS * families * sum(seconds for seconds, _ in columns[key].values()) / 3600
        for key, families in MEASURED.items()
    }
    quick = sum(x for (_, preset), x in hours.items() if preset == "quick")
    paper = hours["point_robot_sparse", "paper"]
    flops = SEEDS * 10 * sum(flops for _, flops in columns["point_robot_sparse", "paper"].values())
    device = flops / SUSTAINED / 3600
    head = ("the table of 900 runs", "core hours", *(f"days on {n}" for n in MACHINES))
    totals = [
        head,
        ("`quick`, cores", f"{quick:,.0f}", *(f"{quick / n / 24:,.1f}" for n in MACHINES)),
        ("`paper`, cores", f"{paper:,.0f}", *(f"{paper / n / 24:,.0f}" for n in MACHINES)),
        (
            f"`paper`, accelerators at {SUSTAINED / 1e12:.0f} TFLOP/s",
            "–",
            *(f"{device / n / 24:,.2f}" for n in MACHINES),
        ),
    ]
    return (
        f"{tables.markdown(rows)}\n\n{tables.markdown(totals)}\n\n"
        f"All products of the table at `paper`: {flops / 1e18:.1f} EFLOP. Command: `python "
        "experiments/costs.py`; files: `benchmarks/results/systems_*.json`.\n"
    )


def main() -> None:
    text = page()
    tables.insert(cells.DOCS / "scaling.md", "costs", text)
    print(text)


if __name__ == "__main__":
    main()
