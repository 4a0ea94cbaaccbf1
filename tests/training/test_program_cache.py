import os
import warnings

import jax
import jax.numpy as jnp
import pytest
from jax.experimental.compilation_cache import compilation_cache

from metastar import main as cli
from metastar.training import program_cache

SETTINGS = {
    "jax_enable_compilation_cache": True,
    "jax_persistent_cache_min_compile_time_secs": 0.0,
}


@pytest.fixture
def folder(tmp_path):
    """JAX's cache in a folder of the test's own."""
    settings = SETTINGS | {"jax_compilation_cache_dir": str(tmp_path)}
    before = {name: getattr(jax.config, name) for name in settings}
    for values in (settings, before):
        for name, value in values.items():
            jax.config.update(name, value)
        compilation_cache.reset_cache()
        jax.clear_caches()
        if values is settings:
            yield tmp_path


def compile_and_run(folder):
    """Compiles anew as far as this process knows; returns the entry and what JAX warned of."""
    jax.clear_caches()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert jax.jit(lambda x: jnp.sin(x) @ x)(jnp.eye(3)).shape == (3, 3)
    entries = list(folder.glob("jit__lambda*-cache"))
    assert len(entries) == 1
    return entries[0], [str(warning.message) for warning in caught]


@pytest.mark.parametrize("left", [0.0, 0.5, 0.99])
def test_an_entry_that_was_cut_off_costs_a_warning_and_a_compilation(folder, left):
    entry, said = compile_and_run(folder)
    assert not said and not compile_and_run(folder)[1]
    os.truncate(entry, int(left * entry.stat().st_size))
    _, said = compile_and_run(folder)
    assert len(said) == 1 and "Error reading persistent compilation cache entry" in said[0]


def test_where_programs_are_kept():
    environ = {"XDG_CACHE_HOME": "/cache"}
    program_cache.keep(environ)
    assert environ["JAX_COMPILATION_CACHE_DIR"] == "/cache/metastar/jax"
    environ = {}
    program_cache.keep(environ)
    assert environ["JAX_COMPILATION_CACHE_DIR"].endswith("/.cache/metastar/jax")
    environ = {"JAX_COMPILATION_CACHE_DIR": "/own"}
    program_cache.keep(environ)
    assert environ == {"JAX_COMPILATION_CACHE_DIR": "/own"}
    program_cache.keep_none(environ)
    assert environ["JAX_ENABLE_COMPILATION_CACHE"] == "false"


def test_benchmarks_compile_anew(monkeypatch):
    monkeypatch.setenv("JAX_ENABLE_COMPILATION_CACHE", "true")
    assert cli.main(["bench", "update"]) == 2  # has no config
    assert os.environ["JAX_ENABLE_COMPILATION_CACHE"] == "false"
