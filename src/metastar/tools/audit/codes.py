"""Task codes of the same windows under one model or several: what `metastar audit` measures."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from metastar.data import contexts, layout
from metastar.data.sources import Source
from metastar.evaluation.inference import expect_code, infer_all
from metastar.types import Array, Method, TaskData, View


class Codes(NamedTuple):
    """Codes of W windows of each of N tasks under each of K sources of context."""

    code: np.ndarray  # [N, K, W, Z]
    keep: np.ndarray  # [N, K, W] bool: the source has data in the task
    rewarded: np.ndarray  # [N, K, W] bool: a positive reward is in the window
    halved: np.ndarray  # [N, K] bool: both halves of the windows are of different episodes
    statistic: dict[str, np.ndarray]  # [N, K, W, D] of actions and observations, by name


class Draws(NamedTuple):
    """Two restrictions of a data set to one source: half of the windows come from each."""

    first: TaskData
    second: TaskData
    halved: np.ndarray  # [N] bool


def halves(data: TaskData, source: Source) -> Draws:
    """Assigns a source's episodes alternately to two halves, which share the policy, not episodes.

    The halves therefore differ by chance only, as two samples of finitely many episodes. A task
    with a single episode of the source has it in both halves.
    """
    of_source = (np.asarray(data.policy) == source.policy) & (
        np.asarray(data.stage) == source.stage
    )
    of_source &= np.asarray(data.length) > 0
    parity = (np.cumsum(of_source, 1) - 1) % 2
    halved = of_source.sum(1) > 1

    def half(which):
        mine = of_source & ((parity == which) | ~halved[:, None])
        return layout.show(data, mine)

    return Draws(half(0), half(1), halved)


def make_reader(method: Method, draws: list[Draws], windows: int, key: Array) -> Callable:
    """Builds `params -> Codes`, jitted once for all sources; a window is a context of the method.

    Windows and the noise of the inference follow from the key alone, so that two models with the
    same other arguments encode the same windows.

    Args:
        method: not a privileged one; `UserError` in the first reading if it infers no codes.
        draws: of each source.
        windows: W, even.
        key: PRNG key.
    """

    @jax.jit
    def read(params, first: TaskData, second: TaskData, key):
        key_first, key_second, key_infer = jax.random.split(key, 3)
        num = first.count.shape[0]
        task_id = jnp.broadcast_to(jnp.arange(num)[:, None], (num, windows // 2))
        views = [
            contexts.draw(data, task_id, method.context, key)
            for data, key in ((first, key_first), (second, key_second))
        ]
        view = jax.tree.map(lambda *x: jnp.concatenate(x, 1), *views)
        code = expect_code(infer_all(method, params, view, None, key_infer), "an audit")
        rewarded = ((view.reward > 0) & view.valid).any((-2, -1))
        return code, view.valid.any((-2, -1)), rewarded, _statistics(view)

    def codes(params) -> Codes:
        found = [
            jax.device_get(read(params, d.first, d.second, jax.random.fold_in(key, k)))
            for k, d in enumerate(draws)
        ]
        code, keep, rewarded, statistic = jax.tree.map(lambda *x: np.stack(x, 1), *found)
        return Codes(code, keep, rewarded, np.stack([d.halved for d in draws], 1), statistic)

    return codes


def drawn_from(data: TaskData) -> tuple[np.ndarray, np.ndarray]:
    """Policy and stage of every episode that draws may use, each [E']."""
    seen = np.asarray(data.visible) & (np.asarray(data.length) > 0)
    return np.asarray(data.policy)[seen], np.asarray(data.stage)[seen]


def rows_of(codes: Codes, rows: np.ndarray) -> Codes:
    """The codes of the tasks `rows` [N] bool."""
    return jax.tree.map(lambda x: x[rows], codes)


def _statistics(view: View) -> dict[str, Array]:
    """Statistics of the policy in contexts [..., C, L]: means and variances over valid steps."""
    weight = view.valid.astype(view.obs.dtype)[..., None]
    steps = (-3, -2)
    count = jnp.maximum(weight.sum(steps), 1)
    action = (view.action * weight).sum(steps) / count
    deviation = (view.action - action[..., None, None, :]) * weight
    return {
        "mean action": action,
        "variance of the action": jnp.square(deviation).sum(steps) / count,
        "mean observation": (view.obs * weight).sum(steps) / count,
    }
