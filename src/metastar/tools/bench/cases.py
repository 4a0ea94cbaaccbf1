"""What `metastar bench` times: each part of a run as a function without arguments."""

import importlib.util
import time
from collections import Counter
from collections.abc import Callable
from types import ModuleType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict, FrozenConfigDict

from metastar.errors import UserError
from metastar.tools.bench import parts
from metastar.tools.bench.setting import Setting
from metastar.training import chunk as chunks
from metastar.training import placement, runs
from metastar.training.chunk import make_chunk, params_of, update_keys
from metastar.training.compilation import compiled
from metastar.training.flops import by_scope, matmul_flops, products
from metastar.training.runs import make_method, stack
from metastar.types import Env, Phase

# Names of the forms of an update.
PLAIN, CONFIGURED, CONSTANT, SAMPLED = (
    "plain form",
    "as configured",
    "constant batch",
    "sampled gradient",
)

_MAX_UPDATES = 50  # in a chunk
# FLOP of a chunk's matrix products, about: a second on a CPU, a fifth of one on an accelerator. A
# chunk's memory is fresh at every call, and a training run's chunks are long.
_CHUNK_FLOPS, _CHUNK_FLOPS_ACCELERATOR = 1e11, 2e12


class Case(NamedTuple):
    """Something to time."""

    name: str
    unit: str  # what is counted: "update", "env step"
    units: int  # how many of them one call does
    call: Callable[[], Any]
    products: Counter  # matrix products of one call
    compile_seconds: float
    xla_flops: float | None = None  # of the compiled function, a loop's body once
    peak_bytes: int | None = None  # of the compiled function, arguments included
    scopes: Counter | None = None  # FLOP of the matrix products of one call, by named scope
    parameters: int | None = None  # that are trained, in one run


def last_phase(setting: Setting) -> Phase:
    """The last phase of a method, in which it spends most of its time."""
    return setting.method.phases[-1]


def part_phase(setting: Setting, name: str) -> Phase:
    """The last phase with one part as its whole update; `UserError` if there is no such part."""
    file, method = _parts_file(setting), setting.cfg.method
    found = file.parts(setting.cfg, setting.spec) if file else {}
    if name not in found:
        known = f"; its parts are {', '.join(sorted(found))}" if found else ""
        raise UserError(f"method {method!r} has no part {name!r} to time alone{known}")
    phase = last_phase(setting)._replace(update=found[name])
    return runs.bind(setting.method._replace(phases=(phase,)), setting.cfg).phases[0]


def forms(setting: Setting) -> list[Case]:
    """Updates of the last phase in several forms; times are relative to the first form.

    - the plain form, without optimisations for speed, if the file of `bench/parts` has one;
    - the update as the config has it;
    - the same with a constant batch and no metrics;
    - if there is a plain form, the update with the unbiased estimate of the CQL penalty's gradient,
      unless the config has that already or has no penalty.
    """
    cfg, phase = setting.cfg, last_phase(setting)
    bare = phase._replace(update=lambda *args: (phase.update(*args)[0], {}))
    own = [updates(CONFIGURED, setting, phase), updates(CONSTANT, setting, bare, constant=True)]
    file = _parts_file(setting)
    if not hasattr(file, "plain"):
        return own
    reference = setting._replace(method=file.plain(cfg, setting.spec))
    made = [updates(PLAIN, reference, last_phase(reference)), *own]
    agent = cfg.agent.conservative
    if agent.cql_gradient == "exact" and agent.penalty != "reward_uncertainty":
        changed = ConfigDict(cfg.to_dict())
        changed.agent.conservative.cql_gradient = "sampled"
        method = make_method(changed, setting.spec)
        sampled = setting._replace(cfg=FrozenConfigDict(changed), method=method)
        made.append(updates(SAMPLED, sampled, last_phase(sampled)))
    return made


