"""A file of recorded numbers in one precision, and how far results may be from it."""

from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

# Float32 sees nothing that float64 does not, but for its own rounding.
PRECISIONS = [
    pytest.param(64, id="float64"),
    pytest.param(32, id="float32", marks=pytest.mark.slow),
]
GOLDEN = Path(__file__).parent / "golden"


def file_with(key, name, config):
    """The file that `--reference` names if it has that key, else the golden one of that name."""
    asked = Path(config.getoption("--reference")).resolve()
    with np.load(asked) as file:
        return asked if key in file else GOLDEN / name


class Recorded:
    """Arrays of one block of a file: `source` in the precision asked for, `expected` results.

    Float32 and float64 results lie under the same names, the latter behind "expected64/".
    """

    after_error = None  # limit of float32 parameters after a step; None: as of values

    def __init__(self, name, block, bits):
        with np.load(GOLDEN / name) as file:
            heads = block, f"expected64/{block}"
            arrays = {key: file[key] for key in file.files if key.startswith(heads)}
        self.bits = bits
        dtype = {32: jnp.float32, 64: jnp.float64}[bits]
        plain = {k.removeprefix(block): x for k, x in arrays.items() if k.startswith(block)}
        prefix = f"expected64/{block}" if bits == 64 else block
        heads = ("out/", "grad/", "after/", "after2/")
        results = {k.removeprefix(prefix): x for k, x in arrays.items() if k.startswith(prefix)}
        self.expected = {k: x for k, x in results.items() if k.startswith(heads)}
        self.source = {
            k: jnp.asarray(x, dtype if np.issubdtype(x.dtype, np.floating) else None)
            for k, x in plain.items()
            if not k.startswith((*heads, "expected64/"))
        }

    def params(self, prefix):
        """{name: array} of the parameters under a prefix."""
        return {k.removeprefix(prefix): x for k, x in self.source.items() if k.startswith(prefix)}

    def misses(self, actual, grad_error=1e-4):
        """What is too far from the record, as text; every recorded key must be in `actual`."""
        assert set(actual) == set(self.expected)
        found = [self._miss(key, np.asarray(x), grad_error) for key, x in actual.items()]
        return [line for line in found if line]

    def gate(self, rest):
        """The gradient, or a bound on it, of what is recorded as "after/" + `rest`."""
        return self.expected.get(f"grad/{rest}")

    def _miss(self, key, actual, grad_error):
        expected = self.expected[key]
        if actual.size != expected.size:
            return f"{key}: shape {actual.shape} against {expected.shape}"
        actual = actual.reshape(expected.shape)
        kind, _, rest = key.partition("/")
        grad = self.gate(rest)
        if kind.startswith("after") and grad is not None:
            # Adam turns the rounding noise of a vanishing gradient into a whole step.
            moved = np.abs(grad) > 1e-5
            actual, expected = actual[moved], expected[moved]
        if not actual.size:
            return None
        error, size = np.abs(actual - expected).max(), np.abs(expected).max()
        if self.bits == 64:
            limit = 1e-10 * size
        elif kind == "after" and self.after_error:
            limit = self.after_error
        elif kind == "grad":
            limit = min(1e-5 * max(1, size), grad_error * size)
        else:
            limit = 1e-5 * max(1, size)
        return None if error <= limit else f"{key}: error {error:.2e}, size {size:.2e}"
