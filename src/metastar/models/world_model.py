"""The Transformer stochastic world model: binds the networks to a config.

Observations and previous rewards become latents; (latent, action) tokens pass a causal core, by
default a Transformer, whose features predict the next latent and the end of the episode; a task
token gives the task code. MetaSTAR (arXiv 2606.00780), sections on the world model and the task
representation. With `world_model.condition` the code of a task also enters the heads that predict,
or the core as a token of its own, so that prediction itself needs to know the task.
"""

from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from metastar.config.fields import COUNT, Field
from metastar.errors import UserError
from metastar.models.nets.condition import Condition
from metastar.models.nets.cores import CORES
from metastar.models.nets.heads import ChangePrior, Decoder, GaussianHead, Termination
from metastar.models.nets.mlp import MLP, linear
from metastar.ops import gaussian
from metastar.types import Array, DataSpec, View

DEFAULTS = {
    "core": Field(
        "transformer", tuple(CORES), 'sequence model; "mlp" has no memory', before="transformer"
    ),
    "condition": Field(
        "none",
        ("none", "concat", "add", "film", "token"),
        'how the task code enters prior, decoder and termination; "token": it enters the core',
        before="none",
    ),
    "latent_init": Field(
        "reference",
        ("reference", "precise"),
        "latents of the untrained encoder: means within thousandths of zero and standard deviation "
        "1, or means of tenths and standard deviation e^-2",
        before="reference",
    ),
    "prior": Field(
        "linear",
        ("linear", "change"),
        "next latent: linear maps of the core's features (MetaSTAR), or an MLP of features, latent "
        "and action that gives the change of the latent (ours)",
        before="linear",
    ),
    "skip": Field(
        False,
        "",
        "linear maps without biases beside the MLPs of encoder and decoder, so that every "
        "dimension has a way through from the first update on (ours)",
        before=False,
    ),
    "latent_dim": Field(16, COUNT, "D"),
    "width": Field(128, COUNT, "H, of tokens and hidden layers"),
    "num_layers": Field(2, COUNT, "blocks of the core"),
    "num_heads": Field(4, COUNT, "of the Transformer"),
    "context_len": Field(30, "[2, inf)", "L, and the number of rows of the position table"),
    "code_dim": Field(5, COUNT, "Z"),
    "code_bound": Field(
        "none", ("none", "sphere"), 'scale of the code; "sphere": unit mean square, as a LayerNorm'
    ),
    "ensemble": Field(
        1, COUNT, "decoders; a step of a rollout is decoded by one of them", before=1
    ),
}


def check(cfg) -> None:
    """Raises `UserError` for sizes that do not fit together."""
    if cfg.width % cfg.num_heads:
        raise UserError(
            f"world_model.width is {cfg.width} but must be a multiple of world_model.num_heads, "
            f"{cfg.num_heads}"
        )
    if cfg.condition == "token" and cfg.core == "mlp":
        raise UserError(
            "world_model.condition='token' needs a core with memory, but 'mlp' sees every step "
            "alone; set world_model.core to 'transformer' or 'gru', or condition to 'concat', "
            "'add' or 'film'"
        )


# Of latents at the start, with `latent_init = "precise"`, and of what a changing prior expects.
PRECISE_LOGVAR = -4.0
CONDITIONED = ("prior", "decoder", "termination")  # the heads that may see the task code


class EncodeNoise(NamedTuple):
    """Draws of one encoding."""

    posterior: Array  # [..., L, D] standard normal
    attention: Array | None = None  # [..., layers, heads, L+1, L+1]: keep mask / keep probability


class Token(NamedTuple):
    """A token, and what the core made of it and those before: what the prior predicts from."""

    feats: Array  # [..., H]
    latent: Array  # [..., D]
    action: Array  # [..., A]


class Encoded(NamedTuple):
    """The encoding of a window, before predictions."""

    embedding: Array  # [..., L, D]
    post_mean: Array  # [..., L, D]
    post_logvar: Array  # [..., L, D]
    latent: Array  # [..., L, D]
    feats: Array  # [..., L, H]
    task_code: Array  # [..., Z]


