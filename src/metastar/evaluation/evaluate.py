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
from ml_collections import ConfigDict, FrozenConfigDict

from metastar import config
from metastar.config.fields import COUNT, Field
from metastar.data import contexts, store
from metastar.envs.make import family_of, make_env, profile_of
from metastar.errors import UserError
from metastar.evaluation import episodes as play
from metastar.evaluation import likelihood, results, summaries
from metastar.evaluation.measure import make_measure
from metastar.evaluation.protocol import Given, Protocol
from metastar.training import memory, metrics, provenance
from metastar.types import EnvSpec, Method

DEFAULTS = {
    "protocols": Field(
        "few_shot,zero_shot",
        "protocol",
        "files of evaluation/protocols/; bounds are computed for the episodes of the first one",
        selector=True,
        before="few_shot,zero_shot",
    ),
    "curve_windows": Field(4, COUNT, "contexts per task in the evaluations during training"),
    "oracle": Field("", "", "workdir of an oracle run whose return is the upper bound"),
}
SECTIONS = {"inference": (likelihood,)}

SEED = 0


def protocols_of(cfg: ConfigDict, method: Method, spec: EnvSpec) -> list[Protocol]:
    """The protocols that `eval.protocols` names; raises `UserError` if the method lacks a part."""
    names = dict.fromkeys(name.strip() for name in cfg.eval.protocols.split(","))
    return [config.make(cfg, "protocol", name, method, spec) for name in names]


def make_curve(cfg: FrozenConfigDict, method: Method, tasks: store.Tasks) -> Callable:
    """Builds the evaluation during training on a run's tasks, smaller than the final one.

    It is jitted once.

    Returns:
        `(params, key) -> dict` of mean returns as floats: by name of the protocol on held-out tasks
        (absent if no stream used up its budget). For a protocol whose contexts are drawn from data
        also `train_<name>`, on training tasks, and in sparse families `<name>_informative`, over
        contexts with reward (absent if none has any).

    Raises:
        UserError: the data cannot fill a context of the method, the method lacks what a protocol
            needs, memory cannot hold its episodes, or the simulator cannot make a task.
    """
    env, family = make_env(cfg), family_of(cfg.family, profile_of(cfg))
    method, params_for, *_ = likelihood.make(cfg.inference, method)
    protocols = protocols_of(cfg, method, env.spec)
    _check_possible(cfg, method, tasks, {one: cfg.eval.curve_windows for one in protocols})
    runs = [play.evaluation(one, env, cfg.eval.curve_windows) for one in protocols]
    everything = Given(play.tasks_of(tasks.parts), tasks.parts)
    env.prepare(everything.task)  # a task that the simulator refuses is an error before training
    rows = _split_names(tasks.split)
    test = rows == "test"
    heldout = Given(jax.tree.map(lambda x: x[test], everything.task))

    def curve(params, key):
        keys, means = jax.random.split(key, (len(runs), 2)), {}
        params = params_for(params, lambda: tasks.train)
        for protocol, run, own_keys in zip(protocols, runs, keys):
            given = everything if protocol.from_data else heldout
            played, _, drawn = run(params, tasks.train, given, *own_keys)
            returns, scored, drawn = jax.device_get((played.episode_return, played.scored, drawn))
            name, score = protocol.name, play.scored_mean(returns, scored)
            kinds = {name: np.ones(score.shape, bool)}
            if protocol.from_data:
                kinds = {name: test[:, None], f"train_{name}": (rows == "train")[:, None]}
                if family.sparse:
                    kinds[f"{name}_informative"] = test[:, None] & drawn.rewarded
            kept = {kind: score[keep & scored.any(-1)] for kind, keep in kinds.items()}
            means |= {kind: float(x.mean()) for kind, x in kept.items() if x.size}
        return means

    return curve


