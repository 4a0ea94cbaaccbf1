"""Multilayer perceptrons with the reference's initialisations."""

from collections.abc import Callable
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from metastar.models.nets.product import dot_general
from metastar.types import Array


def uniform(bound: float) -> Callable:
    """Initialiser U(-bound, bound)."""

    def init(key, shape, dtype=None):
        return jax.random.uniform(key, shape, dtype, -bound, bound)

    return init


def linear(features: int, bias_fan_in: int | None = None, name: str | None = None) -> nn.Dense:
    """Linear map whose weights and biases start at U(±1/sqrt(fan_in)).

    Biases start in a range that depends on the number of inputs, `bias_fan_in`; None: no bias.
    """
    return nn.Dense(
        features,
        use_bias=bias_fan_in is not None,
        kernel_init=nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform"),
        bias_init=uniform((bias_fan_in or 1) ** -0.5),
        dot_general=dot_general,
        name=name,
    )


def hidden_layer(features: int, name: str, use_bias: bool = True) -> nn.Dense:
    """Hidden layer in the initialisation of rlkit: weights U(±1/sqrt(fan_out)), biases 0.1."""
    return nn.Dense(
        features,
        use_bias,
        kernel_init=uniform(features**-0.5),
        bias_init=nn.initializers.constant(0.1),
        dot_general=dot_general,
        name=name,
    )


def output_layer(features: int, bound: float, name: str) -> nn.Dense:
    """Last layer in the initialisation of rlkit: weights and biases U(±bound), bound small."""
    return nn.Dense(
        features,
        kernel_init=uniform(bound),
        bias_init=uniform(bound),
        dot_general=dot_general,
        name=name,
    )


def mish(x: Array) -> Array:
    """`x tanh(log(1 + e^x))`; Misra 2019 (arXiv 1908.08681)."""
    return x * jnp.tanh(nn.softplus(x))


def norm_mish(x: Array, name: str) -> Array:
    """LayerNorm of the last axis, then Mish, in the module that calls it."""
    return mish(nn.LayerNorm(epsilon=1e-5, use_fast_variance=False, name=f"{name}_norm")(x))


def small_layer(features: int, name: str, use_bias: bool = True) -> nn.Dense:
    """Layer in the initialisation of TD-MPC2 (arXiv 2310.16828): weights N(0, 0.02^2), biases 0."""
    return nn.Dense(
        features,
        use_bias,
        kernel_init=nn.initializers.normal(0.02),
        dot_general=dot_general,
        name=name,
    )


class Layers(NamedTuple):
    """What a network is made of; its layers are made inside the module that they belong to."""

    hidden: Callable  # (features, name, use_bias) -> Dense
    activate: Callable  # (x [..., n], name of the layer) -> [..., n]
    output: Callable  # (features, bound, name) -> Dense


LAYERS = {
    "relu": Layers(hidden_layer, lambda x, name: nn.relu(x), output_layer),
    "norm_mish": Layers(
        small_layer, norm_mish, lambda features, bound, name: small_layer(features, name)
    ),
}


class MLP(nn.Module):
    """Hidden layers and a linear output: [..., n] -> [..., features].

    With `skip` a linear map of the input without bias is added to the output.
    """

    hidden: tuple[int, ...]
    features: int
    output_bound: float = 3e-3
    layers: str = "relu"
    skip: bool = False

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Applies the layers to the last axis."""
        layers = LAYERS[self.layers]
        y = hidden_layers(x, self.hidden, self.layers)
        y = layers.output(self.features, self.output_bound, "output")(y)
        return y + linear(self.features, name="skip")(x) if self.skip else y


def hidden_layers(x: Array, widths: tuple[int, ...], kind: str, first: int = 0) -> Array:
    """Applies the hidden layers number `first` and on of a network, inside its module."""
    layers = LAYERS[kind]
    for i, width in enumerate(widths, first):
        name = f"hidden_{i}"
        x = layers.activate(layers.hidden(width, name)(x), name)
    return x
