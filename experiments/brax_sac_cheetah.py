"""Trains brax's SAC on one task of Cheetah-Vel, on MJX through `envs.brax_adapter`.

    .venv/bin/python experiments/brax_sac_cheetah.py --task=1.0 --steps=1000000 --out=sac.json

Prints the mean return of stochastic episodes of 200 steps after each tenth of the training and
writes the curve to `--out`. It is meant for an accelerator: on two CPU cores MJX simulates some
1 700 steps per second, after a few minutes of compiling, and

    .venv/bin/python experiments/brax_sac_cheetah.py --steps=256 --num-envs=8 --evals=2

shows only that it runs.
"""

import argparse
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from brax.training.agents.sac import train as sac
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from metastar import config, files
from metastar.envs.backends.brax_adapter import as_brax
from metastar.envs.make import make_env
from metastar.training import provenance


def put_replicated(tree, devices):
    """`jax.device_put_replicated`, which brax 0.14.2 calls and JAX 0.10 no longer has."""
    sharding = NamedSharding(Mesh(np.array(devices), "d"), PartitionSpec("d"))
    stacked = jax.tree.map(lambda x: jnp.stack([jnp.asarray(x)] * len(devices)), tree)
    return jax.device_put(stacked, sharding)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--task", type=float, default=1.0, help="target speed in m/s")
    parser.add_argument("--steps", type=int, default=1_000_000, help="steps of the simulator")
    parser.add_argument("--num-envs", type=int, default=64, help="streams simulated in parallel")
    parser.add_argument("--evals", type=int, default=11, help="points of the curve")
    parser.add_argument("--seed", type=int, default=0, help="of everything random")
    parser.add_argument("--out", type=Path, help="JSON file for the curve")
    args = parser.parse_args()

    env = make_env(config.build({"family": "cheetah_vel", "simulator.backend": "mjx"}))
    curve = []

    def report(steps, metrics):
        mean, std = (float(metrics[f"eval/episode_reward{end}"]) for end in ("", "_std"))
        curve.append({"steps": int(steps), "return": mean, "return_std": std})
        print(f"{steps:>9} steps: return {mean:.1f}, std over episodes {std:.1f}", flush=True)

    jax.device_put_replicated = put_replicated
    sac.train(
        as_brax(env, {"velocity": np.array([args.task])}),
        num_timesteps=args.steps,
        episode_length=env.spec.max_episode_steps,
        num_envs=args.num_envs,
        num_eval_envs=args.num_envs,
        num_evals=args.evals,
        learning_rate=3e-4,
        discounting=0.99,
        normalize_observations=True,
        min_replay_size=min(args.steps // 10, 10_000),
        grad_updates_per_step=max(1, args.num_envs // 4),
        seed=args.seed,
        progress_fn=report,
    )
    if args.out:
        content = {
            **vars(args),
            "out": str(args.out),
            "curve": curve,
            "commit": provenance.commit(),
        }
        content |= {"device": jax.devices()[0].device_kind, "versions": provenance.versions()}
        files.write_json(args.out, content)


if __name__ == "__main__":
    main()