def make_final(
    cfg: FrozenConfigDict,
    method: Method,
    tasks: store.Tasks,
    also: Sequence[ConfigDict] = (),
) -> Callable:
    """Builds the evaluation of trained agents; whatever their number, it compiles once.

    Args:
        cfg: the config of a run; others may differ in the seed and in `hp` only.
        method: the runs' method.
        tasks: those of the run.
        also: the run's config with other `eval.protocols`, which are evaluated too.

    Returns:
        `(cfg, params, workdir, meta) -> dict`, which evaluates what `method.export` returned for a
        run, writes `results.json` and `evaluation.npz` into its workdir, and returns the contents
        of `results.json`. `meta` has `updates`, `wall_seconds`, `params_sha256`, `digests`,
        `command`. Raises `UserError` if the workdir is read-only or a simulation broke down.

    Raises:
        UserError: `cfg.eval.oracle` is no run on the same tasks; the data cannot fill a context of
            the method, the method lacks what a protocol needs, or memory cannot hold its episodes.
    """
    spec = make_env(cfg).spec
    inference = likelihood.make(cfg.inference, method)
    method = inference.method
    found = [one for c in (cfg, *also) for one in protocols_of(c, method, spec)]
    protocols, first = list({one.name: one for one in found}.values()), found[0].name
    _check_possible(cfg, method, tasks, {one: one.streams for one in protocols})
    heldout = {
        name: {
            "ids": ids,
            "parameters": {key: x[ids].tolist() for key, x in tasks.manifest.tasks.items()},
        }
        for name, ids in tasks.split.items()
        if name != "train"
    }
    oracle = results.oracle(cfg.eval.oracle, cfg.family, heldout["test"], first)
    rows = _split_names(tasks.split)
    measure = make_measure(cfg, method, tasks, protocols, jax.random.key(SEED))
    labels = _labels(tasks, cfg)
    behavior = np.concatenate([summaries.behavior_best(part) for part in tasks.parts])

    def column(measured, rows, oracle):
        """All protocols and the bounds on the tasks `rows` [N] bool."""
        bound = measured[first]
        random = summaries.summary(bound["random_return"][rows], bound["optimum"][rows])
        bounds = {
            "random": random["mean"],
            "behavior_best": float(behavior[rows].mean()),
            "oracle": oracle and oracle["protocols"][first]["mean"],
            "optimum": random["optimum"],
        }
        blocks = {k: summaries.block(x | labels, rows, bounds) for k, x in measured.items()}
        return {"protocols": blocks, "bounds": bounds}

    def final(cfg: FrozenConfigDict, params, workdir: str | Path, meta: dict) -> dict:
        began = time.monotonic()
        params = inference.params(params, lambda: tasks.train)
        measured = measure(params, _discount(cfg, method))
        task_id = np.concatenate(list(tasks.split.values()))
        _check_finite(measured, task_id)
        report = {
            "method": cfg.method,
            "privileged": method.privileged,
            "family": cfg.family,
            "preset": cfg.preset,
            "seed": cfg.seed,
            "inference": cfg.inference.choice,
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
            **column(measured, rows == "test", oracle),
            "train": {"protocols": column(measured, rows == "train", None)["protocols"]},
            "stability": summaries.stability(metrics.read_rows(Path(workdir) / metrics.FILE)),
            "params_sha256": meta["params_sha256"],
            "digests": meta["digests"],
        }
        for name in store.OOD:
            if name in heldout:
                bound = results.oracle_column(oracle, name, heldout[name], cfg.eval.oracle)
                own = column(measured, rows == name, bound)
                report[name] = {"tasks": heldout[name], **own}
        per_task = oracle["protocols"][first]["per_task"] if oracle else []
        shared = {"split": rows, "task_id": task_id, "oracle_per_task": np.array(per_task)}
        inference.save(params, workdir, meta["params_sha256"])
        results.write_arrays(workdir, measured, shared | labels)
        results.write(workdir, report)
        return report

    return final


def _discount(cfg: FrozenConfigDict, method: Method) -> float | None:
    """The discount of the agent whose critics give values; None for a method without values."""
    return None if method.value is None else cfg.agent[cfg.agent.name].gamma


def _check_possible(cfg, method: Method, tasks: store.Tasks, streams: dict[Protocol, int]) -> None:
    """Raises `UserError` if data cannot fill a context, or memory not hold the streams per task."""
    counts = np.concatenate([part.count for part in tasks.parts])
    contexts.check(method.context, counts, cfg.method)
    spec = make_env(cfg).spec
    for protocol, num in streams.items():
        memory.expect_streams(spec, protocol.name, num * len(counts), protocol.episodes)


def _check_finite(measured: dict[str, dict], task_id: np.ndarray) -> None:
    """Raises `UserError` for a return that is NaN because a simulation broke down.

    MJX cannot raise inside a compiled rollout, so a breakdown shows as NaN. A stream without a
    scored episode has a NaN too, which is not an error.
    """
    for protocol, arrays in measured.items():
        for name in (name for name in arrays if name.endswith("return")):
            missing = arrays["scored"] == 0 if name == "return" else False
            broken = ~(np.isfinite(arrays[name]) | missing).all(-1)
            if broken.any():
                task = task_id[np.argwhere(broken)[0, -1]]
                raise UserError(
                    f"the simulation broke down in task {task} while '{protocol}_{name}' was "
                    "measured; nothing is written; a run with --config.simulator.backend=c names "
                    "the step"
                )


def _labels(tasks: store.Tasks, cfg: FrozenConfigDict) -> dict[str, np.ndarray]:
    """What figures show of each task [N]: its label, and its goal if it has one."""
    family = family_of(cfg.family, profile_of(cfg))
    task = jax.device_get(play.tasks_of(tasks.parts))
    name, label = family.label(task)
    return {
        "label_name": np.array(name),
        "label": np.asarray(label),
        "goal": np.asarray(family.goal(task) if family.goal else []),
        "goal_radius": np.array(family.goal_radius or np.nan),
        "has_success": np.array(family.success is not None),
    }


def _split_names(split: dict[str, list[int]]) -> np.ndarray:
    """The name of the part of the split that each loaded task [N] belongs to."""
    return np.array([name for name, ids in split.items() for _ in ids])
