"""Causal Transformer over (return-to-go, state, action) with a task code at the state token.

Meta-DT (Wang et al. 2024, NeurIPS), after the Decision Transformer (Chen et al. 2021, arXiv
2106.01345) and Prompt-DT (Xu et al. 2022, arXiv 2206.13499). A prompt of k steps comes first, from
embeddings of its own. One full pass for training, and the same thing token by token with a cache.
"""

import math
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from metastar.config.fields import COUNT, Field
from metastar.errors import UserError
from metastar.models.nets.mlp import linear, small_layer
from metastar.models.nets.transformer import layer_norm
from metastar.types import Array

DEFAULTS = {
    "width": Field(128, COUNT, "H; Meta-DT 128"),
    "num_layers": Field(3, COUNT, "blocks; Meta-DT 3"),
    "num_heads": Field(1, COUNT, "of attention; Meta-DT 1"),
    "dropout": Field(0.1, "[0, 1)", "of tokens, attention and both branches; Meta-DT 0.1"),
}
EPSILON = 1e-5
TOKENS = 3  # of a step, in the order (return-to-go, state, action)
STATE = 1  # the token at which the action is read


def check(cfg) -> None:
    """Raises `UserError` for heads of unequal widths."""
    if cfg.width % cfg.num_heads:
        raise UserError(
            f"transformer.num_heads={cfg.num_heads} does not divide transformer.width={cfg.width}; "
            "choose a divisor"
        )


class Steps(NamedTuple):
    """Consecutive steps of one episode, leaves [..., L, ...]."""

    to_go: Array  # [..., L] sum of the rewards from here on, in units of the return's scale
    obs: Array  # [..., L, O] as networks see it
    code: Array | None  # [..., L, Z]; a prompt has none
    action: Array  # [..., L, A]
    step: Array  # [..., L] int: number within the episode
    valid: Array  # [..., L] bool


class Cache(NamedTuple):
    """Keys and values of the tokens so far."""

    key: Array  # [layers, rows, H]
    value: Array  # [layers, rows, H]


class Keep(NamedTuple):
    """Factors of dropout, 0 or 1 / (1 - rate), where GPT-2 has it; P tokens."""

    tokens: Array  # [..., P, H]
    attention: Array  # [..., layers, heads, P, P]
    mixed: Array  # [..., layers, P, H] what attention adds
    fed: Array  # [..., layers, P, H] what the feed-forward net adds


class PreNormBlock(nn.Module):
    """`x = x + attention(LN(x))`, then `x = x + feed_forward(LN(x))`, H -> 4H -> H with ReLU."""

    width: int
    num_heads: int

    def setup(self):
        """Declares the layers."""
        self.attention_norm = layer_norm(EPSILON)
        self.project = small_layer(3 * self.width, None)
        self.out = small_layer(self.width, None)
        self.feed_forward_norm = layer_norm(EPSILON)
        self.expand = small_layer(4 * self.width, None)
        self.contract = small_layer(self.width, None)

    def query_key_value(self, x: Array) -> list[Array]:
        """Three of [..., P, H] of tokens [..., P, H]."""
        return jnp.split(self.project(self.attention_norm(x)), 3, axis=-1)

    def __call__(
        self,
        x: Array,
        query: Array,
        key: Array,
        value: Array,
        mask: Array,
        keep: Keep | None = None,
    ) -> Array:
        """Applies the block to Q tokens [..., Q, H] that see P rows under a mask [..., Q, P]."""
        query, key, value = (self._split(part) for part in (query, key, value))
        score = jnp.einsum("...qhd,...khd->...hqk", query, key) / math.sqrt(query.shape[-1])
        weight = jax.nn.softmax(jnp.where(mask[..., None, :, :], score, -jnp.inf), axis=-1)
        if keep is not None:
            weight = weight * keep.attention
        mixed = jnp.einsum("...hqk,...khd->...qhd", weight, value).reshape(x.shape)
        mixed = self.out(mixed)
        x = x + (mixed if keep is None else mixed * keep.mixed)
        fed = self.contract(nn.relu(self.expand(self.feed_forward_norm(x))))
        return x + (fed if keep is None else fed * keep.fed)

    def _split(self, x: Array) -> Array:
        """Cuts the features into heads, contiguous slices: [..., P, heads, H / heads]."""
        return x.reshape(*x.shape[:-1], self.num_heads, -1)


class Embedding(nn.Module):
    """Steps as tokens [..., L, 3, H]: a linear map of each part, plus a learned row of its time."""

    width: int
    max_steps: int  # T: rows of the table of times
    obs_dim: int
    action_dim: int
    state_dim: int = 0  # 0: the state is embedded as it is, without a code
    code_dim: int = 0

    def setup(self):
        """Declares the layers."""
        table = nn.initializers.normal(1.0)
        self.time = self.param("time", table, (self.max_steps, self.width))
        self.to_go = linear(self.width, 1)
        self.action = linear(self.width, self.action_dim)
        if self.state_dim:
            self.state = linear(self.state_dim, self.obs_dim)
        self.joined = linear(self.width, (self.state_dim or self.obs_dim) + self.code_dim)

    def __call__(self, steps: Steps) -> Array:
        """Tokens in the order (return-to-go, state, action)."""
        x = self.state(steps.obs) if self.state_dim else steps.obs
        if self.code_dim:
            x = jnp.concatenate([x, steps.code], -1)
        parts = self.to_go(steps.to_go[..., None]), self.joined(x), self.action(steps.action)
        return jnp.stack([part + self.time[steps.step] for part in parts], -2)


