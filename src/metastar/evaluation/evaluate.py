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

from metastar import config
from metastar.config.fields import COUNT, NOT_NEGATIVE, Field
from metastar.data import store
from metastar.data.sources import sources
from metastar.envs.make import family_of, make_env
from metastar.errors import UserError
from metastar.evaluation import episodes as play
from metastar.evaluation import results, summaries
from metastar.training import metrics, provenance
from metastar.types import Method

DEFAULTS = {
    "windows": Field(20, COUNT, "contexts per task and kind of context"),
    "episodes": Field(1, COUNT, "few-shot episodes per context"),
    "zero_shot_streams": Field(8, COUNT, "independent histories per task"),
    "reinfer_every": Field(
        1, COUNT, "steps between two inferences of the zero-shot protocol", before=1
    ),
    "budget": Field(
        0,
        NOT_NEGATIVE,
        "steps of a zero-shot stream, over its resets, before whole episodes are scored; 0 is as "
        "many as a full episode has",
        before=0,
    ),
    "partial_windows": Field(
        False,
        "",
        "whether a zero-shot stream acts before its window is full: for methods trained so",
        before=False,
    ),
    "curve_windows": Field(4, COUNT, "contexts per task in the evaluations during training"),
    "oracle": Field("", "", "workdir of an oracle run whose return is the upper bound"),
}

SEED = 0


def make_curve(cfg: FrozenConfigDict, method: Method, tasks: store.Tasks) -> Callable:
    """Builds the evaluation during training on a run's tasks, smaller than the final one.

    It is jitted once.

    Returns:
        `(params, key) -> dict` of mean returns as floats: `few_shot`, `zero_shot` on held-out
        tasks (absent if no stream used up its budget), `train_few_shot` on training tasks, and in
        sparse families `few_shot_informative`, over windows with reward (absent if no window has
        any).
    """
    env, family = make_env(cfg), family_of(cfg.family)
    rows = _split_names(tasks.split)
    train, test = rows == "train", rows == "test"
    heldout = jax.tree.map(lambda x: x[test], play.tasks_of(tasks.parts))
    given = play.few_shot(cfg, method, env, cfg.eval.curve_windows)
    own = play.zero_shot(cfg, method, env, cfg.eval.curve_windows)

    def curve(params, key):
        key_context, key_play, key_own, key_play_own = jax.random.split(key, 4)
        played, contexts = jax.device_get(given(params, tasks.parts, key_context, key_play))
        stream = jax.device_get(own(params, heldout, key_own, key_play_own))
        own_score = play.scored_mean(stream.episode_return, stream.scored)
        counted = stream.scored.any(-1)
        score = played.episode_return.mean(-1)
        means = {
            "few_shot": score[test].mean(),
            **({"zero_shot": own_score[counted].mean()} if counted.any() else {}),
            "train_few_shot": score[train].mean(),
        }
        rewarded = contexts.rewarded[test]
        if family.sparse and rewarded.any():
            means["few_shot_informative"] = score[test][rewarded].mean()
        return {name: float(value) for name, value in means.items()}

    return curve


