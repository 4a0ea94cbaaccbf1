import contextlib
import gc
import os
import resource
import shutil
import tempfile
from importlib.metadata import version
from pathlib import Path

# Tests compile much and compute little: no optimisation, one LLVM module a program, and fusions by
# XLA's older emitters, which compile in half the time of those by way of MLIR. jaxlib 0.12 has no
# choice of emitters any more, and ends a process that asks for one. Set before JAX starts, and
# inherited by the processes that tests start.
os.environ["XLA_FLAGS"] = " ".join(
    [
        os.environ.get("XLA_FLAGS", ""),
        "--xla_backend_optimization_level=0",
        "--xla_cpu_parallel_codegen_split_count=1",
        "--xla_cpu_use_fusion_emitters=false" if version("jaxlib").startswith("0.10.") else "",
    ]
)
# Nor do they depend on what was compiled before: a session has a cache of its own, shared by its
# workers and by the processes that tests start, since many tests compile the same debug runs.
os.environ["JAX_COMPILATION_CACHE_DIR"] = (
    os.environ["JAX_COMPILATION_CACHE_DIR"]
    if "PYTEST_XDIST_WORKER" in os.environ
    else tempfile.mkdtemp(prefix="metastar-test-")
)
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.1"

import jax
import pytest

import golden_npz
from metastar import registry

jax.config.update("jax_numpy_rank_promotion", "raise")
# Tracing makes many small objects that live on, which need not be looked through for cycles often.
gc.set_threshold(50_000)


def pytest_addoption(parser):
    parser.addoption(
        "--reference",
        type=Path,
        help="a file of recorded numbers, told apart by its keys, in place of that of its layout "
        "in tests/golden; with -m parity",
    )


def pytest_configure(config):
    try:
        golden_npz.asked_layout(config)
    except ValueError as error:
        raise pytest.UsageError(str(error)) from None


def pytest_runtest_setup(item):
    asked, marker = golden_npz.asked_layout(item.config), item.get_closest_marker("parity")
    if asked and marker and marker.args != (asked,):
        pytest.skip(
            f"--reference is a file of {asked!r}, this test compares with {marker.args[0]!r}"
        )


def pytest_terminal_summary(terminalreporter):
    """How many tries `tests/hostile` made, in all processes, and what came of them."""
    reports = [r for found in terminalreporter.stats.values() for r in found if hasattr(r, "when")]
    tries = [dict(r.user_properties).get("tries") for r in reports if r.when == "call"]
    if tries := list(filter(None, tries)):
        total = {kind: sum(count[kind] for count in tries) for kind in tries[0]}
        terminalreporter.write_line(
            f"hostile input: {sum(total.values())} tries, {total['taken']} taken, "
            f"{total['refused']} refused in one sentence, {total['broken']} neither"
        )


def pytest_unconfigure(config):
    if not hasattr(config, "workerinput"):  # in the process that started the workers, if any
        shutil.rmtree(os.environ["JAX_COMPILATION_CACHE_DIR"], ignore_errors=True)


@pytest.fixture(autouse=True)
def no_extensions(monkeypatch):
    """No test knows what `imports` of another made known."""
    monkeypatch.setattr(registry, "_imported", {})


@pytest.fixture
def x64():
    with jax.enable_x64(True):
        yield


@pytest.fixture
def file_limit():
    """`with file_limit(num_bytes):` no file can grow beyond so many, as on a disk that is full."""

    @contextlib.contextmanager
    def limit(num_bytes):
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, hard))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    return limit