class DecisionTransformer(nn.Module):
    """Actions from returns-to-go, states and codes; its parameters of prompts are in "prompt"."""

    width: int
    num_layers: int
    num_heads: int
    max_steps: int  # T: rows of both tables of times
    obs_dim: int
    action_dim: int
    state_dim: int  # of the state's embedding, which is joined with the code
    code_dim: int

    def setup(self):
        """Declares the layers."""
        sizes = self.width, self.max_steps, self.obs_dim, self.action_dim
        self.embed = Embedding(*sizes, self.state_dim, self.code_dim)
        self.prompt = Embedding(*sizes)
        self.norm = layer_norm(EPSILON)
        self.blocks = [PreNormBlock(self.width, self.num_heads) for _ in range(self.num_layers)]
        self.last_norm = layer_norm(EPSILON)
        self.action = linear(self.action_dim, self.width)

    def __call__(self, steps: Steps, prompt: Steps | None = None, keep: Keep | None = None):
        """Actions [..., L, A] in (-1, 1), each from the steps up to its own and the prompt.

        Raises `UserError` for more steps than the tables of times have rows.
        """
        x, mask = self.inputs(steps, prompt)
        found = self.features(x, mask, keep)[-1][..., -TOKENS * steps.step.shape[-1] :, :]
        return self.read(found[..., STATE::TOKENS, :])

    def inputs(self, steps: Steps, prompt: Steps | None = None) -> tuple[Array, Array]:
        """Tokens [..., P, H] and the mask of attention [..., P, P], P = 3 (k + L).

        A padded step is seen by none but itself.
        """
        for part in (steps, prompt):
            expect_steps(0 if part is None else part.step.shape[-1], self.max_steps)
        x, valid = self.tokens(steps), jnp.repeat(steps.valid, TOKENS, -1)
        if prompt is not None:
            x = jnp.concatenate([self.prompt_tokens(prompt), x], -2)
            valid = jnp.concatenate([jnp.repeat(prompt.valid, TOKENS, -1), valid], -1)
        num = x.shape[-2]
        axes = range(x.ndim - 2)
        causal = jnp.expand_dims(jnp.tril(jnp.ones((num, num), bool)), axes)
        itself = jnp.expand_dims(jnp.eye(num, dtype=bool), axes)
        return x, causal & valid[..., None, :] | itself

    def features(self, x: Array, mask: Array, keep: Keep | None = None) -> list[Array]:
        """What each block makes of tokens [..., P, H], and last the normalised end."""
        found = []
        x = x if keep is None else x * keep.tokens
        for i, block in enumerate(self.blocks):
            own = keep and Keep(
                keep.tokens,
                keep.attention[..., i, :, :, :],
                keep.mixed[..., i, :, :],
                keep.fed[..., i, :, :],
            )
            x = block(x, *block.query_key_value(x), mask, own)
            found.append(x)
        return [*found, self.last_norm(x)]

    def tokens(self, steps: Steps) -> Array:
        """Tokens [..., 3 L, H] of steps, normalised."""
        x = self.embed(steps)
        return self.norm(x.reshape(*x.shape[:-3], -1, self.width))

    def prompt_tokens(self, prompt: Steps) -> Array:
        """Tokens [..., 3 k, H] of a prompt, which are not normalised."""
        x = self.prompt(prompt)
        return x.reshape(*x.shape[:-3], -1, self.width)

    def read(self, x: Array) -> Array:
        """The action [..., A] of the last features [..., H] of a state token."""
        return jnp.tanh(self.action(x))

    def empty(self, rows: int) -> Cache:
        """A cache of that many rows."""
        zero = jnp.zeros((self.num_layers, rows, self.width))
        return Cache(zero, zero)

    def extend(self, cache: Cache, x: Array, start: Array, seen: Array) -> tuple[Array, Cache]:
        """Feeds Q tokens [Q, H], as rows `start`, `start` + 1, ... of a cache.

        Args:
            cache: of the tokens before.
            x: the tokens.
            start: [] int.
            seen: [rows] bool, False for rows that no other token sees.

        Returns:
            The features [Q, H] after the last norm, and the cache.
        """
        rows, own = jnp.arange(len(seen))[None], start + jnp.arange(len(x))[:, None]
        mask = (rows <= own) & seen[None] | (rows == own)
        keys, values = [], []
        for i, block in enumerate(self.blocks):
            query, key, value = block.query_key_value(x)
            keys.append(jax.lax.dynamic_update_slice(cache.key[i], key, (start, 0)))
            values.append(jax.lax.dynamic_update_slice(cache.value[i], value, (start, 0)))
            x = block(x, query, keys[i], values[i], mask)
        return self.last_norm(x), Cache(jnp.stack(keys), jnp.stack(values))


def expect_steps(num: int, max_steps: int) -> None:
    """Raises `UserError` for a sequence longer than the tables of times."""
    if num > max_steps:
        raise UserError(
            f"a sequence of {num} steps is longer than the {max_steps} of the episodes that this "
            "Transformer is trained on; shorten it"
        )


def draw_keep(key: Array, shape: tuple[int, ...], num: int, net: DecisionTransformer, rate: float):
    """Draws `Keep` for `num` steps, prompt included, of sequences of a shape; None at rate 0."""
    if not rate:
        return None
    num, layers = TOKENS * num, net.num_layers
    shapes = Keep(
        (*shape, num, net.width),
        (*shape, layers, net.num_heads, num, num),
        (*shape, layers, num, net.width),
        (*shape, layers, num, net.width),
    )
    keys = jax.random.split(key, len(shapes))
    return Keep(*(jax.random.bernoulli(k, 1 - rate, s) / (1 - rate) for k, s in zip(keys, shapes)))
