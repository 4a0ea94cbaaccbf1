"""Windows and bags of transitions, gathered by index from data that stay on the device.

Both draws go through `TaskData.flat`, the table of a task's valid transitions in time order, so
they are exactly uniform in O(1), also when episodes are ragged.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from metastar.config.fields import COUNT, Field
from metastar.errors import UserError
from metastar.types import Array, TaskData, View

DEFAULTS = {
    "meta_batch": Field(16, "[2, inf)", "M, tasks of an update"),
    "with_replacement": Field(False, "", "whether a task may be drawn twice for an update"),
    "batch_size": Field(256, "[2, inf)", "B, rows per task, real and imagined together"),
}
HELD = {"hold_updates": Field(1, COUNT, "updates that share one list of tasks")}  # of some methods
VIEWS = {  # of methods with task losses
    "windows": Field(
        1, "[1, 2]", 'of a task; 2 adds the "positive" view, a second window of the same'
    ),
    "positive": Field(
        "any",
        ("any", "other_behavior"),
        "where that comes from: any behaviour, or another than the first window's",
        before="any",
    ),
}
READS = ("data",)


def check(cfg) -> None:
    """Raises `UserError` if an update asks for more tasks than there are."""
    tasks = cfg.data.train_tasks - cfg.data.validation_tasks
    if not cfg.with_replacement and cfg.meta_batch > tasks:
        raise UserError(
            f"sampler.meta_batch is {cfg.meta_batch} but only {tasks} training tasks can be drawn "
            "without replacement; lower it or set sampler.with_replacement"
        )


_DRAWS = 16  # of which `sample_other_behavior` takes one


def sample_task_id(data: TaskData, cfg, key: Array) -> Array:
    """Draws the task list [M] of a meta-batch, with or without replacement."""
    return jax.random.choice(
        key, data.count.shape[0], (cfg.meta_batch,), replace=cfg.with_replacement
    )


def sample_windows(data: TaskData, task_id: Array, key: Array, length: int) -> View:
    """Draws one window of `length` consecutive valid transitions for each entry of `task_id`.

    The start is uniform over the task's transitions that leave room for a whole window. A window
    may join the end of one episode to the start of the next, as an agent's own history does;
    `first` marks the episode boundary. A task with fewer than `length` transitions gives all it
    has, and `valid` is False beyond.

    Args:
        data: the data set.
        task_id: int [...], indices of tasks.
        key: PRNG key.
        length: L.

    Returns:
        A `View` with leaves [..., L].
    """
    start = _draw_start(data.count[task_id], task_id.shape, key, length)
    return _window(data, task_id, start, length)


def sample_windows_of_each(
    parts: Sequence[TaskData], num_windows: int, key: Array, length: int
) -> View:
    """Draws windows of every task of several sets, as `sample_windows` does of one set of all.

    Args:
        parts: TaskData of N tasks together; they are not joined, which would copy them.
        num_windows: W of each task.
        key: PRNG key.
        length: L.

    Returns:
        A `View` with leaves [N, W, L].
    """
    counts = jnp.concatenate([part.count for part in parts])[:, None]
    start = _draw_start(counts, (len(counts), num_windows), key, length)
    views, first = [], 0
    for part in parts:
        num = len(part.count)
        task_id = jnp.broadcast_to(jnp.arange(num)[:, None], (num, num_windows))
        views.append(_window(part, task_id, start[first : first + num], length))
        first += num
    return jax.tree.map(lambda *x: jnp.concatenate(x), *views)


def sample_other_behavior(
    data: TaskData, task_id: Array, key: Array, length: int, policy: Array, stage: Array
) -> View:
    """Draws a window as `sample_windows` does, given that its behaviour is another one.

    Of 16 independent draws it takes the first whose last step has a (policy, stage) other than the
    given ones [...], and the last draw where none has: always so in a task of one behaviour, and
    by chance with probability q^16 in a task in which the given behaviour has a share q of the
    data.
    """
    keys, count = jax.random.split(key, _DRAWS), data.count[task_id]
    draw = jax.vmap(lambda key: _draw_start(count, task_id.shape, key, length))
    starts = draw(keys)  # [draws, ...]
    tasks, policy, stage = (jnp.broadcast_to(x, starts.shape) for x in (task_id, policy, stage))
    last = starts + jnp.minimum(length, data.count[tasks]) - 1
    episode = data.flat[tasks, last] // data.reward.shape[-1]
    other = (data.policy[tasks, episode] != policy) | (data.stage[tasks, episode] != stage)
    first = jnp.argmax(other.at[-1].set(True), axis=0)
    start = jnp.take_along_axis(starts, first[None], axis=0)[0]
    return _window(data, task_id, start, length)


def sample_contexts(
    data: TaskData,
    task_id: Array,
    key: Array,
    length: int,
    names: Sequence[str] = ("context",),
    positive: str = "any",
) -> dict[str, View]:
    """Draws the context views of a meta-batch: a window of each task, or two.

    Args:
        data: the data set.
        task_id: [M].
        key: PRNG key.
        length: L.
        names: "context", and "positive" for a second, independent window of the same task.
        positive: "any", or "other_behavior" for one of another source than the first window's.

    Returns:
        Views [M, L] by name.
    """
    key_context, key_positive = jax.random.split(key)
    views = {"context": sample_windows(data, task_id, key_context, length)}
    if "positive" in names:
        sample, own = sample_windows, {}
        if positive == "other_behavior":
            sample = sample_other_behavior
            own = {"policy": views["context"].policy, "stage": views["context"].stage}
        views["positive"] = sample(data, task_id, key_positive, length, **own)
    return views


def sample_transitions(data: TaskData, task_id: Array, key: Array, num: int) -> View:
    """Draws `num` transitions, uniform with replacement, for each entry of `task_id` [...].

    Returns a `View` with leaves [..., num], all valid; a task must have at least one transition.
    """
    shape = (*task_id.shape, num)
    position = jax.random.randint(key, shape, 0, data.count[task_id][..., None])
    return _gather(data, task_id, position, jnp.ones(shape, bool))


def _draw_start(count: Array, shape: tuple[int, ...], key: Array, length: int) -> Array:
    """Draws starts of windows in tasks of so many transitions."""
    return jax.random.randint(key, shape, 0, jnp.maximum(count - length, 0) + 1)


def _window(data: TaskData, task_id: Array, start: Array, length: int) -> View:
    offset = jax.lax.broadcasted_iota(start.dtype, (*start.shape, length), start.ndim)
    position = start[..., None] + offset
    valid = position < data.count[task_id][..., None]
    return _gather(data, task_id, jnp.where(valid, position, 0), valid)


def _gather(data: TaskData, task_id: Array, position: Array, valid: Array) -> View:
    """Looks up entries `position` [..., L] of the flat tables of `task_id` [...]."""
    num_steps = data.reward.shape[-1]
    task = jnp.broadcast_to(task_id[..., None], position.shape)
    flat = data.flat[task, position]
    episode, step = flat // num_steps, flat % num_steps
    first = step == 0
    prev_reward = data.reward[task, episode, jnp.maximum(step - 1, 0)]
    last = jnp.maximum(valid.sum(-1, keepdims=True) - 1, 0)
    last_episode = jnp.take_along_axis(episode, last, -1)[..., 0]
    return View(
        obs=data.obs[task, episode, step],
        action=data.action[task, episode, step],
        reward=data.reward[task, episode, step],
        prev_reward=jnp.where(first, 0, prev_reward),
        next_obs=data.obs[task, episode, step + 1],
        done=data.done[task, episode, step],
        valid=valid,
        first=first,
        policy=data.policy[task_id, last_episode],
        stage=data.stage[task_id, last_episode],
    )
