"""Contexts of the form that a method asks for: C windows, or bags, of L transitions of a task."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from metastar.data.sampler import (
    sample_contexts,
    sample_transitions,
    sample_windows,
    sample_windows_of_each,
)
from metastar.errors import UserError
from metastar.types import Array, Context, TaskData, View


def draw(data: TaskData, task_id: Array, context: Context, key: Array) -> View:
    """Draws one context for each entry of `task_id` int [...]; leaves [..., C, L].

    Windows are drawn as by `sample_windows`, independently of each other; bags are uniform with
    replacement. Without any transition of the task nothing is valid.
    """
    task_id = jnp.broadcast_to(task_id[..., None], (*task_id.shape, context.num))
    if context.ordered:
        return sample_windows(data, task_id, key, context.length)
    view = sample_transitions(data, task_id, key, context.length)
    return view._replace(valid=view.valid & (data.count[task_id] > 0)[..., None])


def draw_views(
    data: TaskData,
    task_id: Array,
    key: Array,
    context: Context,
    names: Sequence[str],
    positive: str = "any",
) -> dict[str, View]:
    """Draws the context views of a meta-batch, independent bags or windows of each task.

    Args:
        data: the data set.
        task_id: [M].
        key: PRNG key.
        context: form of each view, a single window or bag (`num` = 1).
        names, positive: of the views, as for `sample_contexts`.

    Returns:
        Views [M, L] by name, of which only the first may be valid (`shortened`).

    Raises:
        UserError: windows are longer than the data of any task.
    """
    keys = jax.random.split(key, len(names))
    if not context.ordered:
        views = {
            name: sample_transitions(data, task_id, own, context.length)
            for name, own in zip(names, keys)
        }
        return shortened(views, context, key)
    most = data.reward[0].size
    if context.length > most:
        raise UserError(
            f"the encoder's context_len is {context.length}, but no task of the data has more "
            f"than {most} transitions; lower it"
        )
    views = sample_contexts(data, task_id, key, context.length, names, positive)
    return shortened(views, context, key)


def shortened(views: dict[str, View], context: Context, key: Array) -> dict[str, View]:
    """Keeps a uniform number of the transitions of each of the views [M, L], the first ones.

    It is at least `context.shortest`; without that, all are kept.
    """
    if not context.shortest:
        return views
    place = jnp.arange(context.length)

    def shorten(view, key):
        shape = (*view.valid.shape[:-1], 1)
        num = jax.random.randint(key, shape, context.shortest, context.length + 1)
        return view._replace(valid=view.valid & (place[None] < num))

    keys = jax.random.split(jax.random.fold_in(key, len(views)), len(views))
    return {name: shorten(view, own) for (name, view), own in zip(views.items(), keys)}


def draw_of_each(parts: Sequence[TaskData], num: int, context: Context, key: Array) -> View:
    """Draws `num` = W contexts of every task of several sets of N together: [N, W, C, L]."""
    if context.ordered:
        view = sample_windows_of_each(parts, num * context.num, key, context.length)
        return jax.tree.map(lambda x: x.reshape(-1, num, context.num, *x.shape[2:]), view)
    views = []
    for part, key_part in zip(parts, jax.random.split(key, len(parts))):
        task_id = jnp.broadcast_to(jnp.arange(len(part.count))[:, None], (len(part.count), num))
        views.append(draw(part, task_id, context, key_part))
    return jax.tree.map(lambda *x: jnp.concatenate(x), *views)


def steps_of(context: Context) -> int:
    """How many transitions a context has."""
    return context.num * context.length


def folded(view: View, context: Context) -> View:
    """A `View` [C * L] as a context [C, L], the oldest steps in its first window."""
    shape = context.num, context.length

    def fold(x):
        return x.reshape(*shape, *x.shape[1:]) if x.ndim else jnp.broadcast_to(x, shape[:1])

    return jax.tree.map(fold, view)


def check(context: Context, counts: Sequence[int], who: str) -> None:
    """Raises `UserError` unless every task can fill a context of the method `who`.

    Args:
        context: what the method asks for.
        counts: how many transitions each task has.
        who: for the sentence.
    """
    fewest = int(np.min(counts))
    if min(context.length, context.num) < 1:
        raise UserError(
            f"method {who!r} asks for contexts of {context.num} windows of {context.length} steps; "
            "both must be at least 1"
        )
    least = context.length if context.ordered else 1
    if fewest < least:
        raise UserError(
            f"method {who!r} asks for windows of {context.length} steps but a task of the data set "
            f"has only {fewest}; lower its context length, or use more data of each task"
        )
