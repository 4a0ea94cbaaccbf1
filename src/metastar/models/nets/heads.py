"""Small heads of the world model: latent distributions, decoder, termination."""

import flax.linen as nn
import jax.numpy as jnp

from metastar.models.nets.mlp import linear, output_layer
from metastar.models.nets.product import dot_general
from metastar.models.nets.transformer import STEM_EPSILON, layer_norm
from metastar.types import Array

LOGVAR_MIN, LOGVAR_MAX = -10.0, 2.0
CHANGE_BOUND = 1e-2  # of the weights of a changing prior's outputs at the start


class GaussianHead(nn.Module):
    """Mean and log-variance of a latent as two linear maps: [..., n] -> two of [..., D]."""

    latent_dim: int
    logvar_offset: float = 0.0  # added to the log-variance: its initial value

    @nn.compact
    def __call__(self, x: Array) -> tuple[Array, Array]:
        """Returns the mean and the log-variance, clipped to [-10, 2]."""
        mean = linear(self.latent_dim, x.shape[-1], "mean")(x)
        logvar = linear(self.latent_dim, x.shape[-1], "logvar")(x) + self.logvar_offset
        return mean, jnp.clip(logvar, LOGVAR_MIN, LOGVAR_MAX)


class ChangePrior(nn.Module):
    """Next latent as a change of the present one, by an MLP of features, latent and action.

    Two hidden layers, twice as wide as the features like the feed-forward layers of the core. It
    starts as "nothing changes" with log-variances near `logvar_offset`.
    """

    latent_dim: int
    logvar_offset: float

    @nn.compact
    def __call__(self, feats: Array, latent: Array, action: Array) -> tuple[Array, Array]:
        """[..., H], [..., D], [..., A] -> mean and log-variance [..., D], clipped to [-10, 2]."""
        x = jnp.concatenate([feats, latent, action], axis=-1)
        for i in range(2):
            x = nn.silu(linear(2 * feats.shape[-1], x.shape[-1], f"hidden_{i}")(x))
        change = output_layer(self.latent_dim, CHANGE_BOUND, "change")(x)
        logvar = output_layer(self.latent_dim, CHANGE_BOUND, "logvar")(x) + self.logvar_offset
        return latent + change, jnp.clip(logvar, LOGVAR_MIN, LOGVAR_MAX)


class Decoder(nn.Module):
    """Gaussian over (obs, reward) given a latent, with learned soft bounds on the log-variance.

    `v <- max - softplus(max - v)`, then `v <- min + softplus(v - min)`: PETS, Chua et al. 2018
    (arXiv 1805.12114), appendix A.1. With `skip` a linear map of the latent without bias is added
    to the mean.
    """

    hidden: tuple[int, ...]
    features: int
    skip: bool = False

    @nn.compact
    def __call__(self, latent: Array) -> tuple[Array, Array]:
        """[..., D] -> mean and log-variance [..., features]."""
        x = latent
        for i, width in enumerate(self.hidden):
            x = nn.relu(self._layer(width, f"hidden_{i}")(x))
        x = self._layer(2 * self.features, "output")(x)
        mean, logvar = jnp.split(x, 2, axis=-1)
        if self.skip:
            mean = mean + linear(self.features, name="skip")(latent)
        top = self.param("max_logvar", nn.initializers.constant(0.5), (self.features,))
        bottom = self.param("min_logvar", nn.initializers.constant(-10.0), (self.features,))
        batch_axes = range(x.ndim - 1)
        top, bottom = jnp.expand_dims(top, batch_axes), jnp.expand_dims(bottom, batch_axes)
        logvar = top - nn.softplus(top - logvar)
        return mean, bottom + nn.softplus(logvar - bottom)

    def _layer(self, width: int, name: str) -> nn.Dense:
        """Weights N(0, 1 / (4 fan_in)), biases zero."""
        init = nn.initializers.variance_scaling(0.25, "fan_in", "normal")
        return nn.Dense(width, kernel_init=init, dot_general=dot_general, name=name)


class Termination(nn.Module):
    """Logit of a true terminal: [..., H] -> [...]."""

    width: int

    def setup(self):
        """Declares the layers."""
        self.layer_0 = linear(self.width)
        self.norm_0 = layer_norm(STEM_EPSILON)
        self.layer_1 = linear(self.width)
        self.norm_1 = layer_norm(STEM_EPSILON)
        self.output = linear(1, self.width)

    def __call__(self, feats: Array) -> Array:
        """Returns the logit of `done` at the same step."""
        x = nn.relu(self.norm_0(self.layer_0(feats)))
        x = nn.relu(self.norm_1(self.layer_1(x)))
        return self.output(x)[..., 0]
