"""The context encoder of a system: what it is asked for, codes of contexts, and inference."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from metastar import registry
from metastar.config.fields import NOT_NEGATIVE, Field
from metastar.errors import UserError
from metastar.types import Adaptation, Array, Codes, Context, DataSpec, Encoder, View

SECTION = {
    "name": Field("mean_mlp", "encoder", "a file of encoders/", selector=True),
    "shortest": Field(
        0,
        NOT_NEGATIVE,
        "transitions of the shortest contexts in training, where each has a uniform number from "
        "this to context_len; zero-shot, codes are then inferred from as few own steps; 0: all "
        "have context_len",
        before=0,
    ),
}
ASKED = {  # settings that every encoder must have, and what they tell a method
    "code_dim": "how many entries its codes have",
    "context": "whether it reads bags or windows",
    "context_len": "how many transitions it reads",
}


def check(cfg: Any, method: str) -> None:
    """Raises `UserError` unless a method can use the encoder and the contexts that `cfg` chooses.

    Args:
        cfg: the sections `encoder` and `sampler`, the latter with `sampler.VIEWS` if the method
            draws contexts of several sources.
        method: for the sentence.
    """
    name, own = cfg.encoder.name, cfg.encoder[cfg.encoder.name]
    if missing := [field for field in ASKED if field not in own]:
        raise UserError(
            f"encoder {name!r} has no setting {missing[0]!r}, which tells method {method!r} "
            f"{ASKED[missing[0]]}; add it to the file's DEFAULTS"
        )
    if cfg.encoder.shortest > own.context_len:
        raise UserError(
            f"encoder.shortest is {cfg.encoder.shortest}, but contexts have "
            f"encoder.{name}.context_len = {own.context_len} transitions; lower the first"
        )
    if cfg.sampler.get("positive") == "other_behavior" and own.context == "bag":
        raise UserError(
            "sampler.positive='other_behavior' needs contexts of one source, but a bag mixes "
            f"those of its task; set encoder.{name}.context='window'"
        )


def make(cfg: Any, spec: DataSpec) -> tuple[Encoder, Context]:
    """The encoder that the section `encoder` chooses, and the form of its contexts."""
    own = cfg[cfg.name]
    encoder = registry.make("encoder", cfg.name, own, spec)
    return encoder, Context(own.context_len, ordered=own.context == "window", shortest=cfg.shortest)


def encode(
    encoder: Encoder,
    net: Any,
    views: dict[str, View],
    names: Sequence[str],
    key: Array,
    cfg: Any,
) -> dict[str, Codes]:
    """The codes of context views [M, L], by view, in one pass of the encoder.

    Args:
        encoder: of `make`.
        net: its parameters.
        views: those of a batch, by name.
        names: V of them, the contexts.
        key: PRNG key.
        cfg: the section `encoder`.

    Raises:
        UserError: they are no codes [V, M, Z] that can be joined to observations.
    """
    found = (views[name] for name in names)
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *found)  # [V, M, L]
    noise = encoder.draw_noise(key, stacked.valid.shape)
    codes = encoder.encode(net, stacked, noise)
    expect_codes(codes.task, stacked.valid.shape[1:-1], cfg)
    return {name: jax.tree.map(lambda x, i=i: x[i], codes) for i, name in enumerate(names)}


def expect_codes(code: Array, batch: tuple[int, ...], cfg: Any) -> None:
    """Raises `UserError` unless codes [V, *batch, Z] can be joined to observations."""
    dim = cfg[cfg.name].code_dim
    shape = (*batch, dim)
    if dim < 1 or code.shape[1:] != shape or not jnp.issubdtype(code.dtype, jnp.floating):
        raise UserError(
            f"encoder {cfg.name!r} gives codes of shape {code.shape[1:]} and type {code.dtype}, "
            f"but an agent takes real numbers of shape {shape}, where encoder.{cfg.name}.code_dim "
            f"is {dim} and must be at least 1"
        )


def make_infer(encoder: Encoder, net: Callable, whiten_view: Callable) -> Callable:
    """`Method.infer`: the code of one context, [1, L].

    Args:
        encoder: of `make`.
        net: (exported parameters of the method) -> those of the encoder.
        whiten_view: of `data.normalize`, as in training.
    """

    def infer(params, view, task, key):
        context = whiten_view(jax.tree.map(lambda x: x[0], view))
        noise = encoder.draw_noise(key, context.valid.shape)
        return Adaptation(encoder.encode(net(params), context, noise).task)

    return infer


def mean_of_valid(each: Array, valid: Array) -> Array:
    """Mean of [..., L, Z] over the valid transitions [..., L]: [..., Z]; zero where there is none.

    >>> each, valid = jnp.array([[1.0], [3.0], [9.0]]), jnp.array([True, True, False])
    >>> mean_of_valid(each, valid).tolist(), mean_of_valid(each, valid & False).tolist()
    ([2.0], [0.0])
    """
    total = jnp.sum(jnp.where(valid[..., None], each, 0), axis=-2)
    return total / jnp.maximum(valid.sum(-1, keepdims=True), 1)
