"""A chunk of updates as one jitted scan.

Every key is a function of the run's key and the step, so the numbers of a run depend neither on
the chunk's size nor on where the run was interrupted.

A program trains one run, or S runs together: the loop's state, the run key and `hp` then have a
leading axis [S], data and steps do not. Conditions are on steps, which all runs share, so that they
stay branches under `vmap`.
"""

from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from metastar.training import placement
from metastar.training.placement import Placement
from metastar.types import Array, Batch, Method, Phase, TrainState


class LoopState(NamedTuple):
    """What the loop carries from update to update, and what a checkpoint holds."""

    state: TrainState  # the method's
    bad_step: Array  # [] int: -1, or the update whose numbers were not finite
    # {"loss": [], "params": {part: ...}} at the lowest validation loss of the phase so far; () if
    # no phase of the method validates
    best: Any


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


def init(method: Method, key: Array) -> LoopState:
    """Returns the loop's first state, in fresh buffers.

    Keys [S] give the states of S runs, leaves [S, ...].
    """
    if key.ndim:
        return jax.vmap(partial(init, method))(key)
    state = method.init(key)
    validates = any(phase.validate for phase in method.phases)
    best = {"loss": jnp.full((), jnp.inf), "params": params_of(state)} if validates else ()
    return fresh(LoopState(state, jnp.full((), -1, jnp.int32), best))


def abstract(method: Method) -> LoopState:
    """Shapes and types of one run's `init`, which a checkpoint must have."""
    return jax.eval_shape(lambda: init(method, jax.random.key(0)))


def params_of(state: TrainState) -> dict[str, Any]:
    """The parameters that gradients train, by part."""
    return {part: learner.params for part, learner in state.items()}


def fresh(tree: Any) -> Any:
    """Copies every leaf, so that no two share a buffer and all can be donated."""
    return jax.tree.map(lambda x: jnp.array(x, x.dtype, copy=True), tree)


def make_chunk(
    phase: Phase,
    start: int,
    length: int,
    validate_every: int,
    traces: Counter,
    num_runs: int = 1,
    place: Placement = placement.ONE,
) -> Callable:
    """Returns jitted `(loop, data, run_key, hp, first, num) -> (loop, metrics)`.

    It runs the updates `first`, ..., `first + num - 1` of a phase as a scan over `length` >= `num`
    steps of which the last are skipped, so that a shorter chunk is no new trace. `loop` is
    donated. Metrics have leaves [length], or [length, S]; entries from `num` on are zero.

    An update that gives a metric or a parameter that is not finite is undone, `bad_step` records
    it, and all later ones leave that run as it is.

    Args:
        phase: the phase.
        start: the step, over all phases, at which it begins.
        length: updates per call at most.
        validate_every: updates between two validations; the last update of a phase has one too.
        traces: `traces[phase.name]` counts how often the update was traced.
        num_runs: S; a lone run has no axis.
        place: the devices.
    """

    def advance(loop, data, run_key, hp, step):
        traces[phase.name] += 1
        keys = update_keys(run_key, step)
        batch = placement.spread(phase.sample(data, keys.sample, step), place)
        new, metrics = phase.update(loop.state, batch, keys.update, hp, step - start)
        good = all_finite(metrics) & all_finite(params_of(new))
        alive = loop.bad_step < 0
        new = jax.tree.map(lambda n, o: jnp.where(alive & good, n, o), new, loop.state)
        bad_step = jnp.where(alive & ~good, step, loop.bad_step)
        return loop._replace(state=new, bad_step=bad_step), metrics

    def validate(loop, data, run_key, hp, step):
        keys = update_keys(run_key, step)
        return _validated(phase, loop, data, keys.validate, hp, step, place)

    def over_runs(f):
        """`f` of one run, vmapped over the runs of the program."""
        return f if num_runs == 1 else jax.vmap(f, in_axes=(0, None, 0, 0, None))

    @jax.jit  # traced once, although both the shapes and the branch below ask for it
    def one(loop, data, run_key, hp, step):
        new, metrics = over_runs(advance)(loop, data, run_key, hp, step)
        if phase.validate is not None:
            done = step + 1 - start
            due = (done % validate_every == 0) | (done == phase.num_updates)
            new = jax.lax.cond(
                due,
                lambda new: over_runs(validate)(new, data, run_key, hp, step),
                lambda new: new,
                new,
            )
        return new, metrics

    def chunk(loop, data, run_key, hp, first, num):
        _, shapes = jax.eval_shape(one, loop, data, run_key, hp, first)
        nothing = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)

        def masked(loop, offset):
            return jax.lax.cond(
                offset < num,
                lambda loop: one(loop, data, run_key, hp, first + offset),
                lambda loop: (loop, nothing),
                loop,
            )

        return jax.lax.scan(masked, loop, jnp.arange(length, dtype=first.dtype))

    return placement.jit(chunk, place, num_runs)


def all_finite(tree: Any) -> Array:
    """Whether every number of a pytree is finite."""
    leaves = [jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(tree)]
    return jnp.stack(leaves).all() if leaves else jnp.ones((), bool)


def _validated(
    phase: Phase, loop: LoopState, data: Any, key: Array, hp: Any, step: Array, place: Placement
) -> LoopState:
    """Keeps the parameters as the best ones if their validation loss is the lowest so far."""
    key_sample, key_loss = jax.random.split(key)
    batch = placement.spread(phase.sample(data, key_sample, step), place)
    loss = phase.validate(loop.state, batch, key_loss, hp)
    better = loss < loop.best["loss"]  # False for NaN
    pairs = {"loss": loss.astype(loop.best["loss"].dtype), "params": params_of(loop.state)}
    best = jax.tree.map(lambda new, old: jnp.where(better, new, old), pairs, loop.best)
    return loop._replace(best=best)


def end_phase(loop: LoopState, num_runs: int = 1) -> LoopState:
    """Continues from the best parameters of the phase, if it had a validation, and forgets them."""
    if not loop.best:
        return loop
    return (_take_best if num_runs == 1 else jax.vmap(_take_best))(loop)


@jax.jit
def _take_best(loop: LoopState) -> LoopState:
    best, params = loop.best, params_of(loop.state)
    found = jnp.isfinite(best["loss"]) & (loop.bad_step < 0)
    params = jax.tree.map(lambda b, p: jnp.where(found, b, p), best["params"], params)
    state = {part: own._replace(params=params[part]) for part, own in loop.state.items()}
    best = {"loss": jnp.full_like(best["loss"], jnp.inf), "params": fresh(params)}
    return loop._replace(state=state, best=best)


def replay(
    phase: Phase, start: int, state: TrainState, data: Any, run_key: Array, hp: Any, step: int
) -> tuple[Batch, dict[str, Any]]:
    """Rebuilds update `step` of one run outside the scan: its batch and its new parameters.

    `phase` begins at `start`, and `state` is the run's from before that update.
    """

    @jax.jit
    def again(state, data, run_key, hp, step):
        keys = update_keys(run_key, step)
        batch = phase.sample(data, keys.sample, step)
        return batch, params_of(phase.update(state, batch, keys.update, hp, step - start)[0])

    return again(state, data, run_key, hp, jnp.int32(step))
