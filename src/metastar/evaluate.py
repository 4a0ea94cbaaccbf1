"""How good an agent is on tasks it never saw, with bounds beside it: `results.json`.

Training tasks and held-out tasks run in one batch, so that every protocol compiles once. The final
evaluation uses one fixed key, so that every method, seed and bound meets the same starts, and every
method and seed the same context windows.
"""

import time
from collections.abc import Callable, Sequence
from pathlib import Path

import jax
import numpy as np
from ml_collections import FrozenConfigDict

from metastar import play, registry, results
from metastar.data import store
from metastar.envs.point_mass import make_env
from metastar.types import Method, TaskData

SEED = 0


def make_curve(cfg: FrozenConfigDict, method: Method, data_dir: str | Path) -> Callable:
    """Builds the evaluation during training, smaller than the final one, jitted once.

    Returns:
        `(params, key) -> dict` of mean returns as floats: `few_shot`, `zero_shot` on held-out
        tasks, `train_few_shot` on training tasks, and in sparse families
        `few_shot_informative`, over windows with reward (absent if no window has any).
    """
    env, family = make_env(cfg.family, cfg.env), registry.find("family", cfg.family)
    data = store.load(data_dir, "all", cfg)
    num_train = len(store.split_ids(store.read_manifest(data_dir), cfg)[0])
    heldout = jax.tree.map(lambda x: x[num_train:], data.task)
    given = play.few_shot(cfg, method, env, family, cfg.eval.curve_windows)
    own = play.zero_shot(cfg, method, env, family, cfg.eval.curve_windows)

    def curve(params, key):
        key_context, key_play, key_own, key_play_own = jax.random.split(key, 4)
        played, contexts = jax.device_get(given(params, data, key_context, key_play))
        last = np.asarray(own(params, heldout, key_own, key_play_own).episode_return[..., -1])
        score = played.episode_return.mean(-1)
        means = {
            "few_shot": score[num_train:].mean(),
            "zero_shot": last.mean(),
            "train_few_shot": score[:num_train].mean(),
        }
        rewarded = contexts.rewarded[num_train:]
        if family.SPARSE and rewarded.any():
            means["few_shot_informative"] = score[num_train:][rewarded].mean()
        return {name: float(value) for name, value in means.items()}

    return curve


def final(
    cfg: FrozenConfigDict,
    method: Method,
    params,
    workdir: str | Path,
    data_dir: str | Path,
    meta: dict,
) -> dict:
    """Evaluates a trained agent; writes `results.json` and `evaluation.npz` into the workdir.

    Args:
        cfg: the run's config.
        method: the run's method.
        params: what `method.export` returned.
        workdir: the run's folder.
        data_dir: the data set.
        meta: `updates`, `wall_seconds`, `params_sha256`, `command`.

    Returns:
        The contents of `results.json`.

    Raises:
        UserError: `cfg.eval.oracle` is no run on the same tasks; the workdir is read-only.
    """
    began = time.monotonic()
    manifest = store.read_manifest(data_dir)
    train_ids, heldout_ids = store.split_ids(manifest, cfg)
    data = store.load(data_dir, "all", cfg)
    tasks = {
        "ids": heldout_ids,
        "parameters": {name: x[heldout_ids].tolist() for name, x in manifest.tasks.items()},
    }
    bound = results.oracle(cfg.eval.oracle, cfg.family, tasks)

    arrays = measure(cfg, method, params, data, manifest.stages)
    arrays["task_id"] = np.array(train_ids + heldout_ids)
    arrays["heldout"] = np.isin(arrays["task_id"], heldout_ids)
    arrays["oracle_per_task"] = np.array(bound["per_task"] if bound else [])
    train, test = ~arrays["heldout"], arrays["heldout"]
    random = results.summary(arrays["random_return"][test], arrays["optimum"][test])
    report = {
        "method": cfg.method,
        "family": cfg.family,
        "preset": cfg.preset,
        "seed": cfg.seed,
        "updates": meta["updates"],
        "wall_seconds": meta["wall_seconds"],
        "evaluation_seconds": time.monotonic() - began,
        "command": meta["command"],
        "commit": results.commit(),
        "versions": results.versions(),
        "device": jax.devices()[0].device_kind,
        "split": "validation" if cfg.data.validation_tasks else "test",
        "tasks": tasks,
        "few_shot": results.few_shot(arrays, test),
        "zero_shot": results.zero_shot(arrays, test),
        "train_few_shot": results.few_shot(arrays, train),
        "train_zero_shot": results.zero_shot(arrays, train),
        "bounds": {
            "random": random["mean"],
            "behavior_best": results.behavior_best(jax.tree.map(lambda x: x[test], data)),
            "oracle": bound and bound["mean"],
            "optimum": random["optimum"],
        },
        "params_sha256": meta["params_sha256"],
    }
    results.write_arrays(workdir, arrays)
    results.write(workdir, report)
    return report


