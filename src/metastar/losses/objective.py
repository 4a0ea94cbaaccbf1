"""The task objective: a weighted sum of task losses, and the opponents that some of them have."""

from typing import Any

import jax
import jax.numpy as jnp

from metastar.config import schema
from metastar.config.fields import NOT_NEGATIVE, Field, Open
from metastar.errors import UserError
from metastar.losses.sources import expect_sources
from metastar.ops.optim import gradient_step, make_optimizer
from metastar.types import Array, Batch, Codes, DataSpec, Learner, TaskLoss

WEIGHTS = "task_losses"  # the section of the weights, by name
WEIGHTED = Open(  # that section, as a method mounts it
    "task loss", Field(0.0, NOT_NEGATIVE, "weight of a task loss", swept=True, switch=True)
)
TaskLosses = dict[str, TaskLoss]  # by name


def expect_any(cfg: Any, method: str) -> None:
    """Raises `UserError` if no task loss has a weight above 0."""
    if not any(cfg[WEIGHTS].values()):
        raise UserError(
            f"every weight of task_losses is 0 but method {method!r} learns its task code from "
            "them; set at least one above 0"
        )


def context_views(cfg: Any, spec: DataSpec) -> tuple[str, ...]:
    """Names of the context views that a method draws: "context", and "positive" if there are two.

    Args:
        cfg: the section `sampler`, with `sampler.VIEWS`.
        spec: of the data.

    Raises:
        UserError: the positive is of another source, where the data have one.
    """
    views = ("context", "positive")[: cfg.windows]
    if "positive" in views and cfg.positive == "other_behavior":
        expect_sources(spec, "sampler.positive='other_behavior'")
    return views


def make(
    cfg: Any, spec: DataSpec, code_dim: int, views: tuple[str, ...], ordered: bool = True
) -> TaskLosses:
    """The task losses of a config that have a weight above 0, by name.

    Args:
        cfg: of the method, with the section of the weights and those of the task losses.
        spec: of the data.
        code_dim: Z.
        views: names of the context views that the method draws.
        ordered: whether they are windows, not bags.

    Raises:
        UserError: a loss needs a view that is not drawn, two sources where the data have one, or
            the source of a bag.
    """
    task_losses = {
        name: schema.make(cfg, "task loss", name, spec, code_dim)
        for name, weight in cfg[WEIGHTS].items()
        if weight > 0
    }
    expect_views(task_losses, views)
    if mixed := [name for name, one in task_losses.items() if one.by_source and not ordered]:
        raise UserError(
            f"task loss {mixed[0]!r} compares the sources of contexts, but a bag mixes those of "
            "its task; set the encoder's `context` to 'window'"
        )
    return task_losses


def init(key: Array, task_losses: TaskLosses) -> dict[str, Any]:
    """Draws the parameters of the losses that have networks of their own, by name."""
    keys = jax.random.split(key, len(task_losses))
    drawn = {name: one.init(k) for k, (name, one) in zip(keys, task_losses.items())}
    return {name: params for name, params in drawn.items() if params}


def init_opponents(key: Array, task_losses: TaskLosses) -> Learner | None:
    """Draws the opponents, by the names of their losses; None if there are none."""
    optimizer, found = make_optimizer(), _opponents(task_losses)
    keys = jax.random.split(key, len(task_losses))
    params = {name: found[name].init(k) for k, name in zip(keys, task_losses) if name in found}
    opt_state = {}
    for name, own in params.items():
        turns = found[name].turns
        apart = {net: optimizer.init(own[net]) for net in turns}
        opt_state[name] = apart if turns else optimizer.init(own)
    return Learner(params, opt_state=opt_state) if params else None


def draw_noise(key: Array, batch: Batch, task_losses: TaskLosses) -> dict[str, Any]:
    """Draws what the losses need for one batch, by name; None for a loss that draws nothing."""
    keys = jax.random.split(key, len(task_losses))
    return {name: one.draw_noise(k, batch) for k, (name, one) in zip(keys, task_losses.items())}