def init(key: Array, cfg: Any, spec: DataSpec) -> Any:
    """Draws the parameters: a dict by network."""
    model = cfg.world_model
    obs_reward = jnp.zeros((1, spec.obs_dim + 1))
    embedding = latent = jnp.zeros((1, model.latent_dim))
    feats, action = jnp.zeros((1, model.width)), jnp.zeros((1, spec.action_dim))
    nets = {
        "encoder": (_encoder(cfg), obs_reward),
        "posterior": (_posterior(cfg), embedding),
        "core": (_core(cfg), latent, action, jnp.ones(1, bool)),
        "prior": (_prior(cfg), *_seen(Token(feats, latent, action), cfg)),
        "decoder": (_decoder(cfg, spec.obs_dim + 1), latent),
        "termination": (Termination(model.width), feats),
    }
    keys = dict(zip(nets, jax.random.split(key, len(nets))))
    code, params, condition = jnp.zeros((1, model.code_dim)), {}, {}
    for name, (net, *inputs) in nets.items():
        if name in CONDITIONED:
            key_condition = jax.random.fold_in(keys[name], 1)
            conditioned, own = _condition(cfg).init_with_output(key_condition, inputs[0], code)
            condition |= {name: own["params"]} if own else {}
            inputs[0] = conditioned
        if name == "decoder" and model.ensemble > 1:
            members = jax.random.split(keys[name], model.ensemble)
            params[name] = jax.vmap(lambda key: net.init(key, *inputs)["params"])(members)  # noqa: B023
        else:
            params[name] = net.init(keys[name], *inputs)["params"]
    if model.condition == "token":
        key_prompt = jax.random.fold_in(keys["core"], 1)
        condition["core"] = _prompt_map(cfg).init(key_prompt, code)["params"]
    return params | ({"condition": condition} if condition else {})


def embed(params: Any, obs: Array, prev_reward: Array, cfg: Any) -> Array:
    """Embedding [..., D] of an observation [..., O] and the reward before it [...]."""
    x = jnp.concatenate([obs, prev_reward[..., None]], axis=-1)
    return _encoder(cfg).apply({"params": params["encoder"]}, x)


def posterior(params: Any, embedding: Array, cfg: Any) -> tuple[Array, Array]:
    """Mean and log-variance [..., D] of the latent given its embedding [..., D]."""
    return _posterior(cfg).apply({"params": params["posterior"]}, embedding)


def prior(params: Any, token: Token, code: Array, cfg: Any) -> tuple[Array, Array]:
    """Mean and log-variance [..., D] of the latent after a token given the code [..., Z].

    Here and below the code may lack the last leading axis of the features, time.
    """
    token = token._replace(feats=_conditioned(params, "prior", token.feats, code, cfg))
    return _prior(cfg).apply({"params": params["prior"]}, *_seen(token, cfg))


def decode(params: Any, latent: Array, code: Array, cfg: Any) -> tuple[Array, Array]:
    """Means and log-variances [E, ..., O+1] of (obs, previous reward) given a latent [..., D].

    One for each of the E members of the ensemble. They share all networks but the decoder and are
    trained on the same data; only their initial parameters differ. A single member has parameters
    without a leading axis.
    """
    latent = _conditioned(params, "decoder", latent, code, cfg)
    net = _decoder(cfg, params["decoder"]["max_logvar"].shape[-1])
    if cfg.world_model.ensemble > 1:
        return jax.vmap(lambda member: net.apply({"params": member}, latent))(params["decoder"])
    mean, logvar = net.apply({"params": params["decoder"]}, latent)
    return mean[None], logvar[None]


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
    return Encoded(embedding, mean, logvar, latent, feats, bound(code, cfg))


