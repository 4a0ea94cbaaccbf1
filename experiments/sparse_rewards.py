"""How well rewards can be predicted that are paid close to the target only: Cheetah-Vel-Sparse.

    python experiments/sparse_rewards.py

The reward falls from 1.5 to 0 where the speed is 0.5 m/s off its target, so that whoever knows the
speed to some precision only must err at that edge. For recorded steps of the test tasks the speed
is simulated again, read with an error of so many m/s, and the best guess of the reward from this
reading is compared with the reward. The second table is of an ideal reader of windows, who sees
these speeds, knows the reward function and takes targets as uniform: what its posterior mean of the
target still tells of who acted, windows tell and no encoder can mend. Call it from the root of the
checkout; the data set must be there.
"""

import argparse
from pathlib import Path

import cells
import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import FrozenConfigDict
from open_loop import CODE_WINDOWS, windows

from metastar import config, files
from metastar.collection import collect
from metastar.data import store
from metastar.data.sampler import sample_windows
from metastar.data.sources import sources, sources_in
from metastar.envs.backends.mujoco_c import Batch
from metastar.envs.bodies import half_cheetah
from metastar.envs.families import cheetah_vel, cheetah_vel_sparse
from metastar.envs.make import make_env
from metastar.envs.speed_tasks import MAX_SPEED
from metastar.envs.state import State
from metastar.tools.audit import codes, measures
from metastar.tools.report import tables
from metastar.training import provenance
from metastar.types import View

SIGMAS = (0.0, 0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3)  # m/s
BINS = 400  # of the reading; the best guess is the mean reward of a bin
READINGS = 50  # of each step
LENGTH = 50  # steps of a window
TARGETS = np.linspace(0, MAX_SPEED, 601)  # m/s, of the ideal reader
RESOLUTION = 0.05  # of rewards
SURPRISE = 1e-3  # the likelihood of a reward that contradicts a target, against one that agrees
LABEL, RECIPE = "sparse_rewards", "cheetah_vel_sparse"
FAMILIES = {"Cheetah-Vel": cheetah_vel, "Cheetah-Vel-Sparse": cheetah_vel_sparse}
COMMANDS = "`python experiments/sparse_rewards.py`"


def best_guess(off: np.ndarray, reward: np.ndarray, sigma: float, rng) -> np.ndarray:
    """Errors [S, READINGS] of the mean reward given a reading of `off` [S], v - v* in m/s."""
    reading = off[:, None] + sigma * rng.normal(size=(len(off), READINGS))
    edges = np.quantile(reading, np.linspace(0, 1, BINS + 1)[1:-1])
    place = np.searchsorted(edges, reading)
    reward = np.broadcast_to(reward[:, None], reading.shape)
    num = np.bincount(place.ravel(), minlength=BINS)
    mean = np.bincount(place.ravel(), reward.ravel(), minlength=BINS) / num
    return mean[place] - reward


