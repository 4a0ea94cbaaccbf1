"""What our layer costs over the batched loop of MuJoCo itself.

Command:
    python experiments/simulators.py --out experiments/results/simulators.json

Runs on an otherwise idle machine. Every figure is the median over rounds in which the variants take
turns, so that the machine's drift hits all of them alike.
"""

import argparse
import json
import os
import time
from pathlib import Path

import jax
import mujoco
import numpy as np
from mujoco.rollout import Rollout

from metastar import config, files
from metastar.envs.backends import physics
from metastar.envs.families.cheetah_vel import FAMILY
from metastar.envs.make import make_env
from metastar.envs.rollout import make_rollout, no_adaptation, uniform_policy
from metastar.training import provenance

BATCH, STEPS, ROUNDS = 64, 200, 7
BODY = FAMILY.body


def raw_loop(threads: int):
    """`mujoco.rollout` alone, one call per action, on actions drawn beforehand."""
    model = physics.load_model(BODY)
    pool = Rollout(nthread=threads if threads > 1 else 0)
    data = [mujoco.MjData(model) for _ in range(threads)]
    start = np.zeros((BATCH, 1 + model.nq + model.nv))

    def run(actions):
        state = start
        for action in actions:
            control = np.repeat(action[:, None], BODY.frame_skip, 1)
            state = pool.rollout(model, data, state, control)[0][:, -1]

    return run


def env_loop(env, tasks):
    """The same with our checks, observations, rewards and terminals."""
    noise = jax.device_get(jax.vmap(env.draw_reset)(jax.random.split(jax.random.key(0), BATCH)))

    def run(actions):
        state, _ = env.reset(noise, tasks, ())
        for action in actions:
            state, _ = env.step(state, action, tasks, ())

    return run


def rollout_loop(env, tasks):
    """The whole rollout with a uniform policy: keys, jitted policy and record included."""
    play = make_rollout(env, uniform_policy(env.spec.action_dim), 1)

    def run(actions):
        play(None, no_adaptation(BATCH, 1), tasks, jax.random.key(0))

    return run


def seconds_of(variants: dict) -> dict[str, list[float]]:
    """Times each variant once a round, in turn, after one call to warm up."""
    actions = np.random.default_rng(0).uniform(-1, 1, (STEPS, BATCH, 6))
    for run in variants.values():
        run(actions)
    times = {name: [] for name in variants}
    for _ in range(ROUNDS):
        for name, run in variants.items():
            began = time.perf_counter()
            run(actions)
            times[name].append(time.perf_counter() - began)
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("experiments/results/simulators.json"))
    args = parser.parse_args()
    tasks = {"velocity": np.linspace(0, 3, BATCH)}
    report = {
        "command": "python experiments/simulators.py",
        "commit": provenance.commit(),
        "versions": provenance.versions(),
        "cores": os.cpu_count(),
        "batch": BATCH,
        "rounds": ROUNDS,
    }
    for threads in (1, 2):
        cfg = config.load_preset("configs/metastar.py:cheetah_vel,quick")
        cfg.simulator.threads = threads
        env = make_env(cfg)
        variants = {
            "mujoco.rollout": raw_loop(threads),
            "env.step": env_loop(env, tasks),
            "rollout": rollout_loop(env, tasks),
        }
        times = seconds_of(variants)
        raw = np.array(times["mujoco.rollout"])
        report[f"threads_{threads}"] = {
            name: {
                "steps_per_second": STEPS * BATCH / float(np.median(taken)),
                "time_over_raw": float(np.median(np.array(taken) / raw)),
            }
            for name, taken in times.items()
        }
    args.out.parent.mkdir(parents=True, exist_ok=True)
    files.write_json(args.out, report)
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