def updates(name: str, setting: Setting, phase: Phase, constant: bool = False) -> Case:
    """Updates of the last phase, or of what takes its place, in the chunks of a training run.

    A call runs one chunk and fetches its metrics. With `num_seeds` above 1 the runs of all seeds go
    on together, on the devices of `mesh`, as in training, and a unit is the update of one of them.

    Args:
        name: of the case.
        setting: the method and its data.
        phase: what to run in place of the method's last phase.
        constant: one batch for all updates, sampled beforehand.
    """
    cfg, method, num = setting.cfg, setting.method, setting.cfg.num_seeds
    start = sum(p.num_updates for p in method.phases[:-1])
    first = jnp.int32(start)
    keys = [jax.random.key(cfg.seed + k) for k in range(num)]
    place = placement.make(cfg.mesh, num)
    data = jax.device_put(setting.train)
    if constant:
        data = jax.jit(phase.sample)(data, update_keys(keys[0], first).sample, first)
        phase = phase._replace(sample=lambda batch, key, step: batch)
    key, hp = stack(keys), stack([jax.tree.map(jnp.asarray, method.hp)] * num)
    length = _chunk_length(setting, phase, data)
    run = make_chunk(phase, start, length, cfg.train.validate_every, Counter(), num, place)
    loop = jax.jit(lambda key: chunks.init(method, key))(key)
    loop, key, hp = placement.put((loop, key, hp), place.state)
    arguments = placement.put(data, place.data), key, hp, first, jnp.int32(length)
    program = compiled(run, loop, *arguments)

    def call():
        nonlocal loop
        loop, metrics = program.run(loop, *arguments)
        return loop, jax.device_get(metrics)

    return Case(
        name=name,
        unit="update",
        units=length * num,
        call=call,
        products=products(program.jaxpr),
        compile_seconds=program.seconds,
        xla_flops=program.xla_flops,
        peak_bytes=program.peak_bytes,
        scopes=by_scope(program.jaxpr),
        parameters=sum(
            leaf.size for leaf in jax.tree.leaves(params_of(chunks.abstract(method).state))
        ),
    )


def of_tasks(env: Env, tasks) -> Env:
    """The simulator with the physics of these tasks made already, so that a rollout compiles."""
    physics = env.prepare(tasks)
    return env._replace(prepare=lambda tasks: physics)


def shortened(env: Env, max_steps: int) -> Env:
    """The simulator with episodes of at most so many steps; 0 leaves them as they are."""
    steps = min(max_steps or env.spec.max_episode_steps, env.spec.max_episode_steps)
    return env._replace(spec=env.spec._replace(max_episode_steps=steps))


def rollout_case(
    name: str, env, run: Callable, arguments: tuple, units: int, made: Counter
) -> Case:
    """Env steps, in a simulator of either kind; `made` are the products of one call.

    On the host only the policy is compiled, at the first call, and nothing else is known of it.
    """
    if env.on_host:
        began = time.perf_counter()
        jax.block_until_ready(run(*arguments))
        seconds = time.perf_counter() - began
        return Case(name, "env step", units, lambda: run(*arguments), made, seconds)
    program = compiled(jax.jit(run), *arguments)
    return Case(
        name=name,
        unit="env step",
        units=units,
        call=lambda: program.run(*arguments),
        products=made,
        compile_seconds=program.seconds,
        xla_flops=program.xla_flops,
        peak_bytes=program.peak_bytes,
    )


def _parts_file(setting: Setting) -> ModuleType | None:
    """The file of `bench/parts` of the setting's method, if there is one."""
    path = f"{parts.__name__}.{setting.cfg.method}"
    return importlib.import_module(path) if importlib.util.find_spec(path) else None


def _chunk_length(setting: Setting, phase: Phase, data) -> int:
    """Updates per call: many if they are quick, so that the start of a chunk takes no share."""
    method, key = setting.method, jax.random.key(0)

    def one(data, key, hp):
        state = method.init(key)
        return phase.update(state, phase.sample(data, key, 0), key, hp, 0)

    flops = setting.cfg.num_seeds * matmul_flops(jax.make_jaxpr(one)(data, key, method.hp).jaxpr)
    wanted = _CHUNK_FLOPS if jax.default_backend() == "cpu" else _CHUNK_FLOPS_ACCELERATOR
    return int(np.clip(wanted / max(flops, 1), 1, _MAX_UPDATES))
