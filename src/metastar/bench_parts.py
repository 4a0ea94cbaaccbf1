"""What `metastar bench` times: each part of a run as a function without arguments."""

import time
from collections import Counter
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from metastar.bench_data import Setting
from metastar.chunk import init_state, make_chunk, update_keys
from metastar.envs.make import make_env
from metastar.envs.rollout import make_rollout, no_adaptation, uniform_policy
from metastar.errors import UserError, did_you_mean
from metastar.roofline import matmul_flops, products
from metastar.timing import compiled
from metastar.types import Phase

CONFIGURED, CONSTANT = "as configured", "constant batch"  # forms of an update

_MAX_UPDATES = 50  # in a chunk
# FLOP of a chunk's matrix products, about: a fifth of a second on a CPU and on an accelerator.
_CHUNK_FLOPS, _CHUNK_FLOPS_ACCELERATOR = 1e10, 2e12


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


def last_phase(setting: Setting) -> Phase:
    """The phase of a method that most of its time goes to."""
    return setting.method.phases[-1]


def part_phase(setting: Setting, name: str) -> Phase:
    """The last phase with nothing in its update but one term; raises `UserError` if it has none."""
    parts, method = setting.method.parts, setting.cfg.method
    if name not in parts:
        known = f"; its parts are {', '.join(sorted(parts))}" if parts else ""
        raise UserError(f"method {method!r} has no part {name!r} to time alone{known}")
    return last_phase(setting)._replace(update=parts[name])


def updates(
    name: str, setting: Setting, phase: Phase, constant: bool = False, num_seeds: int | None = None
) -> Case:
    """Updates of the last phase, or of what takes its place, in the chunks of a training run.

    A call runs one chunk and fetches its metrics.

    Args:
        name: of the case.
        setting: the method and its data.
        phase: what to run in place of the method's last phase.
        constant: one batch for all updates, sampled beforehand.
        num_seeds: None for one run; S for S of them, vmapped over state and key and sharing the
            data. A unit is then the update of one of them.
    """
    cfg, method = setting.cfg, setting.method
    start = sum(p.num_updates for p in method.phases[:-1])
    key = jax.random.key(cfg.seed)
    data = jax.device_put(setting.train)
    if constant:
        data = jax.jit(phase.sample)(data, update_keys(key, jnp.int32(start)).sample, start)
        phase = phase._replace(sample=lambda batch, key, step: batch)
    if num_seeds is not None:
        key = jax.random.split(key, num_seeds)
    hp = jax.tree.map(jnp.asarray, method.hp)

    @jax.jit
    def new_state(key):
        def one(key):
            return init_state(method, key)._replace(step=jnp.int32(start))

        return one(key) if num_seeds is None else jax.vmap(one)(key)

    length = _chunk_length(phase, jax.eval_shape(new_state, key), data, key, hp)
    run = make_chunk(phase, start, length, cfg.train.validate_every, Counter())
    if num_seeds is not None:
        over_seeds = jax.vmap(run, in_axes=(0, None, 0, None, None, None))
        run = jax.jit(over_seeds, donate_argnums=0)
    state = new_state(key)
    arguments = data, key, hp, jnp.int32(start), jnp.int32(length)
    program = compiled(run, state, *arguments)

    def call():
        nonlocal state
        state, metrics = program.run(state, *arguments)
        return state, jax.device_get(metrics)

    return Case(
        name=name,
        unit="update",
        units=length * (num_seeds or 1),
        call=call,
        products=products(program.jaxpr),
        compile_seconds=program.seconds,
        xla_flops=program.xla_flops,
        peak_bytes=program.peak_bytes,
    )


def env_steps(name: str, setting: Setting) -> Case:
    """An episode under uniform actions in `eval.windows` streams of every task, all in parallel."""
    cfg = setting.cfg
    env = make_env(cfg)
    run = make_rollout(env, uniform_policy(env.spec.action_dim), 1)
    streams = setting.all.count.shape[0], cfg.eval.windows
    arguments = (), no_adaptation(*streams), setting.all.task, jax.random.key(cfg.seed)
    units = streams[0] * streams[1] * env.spec.max_episode_steps
    return rollout_case(name, env, run, arguments, units, Counter())


def rollout_case(name: str, env, run: Callable, arguments: tuple, units: int, made: Counter) -> Case:
    """Env steps, in a simulator of either kind; `made` are the products of one call.

    On the host only the policy is compiled, at the first call, which is all that is known of it.
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


def _chunk_length(phase: Phase, state, data, key, hp) -> int:
    """Updates of a call: many where they are quick, so that starting a chunk does not count."""
    step = jnp.int32(0)

    def one(state, data, key, hp):
        return phase.update(state, phase.sample(data, key, step), key, hp)

    if key.ndim:
        one = jax.vmap(one, in_axes=(0, None, 0, None))
    flops = matmul_flops(jax.make_jaxpr(one)(state, data, key, hp).jaxpr)
    wanted = _CHUNK_FLOPS if jax.default_backend() == "cpu" else _CHUNK_FLOPS_ACCELERATOR
    return int(np.clip(wanted / max(flops, 1), 1, _MAX_UPDATES))