def make_final(
    cfg: FrozenConfigDict,
    method: Method,
    tasks: store.Tasks,
    strategies: Sequence[str] = (),
) -> Callable:
    """Builds the evaluation of trained agents; whatever their number, it compiles once.

    Args:
        cfg: the config of a run; others may differ in the seed and in `hp` only.
        method: the runs' method.
        tasks: those of the run.
        strategies: of purposeful exploration; each adds a block to `explored` in each column, of
            streams with it.

    Returns:
        `(cfg, params, workdir, meta) -> dict`, which evaluates what `method.export` returned for a
        run, writes `results.json` and `evaluation.npz` into its workdir, and returns the contents
        of `results.json`. `meta` has `updates`, `wall_seconds`, `params_sha256`, `digests`,
        `command`. Raises `UserError` if the workdir is read-only or a simulation broke down.

    Raises:
        UserError: `cfg.eval.oracle` is no run on the same tasks; a strategy is unknown, or the
            method lacks the model that it needs.
    """
    heldout = {
        name: {
            "ids": ids,
            "parameters": {key: x[ids].tolist() for key, x in tasks.manifest.tasks.items()},
        }
        for name, ids in tasks.split.items()
        if name != "train"
    }
    oracle = results.oracle(cfg.eval.oracle, cfg.family, heldout["test"])
    rows = _split_names(tasks.split)
    measure = make_measure(cfg, method, tasks)
    exploring = [make_measure_explored(cfg, method, tasks, name) for name in strategies]
    behavior = np.concatenate([summaries.behavior_best(part) for part in tasks.parts])

    def column(arrays, rows, oracle):
        """Both protocols and the bounds on the tasks `rows` [N] bool."""
        random = summaries.summary(arrays["random_return"][rows], arrays["optimum"][rows])
        bounds = {
            "random": random["mean"],
            "behavior_best": float(behavior[rows].mean()),
            "oracle": oracle and oracle["few_shot"]["mean"],
            "optimum": random["optimum"],
        }
        explored = {
            name: summaries.zero_shot(arrays, rows, bounds, f"explored_{name}")
            for name in strategies
        }
        return {
            "few_shot": summaries.few_shot(arrays, rows, bounds),
            "zero_shot": summaries.zero_shot(arrays, rows, bounds),
            **({"explored": explored} if explored else {}),
            "bounds": bounds,
        }

    def final(cfg: FrozenConfigDict, params, workdir: str | Path, meta: dict) -> dict:
        began = time.monotonic()
        arrays = measure(params, _discount(cfg, method))
        for measure_explored in exploring:
            arrays |= measure_explored(params)
        arrays["split"] = rows
        arrays["task_id"] = np.concatenate(list(tasks.split.values()))
        _check_finite(arrays)
        arrays["oracle_per_task"] = np.array(oracle["few_shot"]["per_task"] if oracle else [])
        train = column(arrays, rows == "train", None)
        report = {
            "method": cfg.method,
            "family": cfg.family,
            "preset": cfg.preset,
            "seed": cfg.seed,
            "hyper_params": config.flatten(config.swept(cfg)),
            "updates": meta["updates"],
            "wall_seconds": meta["wall_seconds"],
            "evaluation_seconds": time.monotonic() - began,
            "command": meta["command"],
            "commit": provenance.commit(),
            "versions": provenance.versions(),
            "device": jax.devices()[0].device_kind,
            "split": "validation" if cfg.data.validation_tasks else "test",
            "tasks": heldout["test"],
            **column(arrays, rows == "test", oracle),
            "train_few_shot": train["few_shot"],
            "train_zero_shot": train["zero_shot"],
            "stability": summaries.stability(metrics.read_rows(Path(workdir) / metrics.FILE)),
            "params_sha256": meta["params_sha256"],
            "digests": meta["digests"],
        }
        for name in store.OOD:
            if name in heldout:
                bound = results.oracle_column(oracle, name, heldout[name], cfg.eval.oracle)
                own = column(arrays, rows == name, bound)
                report[name] = {"tasks": heldout[name], **own}
        results.write_arrays(workdir, arrays)
        results.write(workdir, report)
        return report

    return final


def _discount(cfg: FrozenConfigDict, method: Method) -> float | None:
    """That of the agent whose critics give values; None where there is none."""
    return None if method.value is None else cfg.agent[cfg.agent.name].gamma


def _check_finite(arrays: dict) -> None:
    """MJX cannot raise inside a compiled rollout: there a breakdown gives returns that are NaN.

    So has a stream without a scored episode, which is no breakdown.
    """
    for name in (name for name in arrays if name.endswith("return")):
        missing = np.equal(arrays.get(f"{name.removesuffix('return')}scored", 1), 0)
        broken = ~(np.isfinite(arrays[name]) | missing).all(-1)
        if broken.any():
            task = arrays["task_id"][np.argwhere(broken)[0, -1]]
            raise UserError(
                f"the simulation broke down in task {task} while {name!r} was measured; nothing is "
                "written; a run with --config.simulator.backend=c names the step"
            )


def _split_names(split: dict[str, list[int]]) -> np.ndarray:
    """The name of the part of the split that each loaded task [N] belongs to."""
    return np.array([name for name, ids in split.items() for _ in ids])