def measure(cfg, method: Method, params, data: TaskData, stages: Sequence[str]) -> dict:
    """Plays all protocols on all tasks of `data`; returns NumPy arrays by name.

    N tasks, W windows, V zero-shot streams, K stages. Returns are undiscounted and, over the
    episodes of one window, averaged: `return` [N, W], `reached` [N, W] share of episodes that met
    the goal, `rewarded` [N, W], `code` [N, W, Z], `path`; `stage_return`, `stage_present`
    [K, N, W] and `stage_code`, for windows of one stage; `random_return` [N, W]; `optimum` [N, W],
    NaN where the family has none; the same of episode 2 as `zero_shot_*` [N, V], with
    `zero_shot_first_return`; `label`, `label_name`, `goal`, `goal_radius` for the figures.
    """
    env, family = make_env(cfg.family, cfg.env), registry.find("family", cfg.family)
    num_windows, num_streams = cfg.eval.windows, cfg.eval.zero_shot_streams
    given = play.few_shot(cfg, method, env, family, num_windows)
    own = play.zero_shot(cfg, method, env, family, num_streams)
    uniform = play.uniform(env, family, num_windows, cfg.eval.episodes)
    uniform_own = play.uniform(env, family, num_streams, play.ZERO_SHOT_EPISODES)

    key_play, key_play_own, key_own, *keys = jax.random.split(jax.random.key(SEED), 4 + len(stages))
    task = jax.device_get(data.task)
    played, contexts = jax.device_get(given(params, data, keys[0], key_play))
    by_stage = [
        jax.device_get(given(params, store.restrict(data, k), keys[1 + k], key_play))
        for k in range(len(stages))
    ]
    zero_shot = jax.device_get(own(params, data.task, key_own, key_play_own))
    random = jax.device_get(uniform(data.task, key_play))
    random_own = jax.device_get(uniform_own(data.task, key_play_own))
    label_name, label = family.label(task)
    return {
        "return": played.episode_return.mean(-1),
        "reached": played.reached.mean(-1),
        "rewarded": contexts.rewarded if family.SPARSE else np.zeros(0, bool),
        "code": contexts.code,
        "path": played.path,
        "stages": np.array(list(stages)),
        "stage_return": np.stack([p.episode_return.mean(-1) for p, _ in by_stage]),
        "stage_present": np.stack([c.present for _, c in by_stage]),
        "stage_code": np.stack([c.code for _, c in by_stage]),
        "random_return": random.episode_return.mean(-1),
        "optimum": _optimum(family, played.start, task).mean(-1),
        "zero_shot_return": zero_shot.episode_return[..., -1],
        "zero_shot_first_return": zero_shot.episode_return[..., 0],
        "zero_shot_reached": zero_shot.reached,
        "zero_shot_path": zero_shot.path,
        "zero_shot_random_return": random_own.episode_return[..., -1],
        "zero_shot_optimum": _optimum(family, zero_shot.start, task)[..., -1],
        "label_name": np.array(label_name),
        "label": np.asarray(label),
        "goal": np.asarray(task.get("goal", [])),
        "goal_radius": np.array(getattr(family, "GOAL_RADIUS", np.nan)),
    }


def _optimum(family, start, task):
    """Largest possible return [N, W, E] from `start` [N, W, E, O]; NaN if the family knows none."""
    if not hasattr(family, "optimum"):
        return np.full(start.shape[:-1], np.nan)
    return family.optimum(start, jax.tree.map(lambda x: x[:, None, None], task))
