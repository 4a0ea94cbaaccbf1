"""metastar: offline meta-reinforcement learning with world models, in JAX and Flax.

`metastar.load(workdir)` returns a trained agent.
"""

from typing import Any

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """Imports `load` on first use, so that `import metastar` does not import JAX."""
    if name != "load":
        raise AttributeError(f"module 'metastar' has no attribute {name!r}")
    from metastar.loading import load

    return load
