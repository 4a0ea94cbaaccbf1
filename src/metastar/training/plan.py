"""The cost of a run before it starts: sizes are counted, time is measured on a few updates."""

import tempfile
import time
from collections import Counter
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict, FrozenConfigDict

from metastar import config
from metastar.collection import collect
from metastar.data import store
from metastar.envs.make import make_env
from metastar.training import chunk as chunks
from metastar.training import memory, placement
from metastar.training.chunk import make_chunk, params_of
from metastar.training.compilation import compiled
from metastar.training.flops import matmul_flops
from metastar.training.placement import Placement
from metastar.training.runs import stack
from metastar.types import DataSpec, Method, Phase, TaskData

_MEASURED_UPDATES = 20
_MEASURED_SECONDS = 5.0


class PhaseCost(NamedTuple):
    """What one phase costs on this machine."""

    compile_seconds: float
    seconds: float  # of one update of all runs
    matmul_flops: float  # of one update of all runs: its matrix products, loops counted in full
    xla_flops: float  # the same by XLA's cost analysis, which counts a loop's body once
    peak_bytes: int  # of the compiled chunk, arguments included


def describe(
    cfg: ConfigDict,
    method: Method,
    data: TaskData,
    note: str,
    num_runs: int = 1,
    place: Placement = placement.ONE,
) -> str:
    """Returns a table of parameters, memory, FLOPs per update and expected minutes.

    It compiles every phase and runs at most 20 updates of each, so it takes as long as a run takes
    to start; of several runs it also measures one alone, in the longest phase, to tell whether
    training them together pays. Nothing is written.

    Args:
        cfg: reads `seed` and `train`.
        method: what would be trained.
        data: the training tasks, or a sample of them.
        note: where the data are from.
        num_runs: how many runs would train in one program.
        place: on which devices.

    Raises:
        UserError: so many do not fit into memory, or the devices do not divide the tasks.
    """
    memory.expect_possible(method, data, num_runs)
    state = chunks.abstract(method)
    groups = {name: _count(group) for name, group in params_of(state.state).items()}
    of_runs = f" of {num_runs} runs together" if num_runs > 1 else ""
    shares = ", ".join(f"{name} {size:,}" for name, size in groups.items())
    lines = [
        f"parameters   {sum(groups.values()):,} ({shares})",
        f"run state    {_megabytes(num_runs * memory.size(state))}{of_runs} (parameters, targets, "
        "optimiser)",
        f"data         {_megabytes(memory.size(data))} on each device ({note})",
    ]
    phases = _measured(cfg, method, data, num_runs, place)
    costs = [cost for _, _, cost in phases if cost]
    peak = max((cost.peak_bytes for cost in costs), default=0)
    device = f" on each of {place.num_devices} devices" if place.mesh else ""
    lines.append(f"memory       {_megabytes(peak)}{of_runs} inside a chunk{device}, data included")
    if num_runs > 1 and costs:
        lines.append(_together(cfg, method, data, phases, num_runs))
    lines += [
        "",
        "phase         updates   updates/s   compile     minutes   GFLOP/update (XLA's count)",
        *(_row(phase, cost, num_runs, cfg.train.pretrained) for phase, _, cost in phases),
        "",
    ]
    total = sum(_minutes(phase, cost) for phase, _, cost in phases if cost)
    lines.append(
        f"expected     {total:.1f} minutes on {jax.devices()[0].device_kind}, measured now; making "
        "data and evaluating are not counted"
    )
    return "\n".join(lines)


def _measured(
    cfg: ConfigDict, method: Method, data: TaskData, num_runs: int, place: Placement
) -> list[tuple[Phase, int, PhaseCost | None]]:
    """Every phase that has updates, its first one and its cost: None if another run has done it."""
    found, start = [], 0
    for phase in filter(lambda phase: phase.num_updates, method.phases):
        done = cfg.train.pretrained and not start
        cost = None if done else measure(cfg, method, phase, data, start, num_runs, place)
        found.append((phase, start, cost))
        start += phase.num_updates
    return found


def _minutes(phase: Phase, cost: PhaseCost) -> float:
    return (cost.compile_seconds + phase.num_updates * cost.seconds) / 60