def loss(
    params: dict[str, Any],
    opponents: dict[str, Any],
    codes: dict[str, Codes],
    batch: Batch,
    noise: dict[str, Any],
    hp: dict[str, Any],
    task_losses: TaskLosses,
) -> tuple[Array, dict[str, Array]]:
    """`sum_n w_n L_n` over the task losses, `w_n = hp["task_losses"][n]`.

    Args:
        params: of `init`.
        opponents: parameters of the opponents, by name; they get no gradient.
        codes: by view.
        batch: with the views that the losses ask for.
        noise: of `draw_noise`.
        hp: traced numbers by section: the weights, and the section of each loss.
        task_losses: by name.

    Returns:
        Scalar, and metrics: each loss under its name, and each loss's own metrics.
    """
    total, metrics = 0.0, {}
    for name, one in task_losses.items():
        networks = params.get(name, {}) | jax.lax.stop_gradient(opponents.get(name, {}))
        value, own = one.loss(networks, codes, batch, noise[name], hp.get(name, {}))
        total = total + hp[WEIGHTS][name] * value
        metrics |= {name: value, **own}
    return total, metrics


def gradients(
    params: dict[str, Any],
    opponents: dict[str, Any],
    codes: dict[str, Codes],
    batch: Batch,
    key: Array,
    hp: dict[str, Any],
    task_losses: TaskLosses,
) -> tuple[dict[str, Any], dict[str, Codes], dict[str, Array]]:
    """Gradients of `loss` in the parameters and in the codes, and its metrics.

    They are zero where there are no task losses. Arguments are those of `loss`, and a key for what
    the losses draw.
    """
    if not task_losses:
        return params, jax.tree.map(jnp.zeros_like, codes), {}
    noise = draw_noise(key, batch, task_losses)
    (of_params, of_codes), metrics = jax.grad(loss, (0, 2), has_aux=True)(
        params, opponents, codes, batch, noise, hp, task_losses
    )
    return of_params, of_codes, metrics


def train_opponents(
    learner: Learner,
    codes: dict[str, Codes],
    batch: Batch,
    key: Array,
    hp: dict[str, Any],
    task_losses: TaskLosses,
) -> tuple[Learner, dict[str, Array]]:
    """Trains every opponent by its `inner_steps` on codes, which get no gradient.

    Arguments are those of `loss`; the metrics are of the last inner step.
    """
    optimizer, codes = make_optimizer(), jax.lax.stop_gradient(codes)
    params, opt_state, metrics = {}, {}, {}
    for name, opponent in _opponents(task_losses).items():
        key, key_own = jax.random.split(key)

        def inner(moving, key, opponent=opponent, lr=hp[name]["lr"]):
            noise = opponent.draw_noise(key, batch)
            return _opponent_step(opponent, optimizer, *moving, lr, codes, batch, noise)

        start = learner.params[name], learner.opt_state[name]
        keys = jax.random.split(key_own, opponent.inner_steps)
        (params[name], opt_state[name]), own = jax.lax.scan(inner, start, keys)
        metrics |= jax.tree.map(lambda x: x[-1], own)
    return Learner(params, opt_state=opt_state), metrics


def _opponent_step(opponent, optimizer, params, opt_state, lr, *inputs):
    """One step of all networks of an opponent: (parameters, optimiser's state), metrics."""
    if not opponent.turns:
        *moving, own = gradient_step(opponent.loss, optimizer)(params, opt_state, lr, *inputs)
        return tuple(moving), own
    params, opt_state, metrics = {**params}, {**opt_state}, {}
    for net in opponent.turns:

        def loss(own, others, *inputs, net=net):
            return opponent.loss({**others, net: own}, *inputs)

        step = gradient_step(loss, optimizer)
        params[net], opt_state[net], own = step(params[net], opt_state[net], lr, params, *inputs)
        metrics |= own
    return (params, opt_state), metrics


def expect_views(task_losses: TaskLosses, views: tuple[str, ...]) -> None:
    """Raises `UserError` if a loss needs a view that is not drawn."""
    for name, one in task_losses.items():
        for view in one.views:
            if view == "positive" and view not in views:
                raise UserError(
                    f"task loss {name!r} needs the view 'positive', a second window of each task; "
                    "set sampler.windows=2"
                )
            if view not in views:
                drawn = " and ".join(map(repr, views))
                raise UserError(
                    f"task loss {name!r} needs the view {view!r}, which is not drawn: there are "
                    f"codes of {drawn}; let its `views` name no others"
                )


def _opponents(task_losses: TaskLosses) -> dict[str, Any]:
    return {name: one.opponent for name, one in task_losses.items() if one.opponent is not None}