def see_code(
    params: Any, view: View, encoded: Encoded, code: Array, noise: EncodeNoise, cfg: Any
) -> Encoded:
    """The encoding of windows [..., L] for predictions under the codes [..., Z].

    With `world_model.condition` "token" a second pass of the core makes the features, over the same
    latents and under the same dropout, with the code as a token that all steps see; otherwise they
    are those of `encode`.
    """
    if cfg.world_model.condition != "token":
        return encoded
    feats = _core(cfg).apply(
        {"params": params["core"]},
        encoded.latent,
        view.action,
        view.valid,
        _prompt(params, code, cfg),
        noise.attention,
        method="prompted",
    )
    return encoded._replace(feats=feats)


def encode_task(params: Any, view: View, noise: EncodeNoise, cfg: Any) -> Array:
    """The task code [..., Z] of `encode` alone, at about half the cost; without dropout."""
    *_, latent = _latents(params, view, noise.posterior, cfg)
    code = _core(cfg).apply(
        {"params": params["core"]}, latent, view.action, view.valid, method="task_code"
    )
    return bound(code, cfg)


def prefill(params: Any, view: View, code: Array, noise: Array, cfg: Any) -> tuple[Token, Any]:
    """Feeds K real steps of one rollout: code [Z], noise [K, D] -> tokens [K, ...], cache."""
    *_, latent = _latents(params, view, noise, cfg)
    prompt = _prompt(params, code, cfg)
    core = {"params": params["core"]}
    feats, cache = _core(cfg).apply(core, latent, view.action, prompt, method="prefill")
    return Token(feats, latent, view.action), cache


def extend(params: Any, cache: Any, latent: Array, action: Array, cfg: Any) -> tuple[Token, Any]:
    """Feeds one more token of one rollout, latent [D] and action [A] -> token, cache."""
    core = {"params": params["core"]}
    feats, cache = _core(cfg).apply(core, cache, latent, action, method="step")
    return Token(feats, latent, action), cache


def bound(code: Array, cfg: Any) -> Array:
    """Bounds the scale of codes [..., Z]: "sphere" is unit mean square over Z."""
    if cfg.world_model.code_bound == "none":
        return code
    return code * jax.lax.rsqrt(jnp.mean(code**2, axis=-1, keepdims=True) + 1e-6)


def draw_encode_noise(key: Array, shape: tuple[int, ...], cfg: Any) -> EncodeNoise:
    """Posterior noise for windows of `shape` (..., L), without dropout: for inference."""
    return EncodeNoise(jax.random.normal(key, (*shape, cfg.world_model.latent_dim)))


def _encoder(cfg: Any) -> MLP:
    model = cfg.world_model
    bound = {"reference": 3e-3, "precise": 2 * model.width**-0.5}[model.latent_init]
    return MLP((model.width, model.width), model.latent_dim, bound, skip=model.skip)


def _decoder(cfg: Any, features: int) -> Decoder:
    model = cfg.world_model
    return Decoder((model.width, model.width), features, model.skip)


def _posterior(cfg: Any) -> GaussianHead:
    offset = {"reference": 0.0, "precise": PRECISE_LOGVAR}[cfg.world_model.latent_init]
    return GaussianHead(cfg.world_model.latent_dim, offset)


def _prior(cfg: Any) -> nn.Module:
    if cfg.world_model.prior == "change":
        return ChangePrior(cfg.world_model.latent_dim, PRECISE_LOGVAR)
    return GaussianHead(cfg.world_model.latent_dim)


def _seen(token: Token, cfg: Any) -> tuple[Array, ...]:
    """What of a token the prior sees."""
    return token if cfg.world_model.prior == "change" else token[:1]


def _core(cfg: Any) -> nn.Module:
    model = cfg.world_model
    sizes = model.width, model.num_layers, model.num_heads, model.context_len, model.code_dim
    return CORES[model.core](*sizes)


def _condition(cfg: Any) -> Condition:
    return Condition(cfg.world_model.condition)


def _prompt_map(cfg: Any) -> nn.Dense:
    return linear(cfg.world_model.width, cfg.world_model.code_dim)


def _prompt(params: Any, code: Array, cfg: Any) -> Array | None:
    """The token [..., H] through which the code [..., Z] enters the core; None without one."""
    if cfg.world_model.condition != "token":
        return None
    return _prompt_map(cfg).apply({"params": params["condition"]["core"]}, code)


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