def make_measure(cfg, method: Method, tasks: store.Tasks) -> Callable:
    """Builds `(params, gamma) -> dict`: all protocols on all tasks of a run, NumPy arrays by name.

    N tasks, W windows, V zero-shot streams, K sources of context. Returns are undiscounted and,
    over the episodes of one window, averaged: `return` [N, W], `reached` [N, W] share of episodes
    that met the goal, `rewarded` [N, W], `code` [N, W, Z], `path`; `source_return`,
    `source_present` [K, N, W] and `source_code`, for windows of one behaviour policy at one stage,
    cross-task ones among them; `random_return` [N, W]; `optimum` [N, W], NaN where the family has
    none; what `play.values` gives under the discount `gamma`; `zero_shot_*` [N, V] of `_own`, with
    `zero_shot_path` of the first and the last episodes and `zero_shot_random_return`; `label`,
    `label_name`, `goal`, `goal_radius` for the figures; `has_success`: the family knows any.
    """
    env, family = make_env(cfg), family_of(cfg.family)
    num_windows, num_streams = cfg.eval.windows, cfg.eval.zero_shot_streams
    given, values = play.few_shot(cfg, method, env, num_windows), play.values(method)
    own = play.zero_shot(cfg, method, env, num_streams)
    uniform = play.uniform(env, num_windows, cfg.eval.episodes)
    uniform_own = play.uniform(
        env, num_streams, play.stream_episodes(env.spec, cfg.eval.budget or None)
    )

    manifest, parts = tasks.manifest, tasks.parts
    tags = [np.concatenate([getattr(part, tag) for part in parts]) for tag in ("policy", "stage")]
    found = sources(manifest.policies, manifest.stages, *tags)
    key_play, key_play_own, key_own, *keys = jax.random.split(jax.random.key(SEED), 4 + len(found))
    all_tasks = play.tasks_of(parts)
    task = jax.device_get(all_tasks)
    label_name, label = family.label(task)

    def restricted(source):
        return tuple(store.restrict(part, source.policy, source.stage) for part in parts)

    def measure(params, gamma: float) -> dict:
        played, contexts = jax.device_get(given(params, parts, keys[0], key_play))
        by_source = [
            jax.device_get(given(params, restricted(source), key, key_play))
            for source, key in zip(found, keys[1:])
        ]
        zero_shot = jax.device_get(own(params, all_tasks, key_own, key_play_own))
        random = jax.device_get(uniform(all_tasks, key_play))
        random_own = jax.device_get(uniform_own(all_tasks, key_play_own))
        return {
            "return": played.episode_return.mean(-1),
            "reached": played.reached.mean(-1),
            "rewarded": contexts.rewarded if family.sparse else np.zeros(0, bool),
            "code": contexts.code,
            "path": played.path,
            "sources": np.array([source.name for source in found]),
            "source_return": np.stack([p.episode_return.mean(-1) for p, _ in by_source]),
            "source_present": np.stack([c.present for _, c in by_source]),
            "source_code": np.stack([c.code for _, c in by_source]),
            "random_return": random.episode_return.mean(-1),
            "optimum": _optimum(family, played.start, task).mean(-1),
            **{f"zero_shot_{name}": x for name, x in _own(family, zero_shot, task).items()},
            "zero_shot_path": zero_shot.path[:, :, [0, -1]],
            # Uniform actions need no budget; episode 1 is left out as the agent's always is.
            "zero_shot_random_return": random_own.episode_return[..., 1:].mean(-1),
            **jax.device_get(values(params, gamma, played, contexts)),
            "label_name": np.array(label_name),
            "label": np.asarray(label),
            "goal": np.asarray(family.goal(task) if family.goal else []),
            "goal_radius": np.array(family.goal_radius or np.nan),
            "has_success": np.array(family.success is not None),
        }

    return measure


def make_measure_explored(cfg, method: Method, tasks: store.Tasks, strategy: str) -> Callable:
    """Builds `(params) -> dict`: streams of purposeful exploration on all tasks of a run.

    The arrays are `explored_<strategy>_*` [N, V] of `_own`.
    """
    env, family = make_env(cfg), family_of(cfg.family)
    run = play.explored(cfg, method, env, cfg.eval.zero_shot_streams, strategy)
    key_bank, key_play = jax.random.split(jax.random.fold_in(jax.random.key(SEED), 1))
    all_tasks = play.tasks_of(tasks.parts)
    task = jax.device_get(all_tasks)

    def measure(params) -> dict:
        played = jax.device_get(run(params, tasks.train, all_tasks, key_bank, key_play))
        return {f"explored_{strategy}_{key}": x for key, x in _own(family, played, task).items()}

    return measure


def _own(family, played: play.Played, task) -> dict:
    """What is kept of streams that gather their context themselves, arrays [N, V] by name.

    `return` and `optimum` are means over the scored episodes, NaN in a stream without any;
    `scored` is their number; `first_return` is of episode 1; `reached` [N, V, E] of each episode.
    """
    return {
        "return": play.scored_mean(played.episode_return, played.scored),
        "first_return": played.episode_return[..., 0],
        "reached": played.reached,
        "optimum": play.scored_mean(_optimum(family, played.start, task), played.scored),
        "scored": played.scored.sum(-1),
    }


def _optimum(family, start, task):
    """Largest possible return [N, W, E] from `start` [N, W, E, O]; NaN if the family knows none."""
    if family.optimum is None:
        return np.full(start.shape[:-1], np.nan)
    return family.optimum(start, jax.tree.map(lambda x: x[:, None, None], task))
