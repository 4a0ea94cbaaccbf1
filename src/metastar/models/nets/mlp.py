"""Multilayer perceptrons with the reference's initialisations."""

from collections.abc import Callable

import flax.linen as nn
import jax

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


class MLP(nn.Module):
    """Hidden layers with ReLU and a linear output: [..., n] -> [..., features]."""

    hidden: tuple[int, ...]
    features: int
    output_bound: float = 3e-3

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Applies the layers to the last axis."""
        for i, width in enumerate(self.hidden):
            x = nn.relu(hidden_layer(width, f"hidden_{i}")(x))
        return output_layer(self.features, self.output_bound, "output")(x)
