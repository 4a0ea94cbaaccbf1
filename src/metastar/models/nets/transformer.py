"""Causal Transformer with a task token: one full pass, and the same thing token by token."""

import math
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from metastar.models.nets.mlp import linear
from metastar.types import Array

STEM_EPSILON = 1e-5
BLOCK_EPSILON = 1e-6


def layer_norm(epsilon: float, name: str | None = None) -> nn.LayerNorm:
    """LayerNorm with the two-pass variance; the fast variance loses half the digits."""
    return nn.LayerNorm(epsilon=epsilon, use_fast_variance=False, name=name)


class Cache(NamedTuple):
    """Keys and values of the tokens so far of one rollout.

    The table has P rows for steps, and one more, the first, where there is a prompt.
    """

    key: Array  # [layers, rows, H]
    value: Array  # [layers, rows, H]
    length: Array  # [] int: rows that are filled


class Block(nn.Module):
    """Post-norm block: `x = LN(x + attention(x))`, then `x = LN(x + feed_forward(x))`.

    Vaswani et al. 2017 (arXiv 1706.03762), section 3; feed-forward H -> 2H -> H with ReLU.
    """

    width: int
    num_heads: int

    def setup(self):
        """Declares the layers."""
        self.query = linear(self.width)
        self.key = linear(self.width)
        self.value = linear(self.width)
        self.out = linear(self.width)
        self.attention_norm = layer_norm(BLOCK_EPSILON)
        self.expand = linear(2 * self.width, self.width)
        self.contract = linear(self.width, 2 * self.width)
        self.feed_forward_norm = layer_norm(BLOCK_EPSILON)

    def keys_values(self, x: Array) -> tuple[Array, Array]:
        """Keys and values [..., P, H] of tokens [..., P, H]."""
        return self.key(x), self.value(x)

    def __call__(
        self, x: Array, key: Array, value: Array, mask: Array, keep: Array | None = None
    ) -> Array:
        """Applies the block to Q tokens.

        Args:
            x: [..., Q, H].
            key: [..., P, H].
            value: [..., P, H].
            mask: [..., Q, P] bool, of the rank of x: which keys a query may see.
            keep: [..., heads, Q, P] factors on the attention weights, or None.

        Returns:
            [..., Q, H].
        """
        query, key, value = (self._split(part) for part in (self.query(x), key, value))
        score = jnp.einsum("...qhd,...khd->...hqk", query, key) / math.sqrt(query.shape[-1])
        weight = jax.nn.softmax(jnp.where(mask[..., None, :, :], score, -jnp.inf), axis=-1)
        if keep is not None:
            weight = weight * keep
        mixed = jnp.einsum("...hqk,...khd->...qhd", weight, value).reshape(x.shape)
        x = self.attention_norm(x + self.out(mixed))
        return self.feed_forward_norm(x + self.contract(nn.relu(self.expand(x))))

    def _split(self, x: Array) -> Array:
        """Cuts the features into heads, contiguous slices: [..., P, heads, H / heads]."""
        return x.reshape(*x.shape[:-1], self.num_heads, -1)


