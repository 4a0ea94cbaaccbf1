"""The world model's loss: reconstruction, termination, balanced KL, and terms on the task code."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from metastar.models import world_model
from metastar.models.world_model import Encoded, EncodeNoise
from metastar.ops import gaussian
from metastar.types import Array, Batch, DataSpec, HyperParams, TaskLoss, View

TASK_LOSSES = "task_losses"  # where the parameters hold those of the task losses, by name
CONTEXT_VIEWS = ("context", "positive")  # views of a batch that the model sees, where present
BOUND_WEIGHT = 0.01  # on the spread of the decoder's log-variance bounds (PETS, appendix A.1)


class ModelNoise(NamedTuple):
    """Draws of one update."""

    encode: EncodeNoise
    task_losses: dict[str, Any]  # by name; None for a loss that draws nothing


class ModelTerms(NamedTuple):
    """Scalars, before their weights."""

    recon_nll: Array
    recon_bounds: Array  # already times 0.01
    termination: Array
    kl_raw: Array  # nats per step, before free bits
    kl_dyn: Array
    kl_rep: Array


def init(key: Array, cfg: Any, spec: DataSpec, task_losses: dict[str, TaskLoss]) -> Any:
    """Draws the world model's parameters, with those of the task losses' networks beside them."""
    key_model, key_losses = jax.random.split(key)
    keys = jax.random.split(key_losses, len(task_losses))
    own = {name: task_loss.init(k) for k, (name, task_loss) in zip(keys, task_losses.items())}
    own = {TASK_LOSSES: {name: params for name, params in own.items() if params}}
    return world_model.init(key_model, cfg, spec) | (own if own[TASK_LOSSES] else {})


def draw_noise(key: Array, batch: Batch, cfg: Any, task_losses: dict[str, TaskLoss]) -> ModelNoise:
    """Draws the noise of one update for the context views of a batch, stacked."""
    key_encode, key_losses = jax.random.split(key)
    keys = jax.random.split(key_losses, len(task_losses))
    drawn = {n: t.draw_noise(k, batch) for k, (n, t) in zip(keys, task_losses.items())}
    return ModelNoise(_draw_encode_noise(key_encode, batch.views, cfg), drawn)


def _draw_encode_noise(key: Array, views: dict[str, View], cfg: Any) -> EncodeNoise:
    model = cfg.world_model
    shape = _stack(views).valid.shape
    key_posterior, key_attention = jax.random.split(key)
    noise = world_model.draw_encode_noise(key_posterior, shape, cfg)
    if model.attention_dropout == 0:
        return noise
    *batch, length = shape
    weights = (*batch, model.num_layers, model.num_heads, length + 1, length + 1)
    keep = 1 - model.attention_dropout
    mask = jax.random.bernoulli(key_attention, keep, weights)
    return noise._replace(attention=mask / keep)


def encode_views(
    params: Any, views: dict[str, View], noise: EncodeNoise, cfg: Any
) -> tuple[Encoded, dict[str, Array]]:
    """Encodes the context views of a batch in one pass.

    Returns the encoding of the stacked views and the task codes {view: [M, Z]}.
    """
    encoded = world_model.encode(params, _stack(views), noise, cfg)
    names = [name for name in CONTEXT_VIEWS if name in views]
    return encoded, dict(zip(names, jnp.split(encoded.task_code, len(names))))


def terms(
    params: Any, view: View, encoded: Encoded, code: Array, hp: HyperParams, cfg: Any
) -> ModelTerms:
    """Computes the terms of `loss` on windows [M, L] with their encoding, given codes [M, Z].

    With `mask_joints` padding counts nowhere, and the KL leaves out the first step of an episode:
    across an episode boundary no dynamics leads from one step to the next.
    """
    masked = cfg.world_model.mask_joints
    valid = view.valid if masked else jnp.ones_like(view.valid)
    follows = valid & ~view.first if masked else valid

    x = jnp.concatenate([view.obs, view.prev_reward[..., None]], axis=-1)
    mean, logvar = world_model.decode(params, encoded.latent, code, cfg)
    decoder = params["decoder"]
    spread = decoder["max_logvar"].sum() - decoder["min_logvar"].sum()
    nll = gaussian.nll(x[None], mean, logvar).mean(axis=-1).mean(axis=0)

    logit = world_model.done_logit(params, encoded.feats, code, cfg)
    cross_entropy = optax.sigmoid_binary_cross_entropy(logit, view.done.astype(logit.dtype))

    post = encoded.post_mean[..., 1:, :], encoded.post_logvar[..., 1:, :]
    prior = world_model.prior(params, encoded.feats[..., :-1, :], code, cfg)
    stop = jax.lax.stop_gradient
    kl_dyn = gaussian.kl_elements(*stop(post), *prior)
    kl_rep = gaussian.kl_elements(*post, *stop(prior))
    return ModelTerms(
        recon_nll=_mean(nll, valid),
        recon_bounds=BOUND_WEIGHT * spread / cfg.world_model.ensemble,
        termination=_mean(cross_entropy, valid),
        kl_raw=_mean(kl_dyn.sum(axis=-1), follows[..., 1:]),
        kl_dyn=_above_free_bits(kl_dyn, follows[..., 1:], hp, cfg),
        kl_rep=_above_free_bits(kl_rep, follows[..., 1:], hp, cfg),
    )


def loss(
    params: Any,
    batch: Batch,
    noise: ModelNoise,
    hp: HyperParams,
    cfg: Any,
    task_losses: dict[str, TaskLoss],
) -> tuple[Array, dict[str, Array]]:
    """The scalar and the metrics of `loss_and_codes`, which see."""
    total, (metrics, _) = loss_and_codes(params, batch, noise, hp, cfg, task_losses)
    return total, metrics


def loss_and_codes(
    params: Any,
    batch: Batch,
    noise: ModelNoise,
    hp: HyperParams,
    cfg: Any,
    task_losses: dict[str, TaskLoss],
) -> tuple[Array, tuple[dict[str, Array], dict[str, Array]]]:
    """`rec_w recon + termination + dyn_w KL_dyn + rep_w KL_rep + sum_n w_n task_n`.

    Reconstruction is the mean over steps, dimensions and decoders of `(x - m)^2 exp(-v) + v` for
    x = (obs, previous reward) at the posterior's draw, plus 0.01 times the spread of the bounds.
    KL(posterior at t || prior from t-1) is averaged over tasks and steps, then `max(free_bits, .)`;
    with `free_bits_per = "element"` that is `mean_t sum_d max(free_bits / D, KL_td)`. In KL_dyn
    the posterior is stopped, in KL_rep the prior (KL balancing, Hafner et al. 2020, arXiv
    2010.02193). The latents that enter the Transformer are not stopped. MetaSTAR (arXiv
    2606.00780), its world-model objective. With two context views all means are over both, and with
    `world_model.condition` each is predicted under the code of the other: a code of the window
    itself could tell of its noise and its future what no other window tells.

    Args:
        params: parameters of `init`.
        batch: with the view "context" [M, L], and "positive" where a task loss needs it.
        noise: of `draw_noise`.
        hp: `free_bits`, `recon_weight`, `dyn_weight`, `rep_weight` and `task_losses` are used.
        cfg: the config.
        task_losses: by name; the weights are `hp.task_losses[name]`.

    Returns:
        Scalar, and (metrics, task codes {view: [M, Z]}): an update that goes on with the codes need
        not run the model again.
    """
    encoded, codes = encode_views(params, batch.views, noise.encode, cfg)
    crossed = jnp.concatenate([*codes.values()][::-1])
    stacked = _stack(batch.views)
    encoded = world_model.see_code(params, stacked, encoded, crossed, noise.encode, cfg)
    parts = terms(params, stacked, encoded, crossed, hp, cfg)
    recon = parts.recon_nll + parts.recon_bounds
    total = (
        hp.recon_weight * recon
        + parts.termination
        + hp.dyn_weight * parts.kl_dyn
        + hp.rep_weight * parts.kl_rep
    )
    metrics = {
        "recon": recon,
        "termination": parts.termination,
        "kl_raw": parts.kl_raw,
        "kl_dyn": parts.kl_dyn,
        "kl_rep": parts.kl_rep,
    }
    for name, task_loss in task_losses.items():
        own = params.get(TASK_LOSSES, {}).get(name, {})
        value, task_metrics = task_loss.loss(own, codes, batch, noise.task_losses[name])
        total = total + hp.task_losses[name] * value
        metrics |= {name: value, **task_metrics}
    return total, (metrics | {"model_loss": total}, codes)


def _above_free_bits(kl: Array, weight: Array, hp: HyperParams, cfg: Any) -> Array:
    """Scalar of KLs [..., D], of which nothing below the free bits is worth reducing."""
    if cfg.world_model.free_bits_per == "batch":
        return jnp.maximum(hp.free_bits, _mean(kl.sum(axis=-1), weight))
    return _mean(jnp.maximum(hp.free_bits / kl.shape[-1], kl).sum(axis=-1), weight)


def _stack(views: dict[str, View]) -> View:
    """The context views of a batch as one, along the first axis."""
    found = [views[name] for name in CONTEXT_VIEWS if name in views]
    return jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *found)


def _mean(x: Array, weight: Array) -> Array:
    """Mean over the entries where `weight` (bool, same shape) holds; zero if there is none."""
    return jnp.sum(jnp.where(weight, x, 0)) / jnp.maximum(weight.sum(), 1)
