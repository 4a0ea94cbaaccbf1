"""Open-loop errors of a world model on tasks that it was not trained on, and what makes them.

What `model_error.py` measures; the errors are those of the model's parameters alone.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import FrozenConfigDict

from metastar.data import choose, store
from metastar.data.normalize import view_whitener
from metastar.data.sampler import sample_windows
from metastar.data.sources import sources
from metastar.models import dynamics, world_model
from metastar.ops import gaussian
from metastar.ops.task_parameters import join_parameters
from metastar.tools.audit import audit, codes, measures, probes
from metastar.types import Array, DataSpec, Method, TaskData, View

REAL, IMAGINED = 8, 8  # steps before a rollout, and of it
WINDOWS, DRAWS = 64, 8  # of each task; of each window, whose mean is the prediction
CODE_WINDOWS = 32  # of each task and source, for the measures of codes


def measure_model(cfg: FrozenConfigDict, params: Any, spec: DataSpec, tasks: TaskData) -> dict:
    """Errors of a world model on tasks, in the spread of observations and of rewards.

    Heads that see the code are given that of another window of the same task.
    """
    whiten_view = view_whitener(cfg.sampler.normalize_obs, spec)
    view, whole = windows(tasks, whiten_view)
    context, _ = windows(tasks, whiten_view, cfg.world_model.context_len, seed=1)

    @jax.jit
    def errors(params):
        keys = jax.random.split(jax.random.key(1), whole.shape[0])
        noise = world_model.draw_encode_noise(jax.random.key(2), context.valid.shape, cfg)
        code = world_model.encode_task(params, context, noise, cfg)
        found = jax.vmap(partial(one_window, params, cfg))(view, code, keys)
        return jax.tree.map(partial(mean_of, whole, spec.reward_std), found)

    return jax.tree.map(np.ndarray.tolist, jax.device_get(errors(params)))


def windows(
    tasks: TaskData, whiten_view: Callable, length: int = REAL + IMAGINED, seed: int = 0
) -> tuple[View, np.ndarray]:
    """Windows of all tasks, leaves [N W, length, ...], and which lie in one episode."""
    num = tasks.count.shape[0]
    task_id = jnp.broadcast_to(jnp.arange(num)[:, None], (num, WINDOWS))
    view = jax.jit(sample_windows, static_argnums=3)(tasks, task_id, jax.random.key(seed), length)
    view = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), view)  # tasks and windows
    return whiten_view(view), np.asarray(view.valid.all(-1) & ~view.first[:, 1:].any(-1))


def one_window(params: Any, cfg: FrozenConfigDict, view: View, code: Array, key: Array) -> dict:
    """Errors [IMAGINED, O + 1] of one window by what makes them, and "nats" [IMAGINED].

    "predicted" is the mean over rollouts from the real state, "drawn" one of these with the
    decoder's noise, as an agent meets it. The others see all real steps: "decoded" is the decoder's
    mean at the posterior's draw, "next" at the prior's mean one step before; "deviation" is the
    decoder's own of the former, "nats" KL(posterior || prior).
    """
    before = jax.tree.map(lambda x: x[:REAL] if x.ndim else x, view)
    truth = jnp.concatenate([view.next_obs, view.reward[:, None]], -1)[REAL:]

    def rollout(key):
        key_start, key_step = jax.random.split(key)
        noise = dynamics.draw_start_noise(key_start, (), REAL, view.obs.shape[-1], cfg)
        _, carry = dynamics.start_real(params, before, code, noise, cfg)
        noise = dynamics.draw_step_noise(key_step, (IMAGINED,), view.obs.shape[-1], cfg)

        def step(carry, given):
            prediction, carry = dynamics.advance(params, carry, *given, cfg)
            drawn = jnp.concatenate([prediction.obs, prediction.reward[None]])
            return carry, (prediction.mean, drawn)

        return jax.lax.scan(step, carry, (view.action[REAL:], noise))[1]

    mean, drawn = jax.vmap(rollout)(jax.random.split(key, DRAWS))
    noise = world_model.draw_encode_noise(key, view.valid.shape, cfg)
    encoded = world_model.encode(params, view, noise, cfg)
    encoded = world_model.see_code(params, view, encoded, code, noise, cfg)
    x = jnp.concatenate([view.obs, view.prev_reward[:, None]], -1)
    decoded, logvar = world_model.decode(params, encoded.latent, code, cfg)
    tokens = world_model.Token(encoded.feats, encoded.latent, view.action)
    tokens = jax.tree.map(lambda leaf: leaf[REAL - 1 : -1], tokens)
    prior = world_model.prior(params, tokens, code, cfg)
    nats = gaussian.kl(encoded.post_mean[REAL:], encoded.post_logvar[REAL:], *prior)
    return {
        "predicted": mean.mean(0) - truth,
        "drawn": drawn[0] - truth,
        "decoded": (decoded.mean(0) - x)[REAL:],
        "next": world_model.decode(params, prior[0], code, cfg)[0].mean(0) - x[REAL:],
        "deviation": jnp.exp(0.5 * logvar.mean(0))[REAL:],
        "nats": nats,
    }


def mean_of(whole: np.ndarray, reward_std: float, error: Array) -> Any:
    """Root mean squares [H] of errors [B, H, O + 1], by kind; the mean [H] of nats [B, H]."""

    def mean(x):
        return jnp.where(whole[:, None], x, 0).sum(0) / whole.sum()

    if error.ndim == 2:
        return mean(error)
    square = error**2
    return {
        "obs": jnp.sqrt(mean(square[..., :-1].mean(-1))),
        "reward": jnp.sqrt(mean(square[..., -1])) / reward_std,
    }


def measure_codes(cfg: FrozenConfigDict, method: Method, params: Any, data_set: Any) -> dict:
    """The audit's ratio, R² of the task and accuracy of the probe for the source; fewer windows."""
    manifest = data_set.manifest
    split = choose.split_ids(manifest, cfg)
    test = np.array([name == "test" for name in audit.SPLITS for _ in split[name]])
    data = store.load(data_set, audit.SPLITS, cfg)
    found = sources(manifest.policies, manifest.stages, *codes.drawn_from(data))
    draws, names = [codes.halves(data, source) for source in found], [one.name for one in found]
    read = codes.make_reader(method, draws, CODE_WINDOWS, jax.random.key(0))(params)
    factor = np.asarray(join_parameters(data.task), float)
    fit_on, held_out = (codes.rows_of(read, rows) for rows in (~test, test))
    told = measures.task_of_others(
        fit_on, fit_on.keep, factor[~test], held_out, held_out.keep, factor[test]
    )
    source = probes.identity(held_out, names)["identity"]["linear"]
    return {
        "ratio": measures.ratio(held_out)["ratio"],
        "task_r2": told["linear"]["r2"],
        "source": source["accuracy"],
        "source_upper95": source["upper95"],
    }
