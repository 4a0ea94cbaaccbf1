"""What a data set of simulated robots costs: simulator, learners, and both at the same time.

Command:
    python experiments/collection.py --preset quick --out experiments/results/collection_quick.json

Times a few iterations of the collection of a preset, each variant in its own process: as it is;
with the learners' updates waited for before the episodes are played (no overlap); and with next to
no updates (the simulator and the policies alone). Reports seconds per iteration (median), what a
million transitions and the preset's whole data set cost, the learners' share, and peak memory.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from metastar import collect, presets, registry, results
from metastar.envs.make import make_env

ITERATIONS = 6  # the first two also compile
VARIANTS = {
    "as it is": {},
    "without overlap": {"JAX_CPU_ENABLE_ASYNC_DISPATCH": "false"},
    "next to no updates": {"UPDATES": "1"},
}


def measure(family: str, preset: str, behavior: str) -> dict:
    """Seconds per iteration of one variant, in this process."""
    cfg = presets.make("metastar", family, preset)
    cfg.collect.iterations = ITERATIONS
    cfg.collect.cross_task_episodes = 0
    cfg.collect.updates_per_iteration = int(
        os.environ.get("UPDATES", cfg.collect.updates_per_iteration)
    )
    tasks, _ = collect.draw_tasks(cfg)
    tasks = jax.tree.map(jnp.asarray, tasks)
    times = []
    made = registry.find("behavior", behavior).make(cfg, make_env(cfg))
    made.run(tasks, jax.random.key(0), lambda line: times.append(time.perf_counter()))
    return {
        "seconds_per_iteration": float(np.median(np.diff(times)[1:])),
        "peak_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--family", default="cheetah_vel")
    parser.add_argument("--preset", default="quick")
    parser.add_argument("--behavior", default="sac")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--measure", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        print(json.dumps(measure(args.family, args.preset, args.behavior)))
        return
    command = [sys.executable, __file__, "--measure", f"--family={args.family}"]
    command += [f"--preset={args.preset}", f"--behavior={args.behavior}"]
    found = {}
    for name, environment in VARIANTS.items():
        run = subprocess.run(
            command, env={**os.environ, **environment}, check=True, capture_output=True, text=True
        )
        found[name] = json.loads(run.stdout.splitlines()[-1])
    cfg = presets.make("metastar", args.family, args.preset)
    num_tasks = sum(map(len, collect.draw_tasks(cfg)[1].values()))
    steps = make_env(cfg).spec.max_episode_steps
    per_iteration = num_tasks * cfg.collect.episodes_per_iteration * steps
    seconds = {name: run["seconds_per_iteration"] for name, run in found.items()}
    report = {
        "command": f"python experiments/collection.py --family {args.family} "
        f"--preset {args.preset} --behavior {args.behavior}",
        "commit": results.commit(),
        "versions": results.versions(),
        "device": jax.devices()[0].device_kind,
        "cores": os.cpu_count(),
        "tasks": num_tasks,
        "learners": 1 if cfg.collect.shared_learner else num_tasks,
        "hidden": list(cfg.collect.hidden),
        "updates_per_iteration": cfg.collect.updates_per_iteration,
        "transitions_per_iteration": per_iteration,
        "variants": found,
        "minutes_per_million_transitions": seconds["as it is"] / per_iteration * 1e6 / 60,
        "minutes_per_million_transitions_simulator": seconds["next to no updates"]
        / per_iteration
        * 1e6
        / 60,
        "minutes_whole_preset": seconds["as it is"] * cfg.collect.iterations / 60,
        "learners_share": 1 - seconds["next to no updates"] / seconds["without overlap"],
        "overlap_speedup": seconds["without overlap"] / seconds["as it is"],
    }
    if args.out:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        results.save(args.out, json.dumps(report, indent=2) + "\n")
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
