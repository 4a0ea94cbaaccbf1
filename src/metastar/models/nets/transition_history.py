"""Networks of a context-aware world model: a GRU over the last transitions, and two decoders.

Meta-DT (Wang et al. 2024, NeurIPS).
"""

import flax.linen as nn
import jax.numpy as jnp

from metastar.models.nets.product import dot_general
from metastar.types import Array


def glorot(features: int, name: str | None = None) -> nn.Dense:
    """Linear map with the initialisation of Glorot and Bengio (2010), biases 0."""
    init = nn.initializers.xavier_uniform()
    return nn.Dense(features, kernel_init=init, dot_general=dot_general, name=name)


class HistoryEncoder(nn.Module):
    """Codes [..., Z] of h transitions [..., h, O + A + 1], the columns (s, a, r).

    Each part is embedded on its own; a GRU (Cho et al. 2014, arXiv 1406.1078) reads the rows in
    time order from state 0. Its gates have two biases each, as PyTorch's: one bias alone would be
    the same function, but would move half as fast.
    """

    obs_dim: int
    action_dim: int
    embed_dim: int
    width: int
    code_dim: int

    def setup(self):
        """Declares the layers."""
        self.obs, self.action, self.reward = (glorot(self.embed_dim) for _ in range(3))
        init = nn.initializers.orthogonal()
        gates = 3 * self.width
        self.gates_input = nn.Dense(gates, kernel_init=init, dot_general=dot_general)
        self.gates_state = nn.Dense(gates, kernel_init=init, dot_general=dot_general)
        self.output = glorot(self.code_dim)

    def __call__(self, rows: Array) -> Array:
        """Rows of zeros, which stand for what does not exist, are read as all others."""
        obs, action, reward = jnp.split(rows, (self.obs_dim, self.obs_dim + self.action_dim), -1)
        parts = self.action(action), self.obs(obs), self.reward(reward)
        inputs = self.gates_input(nn.relu(jnp.concatenate(parts, -1)))
        state = jnp.zeros((*rows.shape[:-2], self.width), inputs.dtype)
        for t in range(rows.shape[-2]):  # few, so that no loop is needed
            reset, update, new = jnp.split(inputs[..., t, :], 3, -1)
            reset_state, update_state, new_state = jnp.split(self.gates_state(state), 3, -1)
            update = nn.sigmoid(update + update_state)
            new = jnp.tanh(new + nn.sigmoid(reset + reset_state) * new_state)
            state = (1 - update) * new + update * state
        return self.output(state)


class Decoder(nn.Module):
    """(s, a, z), and s' where it is given, -> [..., features]."""

    embed_dim: int
    hidden: int
    features: int

    @nn.compact
    def __call__(self, obs: Array, action: Array, code: Array, next_obs: Array | None = None):
        """One embedding serves both observations."""
        embed = glorot(self.embed_dim, "obs")
        parts = [nn.relu(embed(obs)), nn.relu(glorot(self.embed_dim, "action")(action))]
        if next_obs is not None:
            parts.append(nn.relu(embed(next_obs)))
        x = jnp.concatenate([*parts, code], -1)
        for i in range(2):
            x = nn.relu(glorot(self.hidden, f"hidden_{i}")(x))
        return glorot(self.features, "output")(x)