def simulated(view: View, target: np.ndarray, cfg: FrozenConfigDict) -> np.ndarray:
    """The forward speed [B, T] of recorded steps, in m/s, simulated from their observations.

    `target` [B] is that of their tasks, in m/s. Raises `RuntimeError` where rewards differ.
    """
    obs = np.asarray(view.obs, float)
    still = np.zeros((*obs.shape[:-1], 1))  # the place along the track, which is not observed
    qpos = np.concatenate([still, obs[..., : half_cheetah.NUM_JOINTS - 1]], -1)
    qpos, qvel = (
        x.reshape(-1, half_cheetah.NUM_JOINTS)
        for x in (qpos, obs[..., half_cheetah.NUM_JOINTS - 1 :])
    )
    env, num = make_env(cfg), len(qpos)
    before = Batch(np.zeros(num), qpos, qvel, np.zeros(num, bool))
    action = np.asarray(view.action).reshape(num, -1)
    own = {"velocity": np.repeat(target, num // len(target))}
    after, out = env.step(before, action, own, ())
    same = np.isclose(out.reward, np.ravel(view.reward), atol=1e-2)
    if same.mean() < 0.99:  # observations are rounded, which decides a step at the very edge
        raise RuntimeError("the steps that were simulated again have other rewards")
    states = (State(x.qpos, x.qvel) for x in (before, after))
    return half_cheetah.speed(*states).reshape(obs.shape[:-1])


def posterior_mean(speed: np.ndarray, view: View) -> np.ndarray:
    """The target [B], in m/s, that an ideal reader of windows [B, T] expects."""
    reward = np.asarray(view.reward + half_cheetah.control_cost(np, view.action), float)
    off = np.abs(speed[..., None] - TARGETS)
    told = np.where(off <= cheetah_vel_sparse.TOLERANCE, 2 - off, 0.0)
    miss = (reward[..., None] - told) / RESOLUTION
    log_likelihood = np.logaddexp(-0.5 * miss**2, np.log(SURPRISE)).sum(1)
    weight = np.exp(log_likelihood - log_likelihood.max(-1, keepdims=True))
    return (weight * TARGETS).sum(-1) / weight.sum(-1)


def best_guesses(cfg: FrozenConfigDict, data_set: store.DataSet) -> dict:
    """Errors of the best guess by the reading's, in the spread of the tracking reward."""
    tasks = store.load(data_set, "test", cfg)
    view, whole = windows(tasks, lambda view: view, LENGTH)
    view = jax.tree.map(lambda x: np.asarray(x)[whole], view)
    target = np.asarray(tasks.task["velocity"], float)
    target = np.repeat(target, len(whole) // len(target))[whole]
    off = (simulated(view, target, cfg) - target[:, None]).ravel()
    rng, found = np.random.default_rng(0), {}
    for name, family in FAMILIES.items():
        still = np.zeros((len(off), half_cheetah.NUM_JOINTS))
        moved = still.copy()
        moved[:, 0] = off * half_cheetah.DT
        states, action = (State(still, still), State(moved, still)), np.zeros((len(off), 1))
        reward = family.reward(np, *states, action, {"velocity": 0.0})
        errors = [best_guess(off, reward, sigma, rng) for sigma in SIGMAS]
        found[name] = [float(np.sqrt(np.mean(error**2)) / reward.std()) for error in errors]
    at_edge = np.abs(np.abs(off) - cheetah_vel_sparse.TOLERANCE) < 0.1
    return {"steps": len(off), "within_a_tenth_of_the_edge": float(at_edge.mean()), "errors": found}


def ideal_reader(cfg: FrozenConfigDict, data_set: store.DataSet) -> dict:
    """Ratio of variances and R² of the ideal reader's targets, by the windows that count."""
    data, manifest = store.load(data_set, "test", cfg), data_set.manifest
    found = sources_in(manifest.policies, manifest.stages, [data])
    seen = sources(manifest.policies, manifest.stages, *codes.drawn_from(data))
    target = np.asarray(data.task["velocity"], float)
    task_id = jnp.broadcast_to(jnp.arange(len(target))[:, None], (len(target), CODE_WINDOWS))
    of_each = np.repeat(target, CODE_WINDOWS)
    read, keep, rewarded = [], [], []
    for source in found:
        own = store.restrict(data, source.policy, source.stage)
        view = sample_windows(own, task_id, jax.random.key(0), LENGTH)
        view = jax.tree.map(lambda x: np.asarray(x).reshape(-1, *x.shape[2:]), view)
        mean = posterior_mean(simulated(view, of_each, cfg), view)
        for values, one in ((read, mean), (keep, view.valid.all(1))):
            values.append(one.reshape(task_id.shape))
        rewarded.append((view.reward > 0).any(1).reshape(task_id.shape))
    code, keep, rewarded = (np.stack(x, 1) for x in (read, keep, rewarded))
    trained = np.isin([one.name for one in found], [one.name for one in seen])
    asked = {
        "sources of the training": keep & trained[:, None],
        "windows with reward, of the same": keep & rewarded & trained[:, None],
        "all sources": keep,
    }
    miss = code - target[:, None, None]
    spread = np.square(target - target.mean()).mean()
    parts = {}
    for name, own in asked.items():
        own = own & (own.sum(-1, keepdims=True) >= measures.MIN_WINDOWS)
        each = codes.Codes(code[..., None], own, rewarded, own.any(-1), {})
        r2 = 1 - np.square(miss[own]).mean() / spread
        parts[name] = {"ratio": measures.ratio(each)["ratio"], "task_r2": float(r2)}
    return parts


def table(report: dict) -> str:
    """Both tables."""
    guesses, ideal = report["best_guesses"], report["ideal_reader"]
    rows = [("speed known to within, m/s", *guesses["errors"])]
    for k, sigma in enumerate(SIGMAS):
        rows.append((f"{sigma:g}", *(f"{x[k]:.2f}" for x in guesses["errors"].values())))
    told = [("ideal reader", "ratio of variances", "R² of the target")]
    told += [(name, f"{x['ratio']:.4f}", f"{x['task_r2']:.3f}") for name, x in ideal.items()]
    note = (
        f"{guesses['steps']} steps, {guesses['within_a_tenth_of_the_edge']:.0%} of them within 0.1 "
        f"m/s of the edge. Command: {COMMANDS}; file: `experiments/results/{LABEL}.json`."
    )
    return "\n\n".join([tables.markdown(rows), tables.markdown(told), note]) + "\n"


def main() -> None:
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    recipes = Path(__file__).parents[1] / "configs/metastar.py"
    cfg = FrozenConfigDict(config.load_preset(f"{recipes}:{RECIPE}"))
    data_set = collect.data_set(cfg)
    report = {
        "command": "python experiments/sparse_rewards.py",
        "commit": provenance.commit(),
        "versions": provenance.versions(),
        "sigmas": SIGMAS,
        "best_guesses": best_guesses(cfg, data_set),
        "ideal_reader": ideal_reader(cfg, data_set),
    }
    files.write_json(cells.RESULTS / f"{LABEL}.json", report)
    content = table(report)
    tables.insert(cells.DOCS / "log.md", LABEL, content)
    print(content)


if __name__ == "__main__":
    main()
