"""The Transformer stochastic world model: binds the networks to a config (floor F3).

Observations and previous rewards become latents; (latent, action) tokens pass a causal core, by
default a Transformer, whose features predict the next latent and the end of the episode; a task
token gives the task code. MetaSTAR (arXiv 2606.00780), sections on the world model and the task
representation. With `world_model.condition` the code of a task also enters the heads that predict,
so that prediction itself asks for what is true of the task.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from metastar.errors import UserError
from metastar.nets.condition import Condition
from metastar.nets.cores import CORES
from metastar.nets.heads import Decoder, GaussianHead, Termination
from metastar.nets.mlp import MLP
from metastar.ops import gaussian
from metastar.types import Array, DataSpec, StepOut, View

PRECISE_LOGVAR = -4.0  # of latents at the start, with `latent_init = "precise"`
CONDITIONED = ("prior", "decoder", "termination")  # the heads that may see the task code


class EncodeNoise(NamedTuple):
    """Draws of one encoding."""

    posterior: Array  # [..., L, D] standard normal
    attention: Array | None = None  # [..., layers, heads, L+1, L+1]: keep mask / keep probability


class Encoded(NamedTuple):
    """What the model makes of a window, before it predicts."""

    embedding: Array  # [..., L, D]
    post_mean: Array  # [..., L, D]
    post_logvar: Array  # [..., L, D]
    latent: Array  # [..., L, D]
    feats: Array  # [..., L, H]
    task_code: Array  # [..., Z]


class StepNoise(NamedTuple):
    """Draws of one predicted step, standard normal."""

    prior: Array  # [..., D]
    decoder: Array  # [..., O+1]


class StartNoise(NamedTuple):
    """Draws of the start of one rollout from K real steps."""

    posterior: Array  # [K, D] standard normal
    step: StepNoise  # for the state after the last real step


class Prediction(NamedTuple):
    """What the model expects after a token."""

    feats: Array  # [..., H]
    prior_mean: Array  # [..., D]
    prior_logvar: Array  # [..., D]
    latent: Array  # [..., D]
    mean: Array  # [..., O+1] of (obs, reward)
    logvar: Array  # [..., O+1]
    obs: Array  # [..., O] drawn, not the mean
    reward: Array  # [...]
    done_logit: Array  # [...]


class Carry(NamedTuple):
    """State of one rollout."""

    cache: Any  # of the core
    latent: Array  # [D]
    code: Array  # [Z] the task the rollout takes place in


def init(key: Array, cfg: Any, spec: DataSpec) -> Any:
    """Draws the parameters: a dict by network."""
    model = cfg.world_model
    obs_reward = jnp.zeros((1, spec.obs_dim + 1))
    embedding = latent = jnp.zeros((1, model.latent_dim))
    feats, action = jnp.zeros((1, model.width)), jnp.zeros((1, spec.action_dim))
    decoder = Decoder((model.width, model.width), spec.obs_dim + 1)
    nets = {
        "encoder": (_encoder(cfg), obs_reward),
        "posterior": (_posterior(cfg), embedding),
        "core": (_core(cfg), latent, action, jnp.ones(1, bool)),
        "prior": (GaussianHead(model.latent_dim), feats),
        "decoder": (decoder, latent),
        "termination": (Termination(model.width), feats),
    }
    keys = dict(zip(nets, jax.random.split(key, len(nets))))
    code, params, condition = jnp.zeros((1, model.code_dim)), {}, {}
    for name, (net, *inputs) in nets.items():
        if name in CONDITIONED:
            key_condition = jax.random.fold_in(keys[name], 1)
            conditioned, own = _condition(cfg).init_with_output(key_condition, *inputs, code)
            condition |= {name: own["params"]} if own else {}
            inputs = (conditioned,)
        params[name] = net.init(keys[name], *inputs)["params"]
    return params | ({"condition": condition} if condition else {})


def embed(params: Any, obs: Array, prev_reward: Array, cfg: Any) -> Array:
    """Embedding [..., D] of an observation [..., O] and the reward before it [...]."""
    x = jnp.concatenate([obs, prev_reward[..., None]], axis=-1)
    return _encoder(cfg).apply({"params": params["encoder"]}, x)


def posterior(params: Any, embedding: Array, cfg: Any) -> tuple[Array, Array]:
    """Mean and log-variance [..., D] of the latent given its embedding [..., D]."""
    return _posterior(cfg).apply({"params": params["posterior"]}, embedding)


def prior(params: Any, feats: Array, code: Array, cfg: Any) -> tuple[Array, Array]:
    """Mean and log-variance [..., D] of the next latent given features [..., H] and code [..., Z].

    Here and below the code has the axes of the features or lacks the last of them, time.
    """
    feats = _conditioned(params, "prior", feats, code, cfg)
    return GaussianHead(cfg.world_model.latent_dim).apply({"params": params["prior"]}, feats)


def decode(params: Any, latent: Array, code: Array, cfg: Any) -> tuple[Array, Array]:
    """Mean and log-variance [..., O+1] of (obs, previous reward) given a latent [..., D]."""
    width, features = cfg.world_model.width, params["decoder"]["max_logvar"].shape[-1]
    latent = _conditioned(params, "decoder", latent, code, cfg)
    return Decoder((width, width), features).apply({"params": params["decoder"]}, latent)


def done_logit(params: Any, feats: Array, code: Array, cfg: Any) -> Array:
    """Logit [...] of a true terminal given features [..., H]."""
    feats = _conditioned(params, "termination", feats, code, cfg)
    return Termination(cfg.world_model.width).apply({"params": params["termination"]}, feats)


def encode(params: Any, view: View, noise: EncodeNoise, cfg: Any) -> Encoded:
    """Runs the model over windows in one causal pass.

    Args:
        params: parameters of `init`.
        view: leaves [..., L]; L may be any length up to `cfg.world_model.context_len`.
        noise: posterior draws, and attention dropout where it is wanted.
        cfg: the config.

    Returns:
        Encoded, with leading axes as those of `view`.

    Raises:
        UserError: if the window is longer than the position table.
    """
    embedding, mean, logvar, latent = _latents(params, view, noise.posterior, cfg)
    feats, code = _core(cfg).apply(
        {"params": params["core"]}, latent, view.action, view.valid, noise.attention
    )
    return Encoded(embedding, mean, logvar, latent, feats, _bound(code, cfg))


def encode_task(params: Any, view: View, noise: EncodeNoise, cfg: Any) -> Array:
    """The task code [..., Z] of `encode` alone, at about half the cost; without dropout."""
    *_, latent = _latents(params, view, noise.posterior, cfg)
    code = _core(cfg).apply(
        {"params": params["core"]}, latent, view.action, view.valid, method="task_code"
    )
    return _bound(code, cfg)


def predict(params: Any, feats: Array, code: Array, noise: StepNoise, cfg: Any) -> Prediction:
    """Draws the next latent, then observation and reward, given features [..., H] and the code."""
    prior_mean, prior_logvar = prior(params, feats, code, cfg)
    latent = gaussian.sample(prior_mean, prior_logvar, noise.prior)
    mean, logvar = decode(params, latent, code, cfg)
    drawn = gaussian.sample(mean, logvar, noise.decoder)
    logit = done_logit(params, feats, code, cfg)
    obs, reward = drawn[..., :-1], drawn[..., -1]
    return Prediction(feats, prior_mean, prior_logvar, latent, mean, logvar, obs, reward, logit)


def advance(
    params: Any, carry: Carry, action: Array, noise: StepNoise, cfg: Any
) -> tuple[Prediction, Carry]:
    """Feeds the token (predicted latent, action [A]) of ONE rollout and predicts what follows."""
    feats, cache = _core(cfg).apply(
        {"params": params["core"]}, carry.cache, carry.latent, action, method="step"
    )
    prediction = predict(params, feats, carry.code, noise, cfg)
    return prediction, Carry(cache, prediction.latent, carry.code)


def prefill(params: Any, view: View, noise: Array, cfg: Any) -> tuple[Array, Any]:
    """Feeds K real steps of one rollout: posterior noise [K, D] -> features [K, H], cache."""
    *_, latent = _latents(params, view, noise, cfg)
    return _core(cfg).apply({"params": params["core"]}, latent, view.action, method="prefill")


def start(params: Any, view: View, code: Array, noise: StartNoise, cfg: Any) -> tuple[Array, Carry]:
    """Starts ONE rollout at the state the model expects after K real steps.

    Args:
        params: parameters of `init`.
        view: leaves [K, ...], all valid.
        code: [Z] the task; without `world_model.condition` it has no effect.
        noise: draws.
        cfg: the config.

    Returns:
        Predicted observation [O] and the carry of `make_step_fn`. The rollout has room for
        `context_len - K` steps.

    Raises:
        UserError: if K is larger than the position table.
    """
    feats, cache = prefill(params, view, noise.posterior, cfg)
    prediction = predict(params, feats[-1], code, noise.step, cfg)
    return prediction.obs, Carry(cache, prediction.latent, code)


def make_step_fn(params: Any, cfg: Any) -> Callable:
    """Makes `step_fn(carry, action [A], noise: StepNoise) -> (StepOut, carry)` of ONE rollout.

    Decoded states are never encoded again: the next token is the predicted latent. A step is
    terminal where the logit is above zero.
    """

    def step_fn(carry: Carry, action: Array, noise: StepNoise) -> tuple[StepOut, Carry]:
        prediction, carry = advance(params, carry, action, noise, cfg)
        out = StepOut(prediction.obs, prediction.reward, prediction.done_logit > 0)
        return out, carry

    return step_fn


def draw_encode_noise(key: Array, shape: tuple[int, ...], cfg: Any) -> EncodeNoise:
    """Posterior noise for windows of `shape` (..., L), without dropout: for inference."""
    return EncodeNoise(jax.random.normal(key, (*shape, cfg.world_model.latent_dim)))


def draw_step_noise(key: Array, shape: tuple[int, ...], obs_dim: int, cfg: Any) -> StepNoise:
    """Noise of predicted steps, with leading axes `shape`."""
    key_prior, key_decoder = jax.random.split(key)
    prior_noise = jax.random.normal(key_prior, (*shape, cfg.world_model.latent_dim))
    return StepNoise(prior_noise, jax.random.normal(key_decoder, (*shape, obs_dim + 1)))


def draw_start_noise(
    key: Array, shape: tuple[int, ...], context_len: int, obs_dim: int, cfg: Any
) -> StartNoise:
    """Noise of the starts of rollouts, with leading axes `shape`."""
    key_posterior, key_step = jax.random.split(key)
    encode_noise = draw_encode_noise(key_posterior, (*shape, context_len), cfg)
    return StartNoise(encode_noise.posterior, draw_step_noise(key_step, shape, obs_dim, cfg))


def _encoder(cfg: Any) -> MLP:
    model = cfg.world_model
    bound = {"reference": 3e-3, "precise": 2 * model.width**-0.5}[model.latent_init]
    return MLP((model.width, model.width), model.latent_dim, bound)


def _posterior(cfg: Any) -> GaussianHead:
    offset = {"reference": 0.0, "precise": PRECISE_LOGVAR}[cfg.world_model.latent_init]
    return GaussianHead(cfg.world_model.latent_dim, offset)


def _core(cfg: Any) -> nn.Module:
    model = cfg.world_model
    sizes = model.width, model.num_layers, model.num_heads, model.context_len, model.code_dim
    return CORES[model.core](*sizes)


def _condition(cfg: Any) -> Condition:
    return Condition(cfg.world_model.condition)


def _conditioned(params: Any, head: str, x: Array, code: Array, cfg: Any) -> Array:
    own = params.get("condition", {}).get(head, {})
    return _condition(cfg).apply({"params": own}, x, code)


def _latents(params: Any, view: View, noise: Array, cfg: Any) -> tuple[Array, Array, Array, Array]:
    """Embedding, posterior mean and log-variance, and latent, each [..., L, D]."""
    length, rows = view.action.shape[-2], cfg.world_model.context_len
    if length > rows:
        raise UserError(
            f"a context of {length} steps does not fit world_model.context_len={rows}, the number "
            "of rows of the position table; shorten the context"
        )
    embedding = embed(params, view.obs, view.prev_reward, cfg)
    mean, logvar = posterior(params, embedding, cfg)
    return embedding, mean, logvar, gaussian.sample(mean, logvar, noise)


def _bound(code: Array, cfg: Any) -> Array:
    """Bounds the scale of codes [..., Z]: "sphere" is unit mean square over Z."""
    if cfg.world_model.code_bound == "none":
        return code
    return code * jax.lax.rsqrt(jnp.mean(code**2, axis=-1, keepdims=True) + 1e-6)
