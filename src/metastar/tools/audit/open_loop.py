"""How much the task code improves the world model's predictions: open-loop error by horizon."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from metastar.data import contexts
from metastar.data.sampler import sample_windows
from metastar.evaluation.inference import expect_code, infer_all
from metastar.tools.audit.parts import missing
from metastar.types import Array, Method, TaskData

WINDOWS = 1280  # of all tasks together, at most
MOST, LEAST = 64, 8  # of each task
ROLLOUTS = 8  # predictions are means over this many
MAX_HORIZON = 16
CODES = ("right", "wrong", "none")  # of another window of the task, of the next task, zeros


def open_loop(cfg, method: Method, params, data: TaskData, obs_std: Array, key: Array) -> dict:
    """Root mean squared error of predictions after h imagined steps, by the code they are given.

    The model sees `cfg.imagine.context_len` real steps and then the recorded actions only. Windows
    that join two episodes do not count. Errors are of the mean over `ROLLOUTS` drawn rollouts.

    Args:
        cfg: the run's config.
        method: the run's method.
        params: what `method.export` returned.
        data: N > 1 tasks.
        obs_std: [O], the unit of the error of observations.
        key: PRNG key.

    Returns:
        `horizon`: 1 to H; `obs` and `reward`: {code: [H]}, the former in standard deviations, over
        all dimensions together, the latter in units of the reward; `windows`, how many counted. Or
        why it cannot be computed.
    """
    if method.predict is None:
        return missing("the method has no world model to predict with")
    prefix, length = cfg.imagine.context_len, method.context.length
    horizon = min(MAX_HORIZON, length - prefix)
    if data.count.shape[0] < 2:
        return missing("it needs the codes of two tasks")
    if horizon < 1:
        return missing("the method's windows leave no room behind imagine.context_len")
    measure = partial(_errors, method, prefix, horizon)
    errors, count = jax.jit(measure)(params, data, jnp.asarray(obs_std), key)
    error = {code: jax.device_get(x) for code, x in errors.items()}
    return {
        "horizon": list(range(1, horizon + 1)),
        **{kind: {code: x[kind].tolist() for code, x in error.items()} for kind in error["right"]},
        "windows": int(count),
    }


def _errors(method, prefix, horizon, params, data, obs_std, key):
    """Errors by code and kind [H], and how many windows counted."""
    num = data.count.shape[0]
    windows = int(np.clip(WINDOWS // num, LEAST, MOST))
    key_window, key_context, key_infer, key_roll = jax.random.split(key, 4)
    task_id = jnp.broadcast_to(jnp.arange(num)[:, None], (num, windows))
    view = sample_windows(data, task_id, key_window, prefix + horizon)
    whole = view.valid.all(-1) & ~view.first[..., 1:].any(-1)  # [N, W]
    context = contexts.draw(data, task_id, method.context, key_context)
    code = expect_code(infer_all(method, params, context, None, key_infer), "an audit")
    codes = {"right": code, "wrong": jnp.roll(code, 1, axis=0), "none": jnp.zeros_like(code)}
    keys = jax.random.split(key_roll, (num, windows, ROLLOUTS))

    def mean_path(view, code, keys):
        """Mean predictions of one window: obs [H, O] and reward [H]."""
        before = view._replace(
            **{n: x[:prefix] for n, x in view._asdict().items() if n not in ("policy", "stage")}
        )
        one = partial(method.predict, params, before, view.action[prefix:], code)
        return jax.tree.map(lambda x: x.mean(0), jax.vmap(one)(keys))

    def rms(error):
        """[N, W, H] squared errors -> [H], over the windows that count."""
        return jnp.sqrt(jnp.sum(jnp.where(whole[..., None], error, 0), (0, 1)) / whole.sum())

    std = obs_std[None, None, None]
    truth = view.next_obs[..., prefix:, :], view.reward[..., prefix:]
    found = {}
    for name, code in codes.items():
        obs, reward = jax.vmap(jax.vmap(mean_path))(view, code, keys)
        found[name] = {
            "obs": rms(jnp.mean(((obs - truth[0]) / std) ** 2, -1)),
            "reward": rms((reward - truth[1]) ** 2),
        }
    return found, whole.sum()
