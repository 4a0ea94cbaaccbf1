"""metastar: offline meta-reinforcement learning with world models, in JAX and Flax."""

__version__ = "0.1.0"
