"""A chunk of updates as one jitted scan.

Every key is a function of the run's key and the step, so the numbers of a run depend neither on
the chunk's size nor on where the run was interrupted.

One state is of one run, or of S runs that go on together: state, run key and `hp` then have a
leading axis [S], which data and steps have not. Conditions are on steps, which all runs share.
"""

from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from metastar.types import Array, Batch, Method, Phase, TrainState


class UpdateKeys(NamedTuple):
    """The keys of one update."""

    sample: Array
    update: Array
    validate: Array


def update_keys(run_key: Array, step: Array) -> UpdateKeys:
    """Returns the keys of update `step`; that of sampling is the same at every step.

    `Phase.sample` folds the step in itself, so that a draw may serve several updates.
    """
    sample, update, validate = jax.random.split(run_key, 3)
    return UpdateKeys(sample, jax.random.fold_in(update, step), jax.random.fold_in(validate, step))


def init_state(method: Method, key: Array) -> TrainState:
    """Returns the method's first state with what the trainer keeps in `extra`, in fresh buffers.

    `extra["bad_step"]` is -1, or the update whose numbers were not finite. `extra["best"]` (only if
    a phase validates) holds the lowest validation loss of the phase and the parameters it is of.
    Keys [S] give the states of S runs, leaves [S, ...].
    """
    if key.ndim:
        return jax.vmap(partial(init_state, method))(key)
    state = method.init(key)
    extra = {**state.extra, "bad_step": jnp.full_like(state.step, -1)}
    if any(phase.validate for phase in method.phases):
        extra["best"] = {"loss": jnp.full((), jnp.inf), "params": state.params}
    return fresh(state._replace(extra=extra))


def abstract_state(method: Method) -> TrainState:
    """Shapes and types of one run's `init_state`, as a checkpoint is restored against."""
    return jax.eval_shape(lambda: init_state(method, jax.random.key(0)))


def fresh(tree: Any) -> Any:
    """Copies every leaf, so that no two share a buffer and all can be donated."""
    return jax.tree.map(lambda x: jnp.array(x, x.dtype, copy=True), tree)


def make_chunk(
    phase: Phase, start: int, length: int, validate_every: int, traces: Counter
) -> Callable:
    """Returns jitted `(state, data, run_key, hp, first, num) -> (state, metrics)`.

    It runs the updates `first`, ..., `first + num - 1` of a phase as a scan over `length` >= `num`
    steps of which the last are skipped, so that a shorter chunk is no new trace. `state` is
    donated. Metrics have leaves [length], or [length, S]; entries from `num` on are zero.

    An update that gives a metric or a parameter that is not finite is undone, `extra["bad_step"]`
    records it, and all later ones leave the state of that run as it is.

    Args:
        phase: what to do.
        start: the step at which the phase begins.
        length: updates per call at most.
        validate_every: updates between two validations; the last update of a phase has one too.
        traces: `traces[phase.name]` counts how often the update was traced.
    """

    def advance(state, data, run_key, hp, step):
        traces[phase.name] += 1
        keys = update_keys(run_key, step)
        batch = phase.sample(data, keys.sample, step)
        new, metrics = phase.update(state, batch, keys.update, hp)
        good = all_finite(metrics) & all_finite(new.params)
        alive = state.extra["bad_step"] < 0
        kept = {name: state.extra[name] for name in ("bad_step", "best") if name in state.extra}
        new = new._replace(step=step + 1, extra={**new.extra, **kept})
        new = jax.tree.map(lambda n, o: jnp.where(alive & good, n, o), new, state)
        bad_step = jnp.where(alive & ~good, step, state.extra["bad_step"])
        return new._replace(extra={**new.extra, "bad_step": bad_step}), metrics

    def validate(state, data, run_key, hp, step):
        return _validated(phase, state, data, update_keys(run_key, step).validate, hp, step)

    @jax.jit  # traced once, although both the shapes and the branch below ask for it
    def one(state, data, run_key, hp, step):
        new, metrics = _over_runs(advance, state)(state, data, run_key, hp, step)
        if phase.validate is not None:
            done = step + 1 - start
            due = (done % validate_every == 0) | (done == phase.num_updates)
            new = jax.lax.cond(
                due,
                lambda s: _over_runs(validate, s)(s, data, run_key, hp, step),
                lambda s: s,
                new,
            )
        return new, metrics

    def chunk(state, data, run_key, hp, first, num):
        _, shapes = jax.eval_shape(one, state, data, run_key, hp, first)
        nothing = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)

        def masked(state, offset):
            return jax.lax.cond(
                offset < num,
                lambda s: one(s, data, run_key, hp, first + offset),
                lambda s: (s, nothing),
                state,
            )

        return jax.lax.scan(masked, state, jnp.arange(length, dtype=first.dtype))

    return jax.jit(chunk, donate_argnums=0)


def _over_runs(f: Callable, state: TrainState) -> Callable:
    """`f(state, data, run_key, hp, step)` of one run, as the function of what `state` holds."""
    return jax.vmap(f, in_axes=(0, None, 0, 0, None)) if state.step.ndim else f


def all_finite(tree: Any) -> Array:
    """Whether every number of a pytree is finite."""
    leaves = [jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(tree)]
    return jnp.stack(leaves).all() if leaves else jnp.ones((), bool)


def _validated(
    phase: Phase, state: TrainState, data: Any, key: Array, hp: Any, step: Array
) -> TrainState:
    """Keeps the parameters in `extra["best"]` if their validation loss is the lowest so far."""
    key_sample, key_loss = jax.random.split(key)
    loss = phase.validate(state, phase.sample(data, key_sample, step), key_loss, hp)
    best = state.extra["best"]
    better = loss < best["loss"]  # False for NaN
    pairs = {"loss": loss.astype(best["loss"].dtype), "params": state.params}
    best = jax.tree.map(lambda new, old: jnp.where(better, new, old), pairs, best)
    return state._replace(extra={**state.extra, "best": best})


def end_phase(state: TrainState) -> TrainState:
    """Continues from the best parameters of the phase, if it had a validation, and forgets them."""
    if "best" not in state.extra:
        return state
    return (jax.vmap(_take_best) if state.step.ndim else _take_best)(state)


@jax.jit
def _take_best(state: TrainState) -> TrainState:
    best = state.extra["best"]
    found = jnp.isfinite(best["loss"]) & (state.extra["bad_step"] < 0)
    params = jax.tree.map(lambda b, p: jnp.where(found, b, p), best["params"], state.params)
    best = {"loss": jnp.full_like(best["loss"], jnp.inf), "params": fresh(params)}
    return state._replace(params=params, extra={**state.extra, "best": best})


def replay(phase: Phase, state: TrainState, data: Any, run_key: Array, hp: Any, step: int):
    """Rebuilds update `step` of one run outside the scan; returns its (Batch, new parameters)."""

    @jax.jit
    def again(state, data, run_key, hp, step) -> tuple[Batch, Any]:
        keys = update_keys(run_key, step)
        batch = phase.sample(data, keys.sample, step)
        return batch, phase.update(state, batch, keys.update, hp)[0].params

    return again(state, data, run_key, hp, jnp.asarray(step, state.step.dtype))
