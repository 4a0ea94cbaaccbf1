"""The task objective: a weighted sum of task losses, and the opponents that some of them have."""

from typing import Any

import jax

from metastar.errors import UserError
from metastar.ops.optim import gradient_step, make_optimizer
from metastar.types import Array, Batch, Codes, Learner, TaskLoss

WEIGHTS = "task_losses"  # the section of the weights, by name
TaskLosses = dict[str, TaskLoss]  # by name


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
    opt_state = {name: optimizer.init(own) for name, own in params.items()}
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
        hp: traced numbers by section: the weights, and those of each loss's own.
        task_losses: by name.

    Returns:
        Scalar, and metrics: each loss under its name, and its own.
    """
    total, metrics = 0.0, {}
    for name, one in task_losses.items():
        networks = params.get(name, {}) | jax.lax.stop_gradient(opponents.get(name, {}))
        value, own = one.loss(networks, codes, batch, noise[name], hp.get(name, {}))
        total = total + hp[WEIGHTS][name] * value
        metrics |= {name: value, **own}
    return total, metrics


def train_opponents(
    learner: Learner,
    codes: dict[str, Codes],
    batch: Batch,
    key: Array,
    hp: dict[str, Any],
    task_losses: TaskLosses,
) -> tuple[Learner, dict[str, Array]]:
    """Moves every opponent by its `inner_steps` on codes, which are data here.

    Arguments are those of `loss`; the metrics are of the last inner step.
    """
    optimizer, codes = make_optimizer(), jax.lax.stop_gradient(codes)
    params, opt_state, metrics = {}, {}, {}
    for name, opponent in _opponents(task_losses).items():
        step = gradient_step(opponent.loss, optimizer)
        key, key_own = jax.random.split(key)

        def inner(moving, key, opponent=opponent, step=step, lr=hp[name]["lr"]):
            noise = opponent.draw_noise(key, batch)
            *moving, own = step(*moving, lr, codes, batch, noise)
            return tuple(moving), own

        start = learner.params[name], learner.opt_state[name]
        keys = jax.random.split(key_own, opponent.inner_steps)
        (params[name], opt_state[name]), own = jax.lax.scan(inner, start, keys)
        metrics |= jax.tree.map(lambda x: x[-1], own)
    return Learner(params, opt_state=opt_state), metrics


def expect_views(task_losses: TaskLosses, views: tuple[str, ...]) -> None:
    """Raises `UserError` if a loss needs a view that is not drawn."""
    for name, one in task_losses.items():
        if missing := set(one.views) - set(views):
            raise UserError(
                f"task loss {name!r} needs the view {min(missing)!r}, a second window of each "
                "task; set sampler.windows=2"
            )


def _opponents(task_losses: TaskLosses) -> dict[str, Any]:
    return {name: one.opponent for name, one in task_losses.items() if one.opponent is not None}