class Transformer(nn.Module):
    """Tokens are (latent, action) pairs with learned positions; a task token sees all of them.

    The task token is learned, comes last and has no position. STORM (Zhang et al. 2023, arXiv
    2310.09615) with the task token of MetaSTAR (arXiv 2606.00780). A prompt is a given token
    [..., H] that comes first, has no position and is seen by all.
    """

    width: int
    num_layers: int
    num_heads: int
    max_len: int  # P: rows of the position table
    code_dim: int

    def setup(self):
        """Declares the layers."""
        self.stem_0 = linear(self.width)
        self.stem_norm_0 = layer_norm(STEM_EPSILON)
        self.stem_1 = linear(self.width)
        self.stem_norm_1 = layer_norm(STEM_EPSILON)
        unit = nn.initializers.normal(1.0)
        self.position = self.param("position", unit, (self.max_len, self.width))
        self.task_token = self.param("task_token", unit, (self.width,))
        self.norm = layer_norm(BLOCK_EPSILON)
        self.blocks = [Block(self.width, self.num_heads) for _ in range(self.num_layers)]
        self.task_head = linear(self.code_dim, self.width)

    def __call__(
        self, latent: Array, action: Array, valid: Array, attention: Array | None = None
    ) -> tuple[Array, Array]:
        """One causal pass over L tokens and the task token.

        Args:
            latent: [..., L, D].
            action: [..., L, A].
            valid: [..., L] bool; a padded step is seen by itself only.
            attention: [..., layers, heads, L+1, L+1] factors on the attention weights, or None.

        Returns:
            Features [..., L, H] and task code [..., Z].
        """
        x = self._move(*self._tokens(latent, action, valid), attention)
        return x[..., :-1, :], self.task_head(x[..., -1, :])

    def prompted(
        self,
        latent: Array,
        action: Array,
        valid: Array,
        prompt: Array,
        attention: Array | None = None,
    ) -> Array:
        """Features [..., L, H] as those of `__call__`, after a prompt and without a task token."""
        return self._move(*self._tokens(latent, action, valid, prompt), attention)[..., 1:, :]

    def task_code(self, latent: Array, action: Array, valid: Array) -> Array:
        """The task code [..., Z] alone: the last block computes the task token's row only."""
        x, mask = self._tokens(latent, action, valid)
        *blocks, last = self.blocks
        for block in blocks:
            x = block(x, *block.keys_values(x), mask)
        token = last(x[..., -1:, :], *last.keys_values(x), mask[..., -1:, :])
        return self.task_head(token[..., 0, :])

    def prefill(
        self, latent: Array, action: Array, prompt: Array | None = None
    ) -> tuple[Array, Cache]:
        """Causal pass over the first K tokens of one rollout, without task token.

        Takes [K, D], [K, A] and perhaps a prompt [H]; returns features [K, H] and the cache that
        holds them.
        """
        num = latent.shape[0]
        x = self._embed(latent, action, self.position[:num])
        if prompt is not None:
            x = jnp.concatenate([prompt[None], x])
        x = self.norm(x)
        mask = _causal(x.shape[0])
        keys, values = [], []
        for block in self.blocks:
            key, value = block.keys_values(x)
            x = block(x, key, value, mask)
            keys.append(key)
            values.append(value)
        room = ((0, 0), (0, self.max_len - num), (0, 0))
        table = (jnp.pad(jnp.stack(rows), room) for rows in (keys, values))
        return x[-num:], Cache(*table, jnp.asarray(x.shape[0]))

    def step(self, cache: Cache, latent: Array, action: Array) -> tuple[Array, Cache]:
        """Feeds one more token, latent [D] and action [A]; returns features [H] and the cache."""
        rows = cache.key.shape[1]
        prompts = rows - self.max_len
        position = jax.lax.dynamic_index_in_dim(self.position, cache.length - prompts)
        x = self.norm(self._embed(latent[None], action[None], position))
        mask = (jnp.arange(rows) <= cache.length)[None]
        keys, values = [], []
        for i, block in enumerate(self.blocks):
            key, value = block.keys_values(x)
            keys.append(jax.lax.dynamic_update_slice(cache.key[i], key, (cache.length, 0)))
            values.append(jax.lax.dynamic_update_slice(cache.value[i], value, (cache.length, 0)))
            x = block(x, keys[i], values[i], mask)
        return x[0], Cache(jnp.stack(keys), jnp.stack(values), cache.length + 1)

    def _embed(self, latent: Array, action: Array, position: Array) -> Array:
        """Stem and position: [..., L, D], [..., L, A], [L, H] -> [..., L, H]."""
        x = jnp.concatenate([latent, action], axis=-1)
        x = nn.relu(self.stem_norm_0(self.stem_0(x)))
        x = self.stem_norm_1(self.stem_1(x))
        return x + jnp.expand_dims(position, range(x.ndim - 2))

    def _tokens(
        self, latent: Array, action: Array, valid: Array, prompt: Array | None = None
    ) -> tuple[Array, Array]:
        """L+1 tokens [..., L+1, H] and the attention mask [..., L+1, L+1].

        Beside the L steps there is the task token after them, or the prompt before them.
        """
        x = self._embed(latent, action, self.position[: latent.shape[-2]])
        always = jnp.ones_like(valid[..., :1])
        if prompt is None:
            token = jnp.broadcast_to(self.task_token, (*x.shape[:-2], 1, self.width))
            tokens, seen = (x, token), (valid, always)
        else:
            tokens, seen = (prompt[..., None, :], x), (always, valid)
        x = self.norm(jnp.concatenate(tokens, axis=-2))
        num = x.shape[-2]
        batch_axes = range(x.ndim - 2)
        causal = jnp.expand_dims(_causal(num), batch_axes)
        itself = jnp.expand_dims(jnp.eye(num, dtype=bool), batch_axes)
        return x, causal & (jnp.concatenate(seen, axis=-1)[..., None, :] | itself)

    def _move(self, x: Array, mask: Array, attention: Array | None) -> Array:
        """Applies all blocks to tokens [..., L+1, H]."""
        for i, block in enumerate(self.blocks):
            keep = None if attention is None else attention[..., i, :, :, :]
            x = block(x, *block.keys_values(x), mask, keep)
        return x


def _causal(num: int) -> Array:
    """Lower triangle [num, num] with the diagonal."""
    return jnp.tril(jnp.ones((num, num), bool))
