"""The world model's loss: reconstruction, termination, balanced KL, and terms on the task code."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from metastar.config.fields import NOT_NEGATIVE, Field
from metastar.losses import objective
from metastar.losses.objective import TaskLosses
from metastar.models import world_model
from metastar.models.world_model import Encoded, EncodeNoise, Token
from metastar.ops import gaussian
from metastar.types import Array, Batch, Codes, DataSpec, View

DEFAULTS = {
    "attention_dropout": Field(0.0, "[0, 1)", "of attention weights, in training"),
    "mask_episode_boundaries": Field(
        True, "", "no reconstruction or KL across the boundary of two episodes"
    ),
    "free_bits": Field(1.0, NOT_NEGATIVE, "nats of KL without a gradient", swept=True),
    "free_bits_per": Field(
        "batch",
        ("batch", "element"),
        "where they apply: to the mean KL of a batch, or of every element",
        before="batch",
    ),
    "recon_weight": Field(1.0, NOT_NEGATIVE, "of the reconstruction", swept=True, before=1.0),
    "variance_power": Field(
        0.0,
        "[0, 1]",
        "p of beta-NLL (Seitzer et al. 2022) of the reconstruction: 0 is the likelihood, 1 "
        "squared errors",
        before=0.0,
    ),
    "dyn_weight": Field(1.0, NOT_NEGATIVE, "of the KL that trains the prior", swept=True),
    "rep_weight": Field(0.1, NOT_NEGATIVE, "of the KL that trains the posterior", swept=True),
}

TASK_LOSSES = objective.WEIGHTS  # key of the parameters of the task losses' networks
CONTEXT_VIEWS = ("context", "positive")  # views of a batch that the model sees, where present
BOUND_WEIGHT = 0.01  # on the spread of the decoder's log-variance bounds (PETS, appendix A.1)


class ModelNoise(NamedTuple):
    """Draws of one update."""

    encode: EncodeNoise
    task_losses: dict[str, Any]  # by name; None for a loss that draws nothing


class ModelTerms(NamedTuple):
    """Scalars [], before their weights."""

    recon_nll: Array
    recon_bounds: Array  # already times 0.01
    termination: Array
    kl_raw: Array  # nats per step, before free bits
    kl_dyn: Array
    kl_rep: Array


def init(key: Array, cfg: Any, spec: DataSpec, task_losses: TaskLosses) -> Any:
    """Draws the world model's parameters, with those of the task losses' networks beside them."""
    key_model, key_losses = jax.random.split(key)
    own = objective.init(key_losses, task_losses)
    return world_model.init(key_model, cfg, spec) | ({TASK_LOSSES: own} if own else {})


def draw_noise(key: Array, batch: Batch, cfg: Any, task_losses: TaskLosses) -> ModelNoise:
    """Draws the noise of one update for the context views of a batch, stacked."""
    key_encode, key_losses = jax.random.split(key)
    drawn = objective.draw_noise(key_losses, batch, task_losses)
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
) -> tuple[Encoded, dict[str, Codes]]:
    """Encodes the context views of a batch in one pass.

    Returns the encoding of the stacked views, and the codes by view.
    """
    encoded = world_model.encode(params, _stack(views), noise, cfg)
    names = [name for name in CONTEXT_VIEWS if name in views]
    return encoded, dict(zip(names, map(Codes, jnp.split(encoded.task_code, len(names)))))


def terms(
    params: Any, view: View, encoded: Encoded, code: Array, free_bits: Array, cfg: Any
) -> ModelTerms:
    """Computes the terms of `loss` on windows [M, L] with their encoding, given codes [M, Z].

    With `mask_episode_boundaries` padding does not count, and the KL leaves out the first step of
    an episode: across an episode boundary no dynamics leads from one step to the next.
    """
    masked = cfg.world_model.mask_episode_boundaries
    valid = view.valid if masked else jnp.ones_like(view.valid)
    follows = valid & ~view.first if masked else valid

    x = jnp.concatenate([view.obs, view.prev_reward[..., None]], axis=-1)
    mean, logvar = world_model.decode(params, encoded.latent, code, cfg)
    decoder = params["decoder"]
    spread = decoder["max_logvar"].sum() - decoder["min_logvar"].sum()
    nll = gaussian.beta_nll(x[None], mean, logvar, cfg.world_model.variance_power)
    nll = nll.mean(axis=-1).mean(axis=0)

    logit = world_model.done_logit(params, encoded.feats, code, cfg)
    cross_entropy = optax.sigmoid_binary_cross_entropy(logit, view.done.astype(logit.dtype))

    post = encoded.post_mean[..., 1:, :], encoded.post_logvar[..., 1:, :]
    before = (x[..., :-1, :] for x in (encoded.feats, encoded.latent, view.action))
    prior = world_model.prior(params, Token(*before), code, cfg)
    stop = jax.lax.stop_gradient
    kl_dyn = gaussian.kl_elements(*stop(post), *prior)
    kl_rep = gaussian.kl_elements(*post, *stop(prior))
    return ModelTerms(
        recon_nll=_mean(nll, valid),
        recon_bounds=BOUND_WEIGHT * spread / cfg.world_model.ensemble,
        termination=_mean(cross_entropy, valid),
        kl_raw=_mean(kl_dyn.sum(axis=-1), follows[..., 1:]),
        kl_dyn=_above_free_bits(kl_dyn, follows[..., 1:], free_bits, cfg),
        kl_rep=_above_free_bits(kl_rep, follows[..., 1:], free_bits, cfg),
    )


def loss(
    params: Any,
    opponents: dict[str, Any],
    batch: Batch,
    noise: ModelNoise,
    hp: dict[str, Any],
    cfg: Any,
    task_losses: TaskLosses,
) -> tuple[Array, dict[str, Array]]:
    """The scalar and the metrics of `loss_and_codes`, with the same arguments."""
    total, (metrics, _) = loss_and_codes(params, opponents, batch, noise, hp, cfg, task_losses)
    return total, metrics


def loss_and_codes(
    params: Any,
    opponents: dict[str, Any],
    batch: Batch,
    noise: ModelNoise,
    hp: dict[str, Any],
    cfg: Any,
    task_losses: TaskLosses,
) -> tuple[Array, tuple[dict[str, Array], dict[str, Codes]]]:
    """`rec_w recon + termination + dyn_w KL_dyn + rep_w KL_rep + sum_n w_n task_n`.

    Reconstruction is the mean over steps, dimensions and decoders of `(x - m)^2 exp(-v) + v` for
    x = (obs, previous reward) at the posterior's draw, plus 0.01 times the spread of the bounds;
    with `variance_power = p` each element has the weight exp(p v), which gets no gradient.
    KL(posterior at t || prior from t-1) is averaged over tasks and steps, then `max(free_bits, .)`;
    with `free_bits_per = "element"` that is `mean_t sum_d max(free_bits / D, KL_td)`. In KL_dyn
    the posterior gets no gradient, in KL_rep the prior (KL balancing, Hafner et al. 2020, arXiv
    2010.02193). The latents that enter the Transformer do get one. MetaSTAR (arXiv 2606.00780), its
    world-model objective. With two context views all means are over both, and with
    `world_model.condition` each window is predicted under the code of the other: its own code could
    carry its noise and its future.

    Args:
        params: parameters of `init`.
        opponents: parameters of the task losses' opponents, by name.
        batch: with the view "context" [M, L], and "positive" where a task loss needs it.
        noise: of `draw_noise`.
        hp: traced numbers by section: `world_model`, `task_losses` and those of the task losses.
        cfg: the config.
        task_losses: by name, as in `hp["task_losses"]`.

    Returns:
        Scalar, and (metrics, codes by view), so that the rest of an update has the codes without
        another pass of the model.
    """
    weights = hp["world_model"]
    encoded, codes = encode_views(params, batch.views, noise.encode, cfg)
    crossed = jnp.concatenate([code.task for code in codes.values()][::-1])
    stacked = _stack(batch.views)
    encoded = world_model.see_code(params, stacked, encoded, crossed, noise.encode, cfg)
    parts = terms(params, stacked, encoded, crossed, weights["free_bits"], cfg)
    recon = parts.recon_nll + parts.recon_bounds
    total = (
        weights["recon_weight"] * recon
        + parts.termination
        + weights["dyn_weight"] * parts.kl_dyn
        + weights["rep_weight"] * parts.kl_rep
    )
    metrics = {
        "recon": recon,
        "termination": parts.termination,
        "kl_raw": parts.kl_raw,
        "kl_dyn": parts.kl_dyn,
        "kl_rep": parts.kl_rep,
    }
    own = params.get(TASK_LOSSES, {})
    value, task_metrics = objective.loss(
        own, opponents, codes, batch, noise.task_losses, hp, task_losses
    )
    total = total + value
    return total, (metrics | task_metrics | {"model_loss": total}, codes)


def _above_free_bits(kl: Array, weight: Array, free_bits: Array, cfg: Any) -> Array:
    """Mean [] of KLs [..., D] in nats, with no gradient below the free bits."""
    if cfg.world_model.free_bits_per == "batch":
        return jnp.maximum(free_bits, _mean(kl.sum(axis=-1), weight))
    return _mean(jnp.maximum(free_bits / kl.shape[-1], kl).sum(axis=-1), weight)


def _stack(views: dict[str, View]) -> View:
    """The context views of a batch as one, along the first axis."""
    found = [views[name] for name in CONTEXT_VIEWS if name in views]
    return jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *found)


def _mean(x: Array, weight: Array) -> Array:
    """Mean over the entries where `weight` (bool, same shape) holds; zero if there is none."""
    return jnp.sum(jnp.where(weight, x, 0)) / jnp.maximum(weight.sum(), 1)
