"""A tiny data set of Point-Robot-Sparse and two analytic methods with known scores."""

import functools
import tempfile
from pathlib import Path

import jax.numpy as jnp
import numpy as np
from ml_collections import FrozenConfigDict

import make_config
from metastar.collection import collect
from metastar.data import layout, store
from metastar.envs.families import point_robot_sparse as family
from metastar.evaluation import evaluate
from metastar.train import exploring
from metastar.types import Adaptation, Context, Method, Policy

STAGES = ("random", "medium", "expert")
NUM_TRAIN, NUM_TEST = 3, 2


def tiny_config(**fields):
    """A config of the stub's data; `fields` as {"eval.windows": 3}."""
    fields = {
        "data.train_tasks": NUM_TRAIN,
        "data.test_tasks": NUM_TEST,
        "sampler.with_replacement": True,
        "eval.windows": 6,
        "eval.episodes": 2,
        "eval.zero_shot_streams": 3,
        "eval.curve_windows": 2,
        "preset": "stub",
        **({} if "method" in fields else {"world_model.context_len": 12}),
        **fields,
    }
    known = make_config.schema_of(fields)
    cfg = make_config.base(**{path: x for path, x in fields.items() if path in known})
    return FrozenConfigDict(cfg)


def save_data(directory: Path, cfg=None) -> Path:
    """Stage "random" never sees reward; "expert" stays in the goal; task 0 has no "medium"."""
    rng = np.random.default_rng(0)
    cfg = cfg or tiny_config()
    tasks, split = collect.draw_tasks(cfg)
    num = len(tasks["goal"])
    steps, episodes = family.SPEC.max_episode_steps, len(STAGES)
    goal = tasks["goal"][:, None, None]
    obs = np.empty((num, episodes, steps + 1, 2))
    obs[:, 0] = -1.5 + 0.001 * rng.uniform(size=(num, steps + 1, 2))
    half = steps // 2
    obs[:, 1, : half + 1] = -1.5
    obs[:, 1, half + 1 :] = goal[:, 0]
    obs[:, 2] = goal[:, 0]
    reward = np.linalg.norm(obs[:, :, 1:] - goal, axis=-1) <= family.GOAL_RADIUS
    length = np.full((num, episodes), steps)
    length[0, 1] = 0
    stage = np.broadcast_to(np.arange(episodes), (num, episodes))
    manifest = store.Manifest(
        family=family.SPEC.name,
        env_spec=family.SPEC,
        tasks=tasks,
        split=split,
        policies=("stub",),
        stages=STAGES,
        config=cfg.to_dict(),
        versions={},
        files={},
    )
    fields = {
        "obs": obs,
        "action": np.zeros((num, episodes, steps, 2)),
        "reward": reward,
        "done": np.zeros((num, episodes, steps), bool),
        "length": length,
        "policy": np.zeros((num, episodes)),
        "stage": stage,
        "collector": np.arange(num)[:, None] + 0 * stage,
    }
    store.save(directory, manifest, layout.concatenate(fields))
    return directory


def _go_to_code(counter=None):
    """Walks straight to code[:2], each coordinate at full speed; stays where code[2] is 0."""

    def act(params, adaptation, carry, step, key, greedy):
        if counter is not None:
            counter["act"] += 1
        towards = jnp.clip((adaptation.code[:2] - step.obs) / 0.1, -1, 1)
        return params * adaptation.code[2] * towards, carry

    return Policy(lambda params, adaptation: (), act)


def seeker(counter=None) -> Method:
    """Takes the mean position that paid in the context for the goal; without any it stays."""

    def infer(params, view, task, key):
        paid = ((view.reward > 0) & view.valid).astype(view.obs.dtype)  # [C, L]
        place = (view.next_obs * paid[..., None]).sum((0, 1)) / jnp.maximum(paid.sum(), 1)
        return Adaptation(jnp.append(place, (paid.sum() > 0).astype(place.dtype)))

    def value(params, obs, action, code):
        return 5.0 * params  # whatever the state

    return Method(None, (), None, infer, _go_to_code(counter), Context(12), value=value)


def knower() -> Method:
    """Privileged: knows the goal, so its return is the analytic optimum."""

    def infer(params, view, task, key):
        return Adaptation(jnp.append(task["goal"], 1.0))

    return Method(None, (), None, infer, _go_to_code(), Context(12), privileged=True)


PARAMS = jnp.ones(())
META = {
    "updates": 7,
    "wall_seconds": 90.0,
    "params_sha256": "ab" * 32,
    "digests": {},
    "command": "metastar train --config=configs/metastar.py:point_robot_sparse,stub",
}


def evaluate_run(cfg, method, workdir: Path, data_dir: Path, strategies=()) -> dict:
    """Evaluates a method with `PARAMS` as a run of `META`."""
    tasks = store.tasks_of(store.verify(data_dir), cfg)
    final = evaluate.make_final(cfg, method, tasks, exploring(cfg, strategies))
    return final(cfg, PARAMS, workdir, META)


@functools.cache
def evaluated() -> dict[str, Path]:
    """Folders "data", "oracle" (the knower) and "seeker" (with that oracle), made once."""
    root = Path(_ROOT.name)
    folders = {name: root / name for name in ("data", "oracle", "seeker")}
    save_data(folders["data"])
    for name, method, fields in (
        ("oracle", knower(), {}),
        ("seeker", seeker(), {"eval.oracle": str(folders["oracle"])}),
    ):
        folders[name].mkdir()
        cfg = tiny_config(**fields)
        evaluate_run(cfg, method, folders[name], folders["data"])
    return folders


_ROOT = tempfile.TemporaryDirectory()  # removed when the interpreter ends
