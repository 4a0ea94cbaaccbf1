from pathlib import Path

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
