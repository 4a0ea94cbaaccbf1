import os
from pathlib import Path

# Tests compile much and compute little. Set before JAX starts, and inherited by the processes that
# tests start.
os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_backend_optimization_level=0"
# Nor do they depend on what was compiled before.
os.environ["JAX_ENABLE_COMPILATION_CACHE"] = "false"

import jax
import pytest

jax.config.update("jax_numpy_rank_promotion", "raise")

GOLDEN = Path(__file__).parent / "golden"


def pytest_addoption(parser):
    parser.addoption(
        "--reference",
        default=str(GOLDEN / "reference_step.npz"),
        help="reference file of recorded numbers; any sizes",
    )


@pytest.fixture
def x64():
    with jax.enable_x64(True):
        yield