def _row(phase: Phase, cost: PhaseCost | None, num_runs: int, pretrained: str) -> str:
    if cost is None:
        return f"{phase.name:<12}{phase.num_updates:>9,}   those of {pretrained}"
    return (
        f"{phase.name:<12}{phase.num_updates:>9,}{num_runs / cost.seconds:>12.1f}"
        f"{cost.compile_seconds:>8.1f} s{_minutes(phase, cost):>12.1f}"
        f"{cost.matmul_flops / num_runs / 1e9:>15.3f} ({cost.xla_flops / num_runs / 1e9:.3f})"
    )


def _together(cfg: ConfigDict, method: Method, data: TaskData, phases: list, num_runs: int) -> str:
    """Whether several runs in one program take less time than one after the other."""
    measured = [part for part in phases if part[2]]
    phase, start, cost = max(measured, key=lambda part: part[0].num_updates)
    gain = num_runs * measure(cfg, method, phase, data, start).seconds / cost.seconds
    verdict = "pays" if gain > 1 else "does not pay"
    return (
        f"together     {num_runs} runs make {gain:.2f} times the updates/s of one on one device "
        f"({phase.name}): one program of them {verdict}"
    )


def measure(
    cfg: ConfigDict,
    method: Method,
    phase: Phase,
    data: TaskData,
    start: int,
    num_runs: int = 1,
    place: Placement = placement.ONE,
) -> PhaseCost:
    """Compiles a phase that begins at update `start`, and times a few of its updates."""
    keys = stack([jax.random.key(cfg.seed)] * num_runs)
    hp = stack([jax.tree.map(jnp.asarray, method.hp)] * num_runs)
    loop, keys, hp = placement.put((chunks.init(method, keys), keys, hp), place.state)
    length = min(_MEASURED_UPDATES, phase.num_updates)
    every = cfg.train.validate_every
    chunk = make_chunk(phase, start, length, every, Counter(), num_runs, place)
    data = placement.put(data, place.data)
    fixed = (data, keys, hp, np.int32(start))

    program = compiled(chunk, loop, *fixed, np.int32(0))
    memory.expect_fit(program.peak_bytes, loop, data, num_runs, place.num_devices)

    def run(loop, num):
        began = time.perf_counter()
        loop, _ = jax.block_until_ready(program.run(loop, *fixed, np.int32(num)))
        return loop, (time.perf_counter() - began) / num

    loop, seconds = run(loop, 1)  # the first call also pays for allocation
    loop, seconds = run(loop, int(np.clip(_MEASURED_SECONDS / seconds, 1, length)))
    return PhaseCost(
        program.seconds,
        seconds,
        place.along(placement.RUN) * matmul_flops(program.jaxpr) / length,  # it has a device's runs
        program.xla_flops,
        program.peak_bytes,
    )


def expected_spec(cfg: ConfigDict) -> DataSpec:
    """What a method can know of a data set before it is made: its shapes, no statistics.

    Raises `UserError` as `make_env` and `collect.draw_tasks`.
    """
    env, (tasks, split) = make_env(cfg).spec, collect.draw_tasks(cfg)
    sources = 1 if cfg.collect.behavior == "random" else 2  # or more
    return DataSpec(
        family=cfg.family,
        obs_dim=env.obs_dim,
        action_dim=env.action_dim,
        task_dim=sum(int(np.prod(value.shape[1:])) for value in tasks.values()),
        num_tasks=len(split["train"]) - cfg.data.validation_tasks,
        max_episode_steps=env.max_episode_steps,
        obs_mean=(0.0,) * env.obs_dim,
        obs_std=(1.0,) * env.obs_dim,
        num_policies=sources,
        num_behaviors=sources,
    )


def sample_data(cfg: ConfigDict) -> tuple[TaskData, store.Manifest]:
    """Makes a data set of 4 random episodes per task, of the training tasks of a config.

    Every behaviour but "random" has several sources, so these episodes get two policies then.
    """
    small = config.change(cfg, {"collect.behavior": "random", "collect.random_episodes": 4})
    small = FrozenConfigDict(small)
    with tempfile.TemporaryDirectory() as folder:
        collect.collect(small, folder, report=lambda line: None)
        found = store.verify(folder)
        data, manifest = jax.tree.map(np.array, store.load(found, "train", small)), found.manifest
    if cfg.collect.behavior != "random":
        policy = np.arange(data.policy.size, dtype=data.policy.dtype) % 2
        data = data._replace(policy=policy.reshape(data.policy.shape))
        manifest = manifest._replace(policies=("random", "another"))
    return data, manifest


def _count(tree: Any) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


def _megabytes(num: int) -> str:
    return f"{num / 2**20:.1f} MiB"
