"""What a data set of simulated robots costs: simulator, learners, and both at the same time.

    python experiments/collection.py --preset quick --out experiments/results/collection_quick.json
    python experiments/collection.py --preset paper --iterations 4 --out \\
        experiments/results/collection_paper.json

The second is the reference's form: 40 tasks, each with a learner of its own.

Times a few iterations of the collection of a preset in two variants, each in its own process: as it
is; and with the learners' updates waited for before the episodes are played. Reports seconds per
iteration (median), what a million transitions and the preset's whole data set cost by that, the
learners' share of the second variant, its matrix products, and peak memory. The replay grows over a
collection; its room is taken at the beginning, here for as few iterations as are timed, and
`replay_gib_whole_preset` tells what it is for all of them.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from concurrent.futures import Future
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from metastar import config, files
from metastar.collection import collect, online
from metastar.envs.make import make_env
from metastar.training import plan, provenance

VARIANTS = ("as it is", "one after the other")


class OneAfterTheOther:
    """Takes the place of the learners' thread, times them and counts what they multiply."""

    def __init__(self):
        self.seconds, self.flops = [], 0.0

    def __enter__(self):
        return self

    def __exit__(self, *error):
        del error

    def submit(self, wait_for, learn, *args) -> Future:
        """Waits for `learn(*args)`; returns it as a future that is done."""
        self.flops = self.flops or plan.matmul_flops(learn.trace(*args).jaxpr.jaxpr)
        began, done = time.perf_counter(), Future()
        done.set_result(wait_for(learn, *args))
        self.seconds.append(time.perf_counter() - began)
        return done


def measure(args: argparse.Namespace) -> dict:
    """Seconds per iteration of one variant, in this process; the first two also compile."""
    cfg = config.load_preset(f"configs/metastar.py:{args.family},{args.preset}")
    cfg = config.change(cfg, {"collect.behavior": args.behavior})
    cfg.collect.iterations = args.iterations
    cfg.collect.cross_task_episodes = 0
    tasks = jax.tree.map(jnp.asarray, collect.draw_tasks(cfg)[0])
    serial, times = OneAfterTheOther(), []
    if args.measure == VARIANTS[1]:
        online.ThreadPoolExecutor = lambda num_threads: serial
    made = config.make(cfg, "behavior", args.behavior, make_env(cfg))
    made.run(tasks, jax.random.key(0), lambda line: times.append(time.perf_counter()))
    found = {
        "seconds_per_iteration": float(np.median(np.diff(times)[1:])),
        "peak_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
    }
    if serial.seconds:
        found["learners_seconds"] = float(np.median(serial.seconds[2:]))
        found["learners_gflop"] = serial.flops / 1e9
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--family", default="cheetah_vel")
    parser.add_argument("--preset", default="quick")
    parser.add_argument("--behavior", default="sac")
    parser.add_argument("--iterations", type=int, default=6, help="3 to 10")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--measure", choices=VARIANTS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        print(json.dumps(measure(args)))
        return
    command = ["--family", args.family, "--preset", args.preset, "--behavior", args.behavior]
    command = [__file__, *command, "--iterations", str(args.iterations)]
    found = {}
    for name in VARIANTS:
        run = subprocess.run(
            [sys.executable, *command, "--measure", name], check=True, stdout=subprocess.PIPE
        )
        found[name] = json.loads(run.stdout.splitlines()[-1])
    cfg = config.load_preset(f"configs/metastar.py:{args.family},{args.preset}")
    num_tasks = sum(map(len, collect.draw_tasks(cfg)[1].values()))
    spec, chosen = make_env(cfg).spec, cfg.collect
    per_iteration = num_tasks * chosen.episodes_per_iteration * spec.max_episode_steps
    whole = num_tasks * spec.max_episode_steps * chosen.random_episodes
    whole += per_iteration * chosen.iterations
    parallel, serial = (found[name]["seconds_per_iteration"] for name in VARIANTS)
    numbers = 2 * spec.obs_dim + spec.action_dim + 1  # float32, and two flags
    report = {
        "command": f"python experiments/{' '.join([Path(__file__).name, *command[1:]])}",
        "commit": provenance.commit(),
        "versions": provenance.versions(),
        "device": jax.devices()[0].device_kind,
        "cores": os.cpu_count(),
        "load": os.getloadavg()[2],  # processes, mean over a quarter of an hour: ours are two
        "tasks": num_tasks,
        "learners": 1 if chosen.shared_learner else num_tasks,
        "hidden": list(chosen[args.behavior].hidden),
        "updates_per_iteration": chosen.updates_per_iteration,
        "transitions_per_iteration": per_iteration,
        "transitions_whole_preset": whole,
        "variants": found,
        "minutes_per_million_transitions": parallel / per_iteration * 1e6 / 60,
        "hours_whole_preset": parallel * chosen.iterations / 3600,
        "replay_gib_whole_preset": whole * (4 * numbers + 2) / 2**30,
        "learners_share": found[VARIANTS[1]]["learners_seconds"] / serial,
        "learners_petaflop_whole_preset": found[VARIANTS[1]]["learners_gflop"]
        * chosen.iterations
        / 1e6,
        "overlap_speedup": serial / parallel,
    }
    if args.out:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        files.write_json(args.out, report)
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
