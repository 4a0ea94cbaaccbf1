"""Cores that may take the Transformer's place: a GRU, and an MLP without memory.

They show whether a property of the task code comes from the objective or from the architecture.
Both have the Transformer's interface and ignore what only it has: heads, positions, attention
dropout.
"""

import flax.linen as nn
import jax.numpy as jnp

from metastar.models.nets.mlp import linear
from metastar.models.nets.transformer import STEM_EPSILON, layer_norm
from metastar.types import Array


class Stem(nn.Module):
    """(latent, action) -> token, as the Transformer's: two linear maps, each normalised."""

    width: int

    @nn.compact
    def __call__(self, latent: Array, action: Array) -> Array:
        """[..., D] and [..., A] -> [..., H]."""
        x = jnp.concatenate([latent, action], axis=-1)
        x = nn.relu(layer_norm(STEM_EPSILON, "norm_0")(linear(self.width, name="linear_0")(x)))
        return layer_norm(STEM_EPSILON, "norm_1")(linear(self.width, name="linear_1")(x))


class Recurrent(nn.Module):
    """A stack of GRUs; the task code is computed from the last valid state of the top layer.

    A prompt is read before the first step.

    Cho et al. 2014 (arXiv 1406.1078), as the context encoder of Meta-DT has it.
    """

    width: int
    num_layers: int
    num_heads: int
    max_len: int
    code_dim: int

    def setup(self):
        """Declares the layers."""
        self.stem = Stem(self.width)
        self.cells = [nn.GRUCell(self.width) for _ in range(self.num_layers)]
        self.task_head = linear(self.code_dim, self.width)

    def __call__(
        self, latent: Array, action: Array, valid: Array, attention: Array | None = None
    ) -> tuple[Array, Array]:
        """As `Transformer.__call__`; a padded step does not move the state."""
        x, last = self._run(latent, action, valid)
        return x, self.task_head(last)

    def task_code(self, latent: Array, action: Array, valid: Array) -> Array:
        """The task code [..., Z] alone."""
        return self.task_head(self._run(latent, action, valid)[1])

    def prompted(
        self,
        latent: Array,
        action: Array,
        valid: Array,
        prompt: Array,
        attention: Array | None = None,
    ) -> Array:
        """As `Transformer.prompted`."""
        return self._scan(self.stem(latent, action), valid, prompt)[1]

    def prefill(
        self, latent: Array, action: Array, prompt: Array | None = None
    ) -> tuple[Array, Array]:
        """Takes [K, D], [K, A] and perhaps [H]; returns features [K, H] and states [layers, H]."""
        x, valid = self.stem(latent, action), jnp.ones(latent.shape[:-1], bool)
        return self._scan(x, valid, prompt)[::-1]

    def step(self, cache: Array, latent: Array, action: Array) -> tuple[Array, Array]:
        """Feeds one more token, latent [D] and action [A]; returns features [H] and the states."""
        return self._advance(cache, self.stem(latent, action), jnp.asarray(True))[::-1]

    def _run(self, latent, action, valid):
        """Features [..., L, H] and the last state [..., H] of the top layer."""
        state, feats = self._scan(self.stem(latent, action), valid)
        return feats, state[-1]

    def _scan(self, x, valid, prompt=None):
        """Tokens [..., L, H] -> states [layers, ..., H], features [..., L, H]."""
        state = jnp.zeros((self.num_layers, *x.shape[:-2], self.width), x.dtype)
        if prompt is not None:
            state, _ = self._advance(state, prompt, jnp.ones(prompt.shape[:-1], bool))
        scan = nn.scan(
            lambda core, state, inputs: core._advance(state, *inputs),
            variable_broadcast="params",
            split_rngs={"params": False},
        )
        state, feats = scan(self, state, (jnp.moveaxis(x, -2, 0), jnp.moveaxis(valid, -1, 0)))
        return state, jnp.moveaxis(feats, 0, -2)

    def _advance(self, state, x, valid):
        """One token [..., H] through all layers; returns the states and the top layer's output."""
        states = []
        for cell, before in zip(self.cells, state):
            after, _ = cell(before, x)
            states.append(jnp.where(valid[..., None], after, before))
            x = states[-1]
        return jnp.stack(states), x


class Memoryless(nn.Module):
    """An MLP on each token alone; the task code is computed from the mean over valid tokens.

    The architecture of FOCAL's codes (Li et al. 2021, arXiv 2010.01112). It takes no prompt, since
    no step sees another token.
    """

    width: int
    num_layers: int
    num_heads: int
    max_len: int
    code_dim: int

    def setup(self):
        """Declares the layers."""
        self.stem = Stem(self.width)
        self.layers = [linear(self.width, self.width) for _ in range(self.num_layers)]
        self.task_head = linear(self.code_dim, self.width)

    def __call__(
        self, latent: Array, action: Array, valid: Array, attention: Array | None = None
    ) -> tuple[Array, Array]:
        """As `Transformer.__call__`."""
        x = self._features(latent, action)
        weight = valid[..., None] / jnp.maximum(valid.sum(-1), 1)[..., None, None]
        return x, self.task_head((weight * x).sum(-2))

    def task_code(self, latent: Array, action: Array, valid: Array) -> Array:
        """The task code [..., Z] alone."""
        return self(latent, action, valid)[1]

    def prefill(self, latent: Array, action: Array, prompt: None = None) -> tuple[Array, tuple]:
        """Takes [K, D] and [K, A]; returns features [K, H] and an empty cache."""
        return self._features(latent, action), ()

    def step(self, cache: tuple, latent: Array, action: Array) -> tuple[Array, tuple]:
        """Feeds one token, latent [D] and action [A]; returns features [H] and an empty cache."""
        return self._features(latent, action), cache

    def _features(self, latent, action):
        x = self.stem(latent, action)
        for layer in self.layers:
            x = nn.relu(layer(x))
        return x
