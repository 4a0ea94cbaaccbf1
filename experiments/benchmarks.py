"""Runs the benchmarks of `docs/benchmarks.md` and writes the tables that are made of them.

    python experiments/benchmarks.py                # two CPU cores, about fifty minutes
    python experiments/benchmarks.py --on families  # the simulators of robots, a few minutes
    python experiments/benchmarks.py --tables       # figures and tables of the files that exist

Run it on an otherwise idle machine; `experiments/accelerator.py` is for accelerators. Each command
is one `metastar bench` with its result in `benchmarks/results/`.
"""

import argparse
import os
import subprocess
import sys
from pathlib import Path

from metastar.tools.bench import plots as bench_plots
from metastar.tools.bench import report as bench_report
from metastar.tools.report import tables

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks/results"
POINT = "--config=configs/metastar.py:point_robot_sparse,paper"
CHEETAH = "--config=configs/metastar.py:cheetah_vel,paper"
QUICK = "--config=configs/metastar.py:point_robot_sparse,quick"
META_DT = "--config=configs/meta_dt.py:point_robot_sparse,quick"
OTHERS = (
    *("spc", "meta_dt", "corro", "focal", "er_trl", "unicorn_ss", "unicorn_sup", "csro", "idaq"),
    *("bc", "task_blind", "oracle"),
)


def side_by_side(preset: str, family: str = "point_robot_sparse") -> str:
    """One update of every system, in one run."""
    family = f"{family},{preset}"
    others = " ".join(f"--against=configs/{name}.py:{family}" for name in OTHERS)
    return f"update --config=configs/metastar.py:{family} {others}"


CPU = (
    f"update {POINT}",
    f"update {CHEETAH}",
    side_by_side("quick"),
    side_by_side("quick", "cheetah_vel"),
    side_by_side("paper"),
    f"eval {POINT} --config.eval.zero_shot_streams=2",
    f"eval {CHEETAH} --config.eval.zero_shot_streams=1 --max-steps=60",
    # Meta-DT's cache, and a window that is encoded anew at every step.
    f"eval {META_DT} --config.eval.protocols=first_episode --sizes=acting.kept=10,19",
    f"env {POINT}",
    f"env {CHEETAH}",
    f"seeds {QUICK}",
    f"imagine {POINT} --sizes=horizon=1,2,4,8,16",
    f"imagine {POINT} --sizes=num_rollouts=4,8,16,32,64",
    f"world_model {POINT} --sizes=meta_batch=4,8,16,32",
    f"world_model {POINT} --config.sampler.meta_batch=4 --sizes=context_len=32,64,128,256,512,1024",
    f"critic {QUICK} --sizes=num_actions=2,4,8,16",
    f"critic {QUICK} --sizes=batch_size=64,128,256,512",
)
# The simulated robots, by body: batches of 64 streams, 8 of each of 8 tasks, and the first 20 steps
# of an episode, in which robots fall and touch the ground.
ROBOTS = (
    *("cheetah_vel", "cheetah_vel_sparse", "cheetah_dir"),
    *("ant_dir", "ant_goal", "ant_semicircle", "ant_semicircle_sparse"),
    *("hopper_param", "hopper_param_sparse", "hopper_mass", "hopper_friction"),
    *("walker_param", "walker_param_sparse", "walker_mass", "walker_friction"),
    "humanoid_dir",
)
# One of each body runs on MJX as well, whose programs take a minute and more to compile on a CPU;
# the humanoid's was not ready after eight.
BODIES = ("cheetah_vel", "ant_dir", "hopper_mass", "walker_param")
SIMULATORS = RESULTS / "simulators"
FAMILIES = tuple(
    f"env --config=configs/bc.py:{name},debug --config.eval.windows=8 --config.simulator.threads=1 "
    "--max-steps=20 --repeats=5 --clock=cpu --out=benchmarks/results/simulators"
    f"{' --sizes=simulator.backend=c,mjx' if name in BODIES else ''}"
    for name in ROBOTS
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    groups = {"cpu": CPU, "families": FAMILIES}
    parser.add_argument("--on", choices=groups, default="cpu")
    parser.add_argument("--tables", action="store_true", help="run nothing")
    args = parser.parse_args()
    os.chdir(ROOT)
    for command in () if args.tables else groups[args.on]:
        print(f"metastar bench {command}", flush=True)
        subprocess.run([sys.executable, "-m", "metastar", "bench", *command.split()], check=True)
    bench_plots.write(RESULTS)
    tables.insert(ROOT / "README.md", "performance", table())
    tables.insert(ROOT / "docs/benchmarks.md", "benchmarks", page())
    tables.insert(ROOT / "docs/benchmarks.md", "simulators", simulators())


def reports() -> list[dict]:
    """The results that exist, in the order of their names."""
    return list(bench_plots.read(RESULTS).values()) if any(RESULTS.glob("*.json")) else []


def table() -> str:
    """What a part costs at the paper's sizes: the README's table."""
    rows = [("", "per second", "ms", "time, relative", "GFLOP/s", "of the matrix rate")]
    found = [r for r in reports() if r["axis"] is None and not r.get("side_by_side")]
    for report in found:
        for name, case in report["cases"].items():
            share = case["of_matrix_rate"]
            rows.append(
                (
                    f"{report['part']}, {report['config']['family']}: {name}, {report['device']}",
                    f"{case['per_second']:.4g} {case['unit']}s",
                    f"{1e3 * case['per_unit']['median']:.3g}",
                    f"{case['relative']:.2f}",
                    f"{case['flops_per_second'] / 1e9:.3g}" if case["matmul_flops"] else "–",
                    "–" if share is None else f"{100 * share:.0f} %",
                )
            )
    if not found:
        return "Not measured yet.\n"
    machine = found[0]
    note = (
        f"Medians of {machine['repeats']} interleaved repeats on {machine['cpu']}, "
        f"{machine['cores']} cores. Command: `python experiments/benchmarks.py`"
    )
    return f"{tables.markdown(rows)}\n\n{note}\n"


def page() -> str:
    """Every result in full, with its command."""
    parts = []
    for report in reports():
        parts.append(
            f"`{report['command']}`\n\n{tables.markdown(bench_report.rows(report['cases']))}"
        )
        if "overhead" in report:
            share = 100 * report["overhead"]["share"]
            parts.append(
                f"Sampling, metrics, logging and transfers: {share:.1f} % of the configured update."
            )
        if bench_plots.series(report):
            parts.append(f"![{report['name']}](../benchmarks/results/{report['name']}.png)")
    return "\n\n".join(parts or ["Not measured yet."]) + "\n"


def simulators() -> str:
    """What our layer adds to the loop of MuJoCo's C engine, for every family of robots, and MJX."""
    rows = [
        (
            *("family", "`mujoco.rollout` alone, env steps/s", "`env.step`, time"),
            *("rollout, time", "rollout on MJX, time"),
        )
    ]
    found = {r["config"]["family"]: r for r in bench_plots.read(SIMULATORS).values()}
    for name in (name for name in ROBOTS if name in found):
        raw, *ours = found[name]["cases"].values()
        times = [f"{case['relative']:.3f}" for case in ours] + ["–"] * (3 - len(ours))
        rows.append((f"`{name}`", f"{raw['per_second']:.0f}", *times))
    return f"{tables.markdown(rows)}\n"


if __name__ == "__main__":
    main()
