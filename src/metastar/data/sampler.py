"""Windows, bags and sequences of transitions, gathered by index from data that stay on the device.

A `draw_*` chooses transitions, `gather` looks them up, a `sample_*` does both. Windows and bags go
through `TaskData.index`, the table of the transitions that may be drawn, so they are exactly
uniform in O(1), also when episodes are ragged. `returns_to_go` makes a table beside the data, which
`look_up` reads at the same `Index`.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from metastar.config.fields import COUNT, Field
from metastar.errors import UserError
from metastar.types import Array, Index, TaskData, View

DEFAULTS = {
    "meta_batch": Field(16, "[2, inf)", "M, tasks of an update"),
    "with_replacement": Field(False, "", "whether a task may be drawn twice for an update"),
    "batch_size": Field(256, "[2, inf)", "B, rows per task, real and imagined together"),
}
# For methods that may use one list of tasks for several updates.
HELD = {"hold_updates": Field(1, COUNT, "updates that share one list of tasks")}
VIEWS = {  # for methods with task losses
    "windows": Field(
        1, "[1, 2]", 'windows of a task; 2 adds the view "positive", a second window of the task'
    ),
    "positive": Field(
        "any",
        ("any", "other_behavior"),
        "source of the positive window: any, or another than the first window's",
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


_DRAWS = 16  # windows that `draw_other_behavior` tries


def sample_task_id(data: TaskData, cfg, key: Array) -> Array:
    """Draws the task list [M] of a meta-batch, with or without replacement."""
    return jax.random.choice(
        key, data.count.shape[0], (cfg.meta_batch,), replace=cfg.with_replacement
    )


def draw_windows(data: TaskData, task_id: Array, key: Array, length: int) -> Index:
    """Draws one window of `length` consecutive transitions for each entry of `task_id`.

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
        An `Index` with leaves [..., L].
    """
    start = _draw_start(data.count[task_id], task_id.shape, key, length)
    return _window(data, task_id, start, length)


def draw_other_behavior(
    data: TaskData, task_id: Array, key: Array, length: int, policy: Array, stage: Array
) -> Index:
    """Draws a window as `draw_windows` does, from another source than the given one.

    Of 16 independent draws it takes the first whose last step has a source (policy, stage) other
    than the given one [...], and the last draw if none has. None has in a task of a single source,
    and with probability q^16 in a task in which the given source has a share q of the data.
    """
    keys, count = jax.random.split(key, _DRAWS), data.count[task_id]
    draw = jax.vmap(lambda key: _draw_start(count, task_id.shape, key, length))
    starts = draw(keys)  # [draws, ...]
    tasks, policy, stage = (jnp.broadcast_to(x, starts.shape) for x in (task_id, policy, stage))
    last = starts + jnp.minimum(length, data.count[tasks]) - 1
    episode = data.episode[tasks, data.index[tasks, last]]
    other = (data.policy[tasks, episode] != policy) | (data.stage[tasks, episode] != stage)
    first = jnp.argmax(other.at[-1].set(True), axis=0)
    start = jnp.take_along_axis(starts, first[None], axis=0)[0]
    return _window(data, task_id, start, length)


def draw_bags(data: TaskData, task_id: Array, key: Array, num: int) -> Index:
    """Draws `num` transitions, uniform with replacement, for each entry of `task_id` [...].

    Returns an `Index` with leaves [..., num], all valid; a task must have at least one transition.
    """
    shape = (*task_id.shape, num)
    place = jax.random.randint(key, shape, 0, data.count[task_id][..., None])
    return Index(task_id, data.index[task_id[..., None], place], jnp.ones(shape, bool))


def draw_sequences(data: TaskData, task_id: Array, key: Array, length: int) -> Index:
    """Draws `length` consecutive steps of one episode for each entry of `task_id` [...].

    The start is uniform over all steps of the task that leave room for a whole sequence before
    their episode ends. An episode shorter than `length` counts as one start, its first step, and
    `valid` is False beyond its end. A task without an episode gives no valid step.

    Returns an `Index` with leaves [..., length].
    """
    num_episodes = data.length.shape[1]
    starts = jnp.where(data.length > 0, jnp.maximum(data.length - length + 1, 1), 0)
    starts = jnp.where(data.visible, starts, 0)
    # One running sum over the episodes of all tasks: a draw is one binary search, without a copy of
    # a task's episodes for each entry of `task_id`.
    end = jnp.cumsum(starts.ravel())
    before = jnp.concatenate([jnp.zeros(1, end.dtype), end])
    first = before[task_id * num_episodes]
    num = before[(task_id + 1) * num_episodes] - first
    drawn = first + jax.random.randint(key, task_id.shape, 0, jnp.maximum(num, 1))
    found = jnp.minimum(jnp.searchsorted(end, drawn, side="right"), end.shape[0] - 1)
    episode = jnp.where(num > 0, found - task_id * num_episodes, 0)
    step = jnp.where(num > 0, drawn - before[found], 0)
    begin = jnp.cumsum(data.length, axis=1) - data.length
    offset = _steps(step, length)
    left = jnp.where(num > 0, data.length[task_id, episode] - step, 0)
    valid = offset < left[..., None]
    start = begin[task_id, episode] + step
    return Index(task_id, jnp.where(valid, start[..., None] + offset, start[..., None]), valid)


def gather(data: TaskData, index: Index) -> View:
    """Looks up the transitions [..., L] that a draw chose."""
    task, position = jnp.broadcast_to(index.task[..., None], index.position.shape), index.position
    episode, step = data.episode[task, position], data.step[task, position]
    first, row = step == 0, position + episode
    prev_reward = data.reward[task, jnp.maximum(position - 1, 0)]
    last = jnp.maximum(index.valid.sum(-1, keepdims=True) - 1, 0)
    last_episode = jnp.take_along_axis(episode, last, -1)[..., 0]
    next_obs = data.obs[task, row + 1] if data.next_obs is None else data.next_obs[task, position]
    return View(
        obs=data.obs[task, row],
        action=data.action[task, position],
        reward=data.reward[task, position],
        prev_reward=jnp.where(first, 0, prev_reward),
        next_obs=next_obs,
        done=data.done[task, position],
        valid=index.valid,
        first=first,
        episode=episode,
        step=step,
        policy=data.policy[index.task, last_episode],
        stage=data.stage[index.task, last_episode],
    )


def returns_to_go(data: TaskData, gamma: float | Array = 1.0) -> Array:
    """`R_t = r_t + gamma r_(t+1) + ...` until the episode's recorded end, for every transition.

    Computed once for a data set; `look_up` gives the values of a draw. Rewards that would have come
    after a time limit are not in it.

    Returns:
        [N, P] in the data's order; 0 in the padding.
    """
    goes_on = jnp.pad(data.step[:, 1:] > 0, ((0, 0), (0, 1)))

    def add(after, now):
        reward, goes_on = now
        value = reward + gamma * jnp.where(goes_on, after, 0)
        return value, value

    zero = jnp.zeros_like(data.reward[:, 0])
    _, table = jax.lax.scan(add, zero, (data.reward.T, goes_on.T), reverse=True)
    return table.T


def look_up(table: Array, index: Index) -> Array:
    """Entries [..., L] of a table [N, P, ...], such as returns-to-go, at the transitions drawn."""
    return table[index.task[..., None], index.position]


def sample_windows(data: TaskData, task_id: Array, key: Array, length: int) -> View:
    """Returns what `draw_windows` chooses, a `View` with leaves [..., L]."""
    return gather(data, draw_windows(data, task_id, key, length))


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
        views.append(gather(part, _window(part, task_id, start[first : first + num], length)))
        first += num
    return jax.tree.map(lambda *x: jnp.concatenate(x), *views)


def sample_other_behavior(
    data: TaskData, task_id: Array, key: Array, length: int, policy: Array, stage: Array
) -> View:
    """Returns what `draw_other_behavior` chooses, a `View` with leaves [..., L]."""
    return gather(data, draw_other_behavior(data, task_id, key, length, policy, stage))


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
    """Returns what `draw_bags` chooses, a `View` with leaves [..., num]."""
    return gather(data, draw_bags(data, task_id, key, num))


def sample_sequences(
    data: TaskData, task_id: Array, key: Array, num_rows: int, length: int
) -> View:
    """Draws as many sequences of each task [M] as `num_rows` steps have room for.

    They are those of `draw_sequences`, a `View` with leaves [M, num_rows // length, length].
    """
    task_id = jnp.tile(task_id[:, None], (1, num_rows // length))
    return gather(data, draw_sequences(data, task_id, key, length))


def _draw_start(count: Array, shape: tuple[int, ...], key: Array, length: int) -> Array:
    """Draws starts of windows, ints of `shape`, in tasks of `count` transitions."""
    return jax.random.randint(key, shape, 0, jnp.maximum(count - length, 0) + 1)


def _window(data: TaskData, task_id: Array, start: Array, length: int) -> Index:
    """The window of a start [...], counted among the transitions that draws may see."""
    place = start[..., None] + _steps(start, length)
    valid = place < data.count[task_id][..., None]
    position = data.index[task_id[..., None], jnp.where(valid, place, 0)]
    return Index(task_id, position, valid)


def _steps(start: Array, length: int) -> Array:
    """0, 1, ..., length - 1 for every start [...]: [..., L]."""
    return jax.lax.broadcasted_iota(start.dtype, (*start.shape, length), start.ndim)
