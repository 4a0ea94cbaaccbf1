"""Timing: calls take turns, and only what lies between two looks at the clock counts."""

import jax
import jax.numpy as jnp
import pytest

from metastar.tools.bench import timing
from metastar.training import compilation


def test_every_round_has_each_call_once_in_an_order_of_its_own():
    now, order = [0.0], []

    def taking(name, seconds):
        def call():
            order.append(name)
            now[0] += seconds
            return jnp.zeros(())

        return call

    durations = {"a": 1.0, "b": 10.0, "c": 100.0}
    calls = {name: taking(name, seconds) for name, seconds in durations.items()}
    seconds = timing.interleaved(calls, repeats=8, clock=lambda: now[0])
    assert seconds == {name: [duration] * 8 for name, duration in durations.items()}
    rounds = [tuple(order[i : i + 3]) for i in range(0, len(order), 3)]
    assert len(rounds) == 9 and all(sorted(names) == ["a", "b", "c"] for names in rounds)
    before_b = {names[names.index("b") - 1] for names in rounds if names.index("b")}
    assert before_b == {"a", "c"}  # no call always follows the same one


def test_a_call_is_over_when_its_arrays_are_there(monkeypatch):
    waited = []
    monkeypatch.setattr(timing.jax, "block_until_ready", waited.append)
    timing.interleaved({"a": lambda: "array"}, repeats=1)
    assert waited == ["array", "array"]


@pytest.mark.parametrize(("taken", "expected"), [(10.0, 1), (0.5, 2), (1e-9, 7)])
def test_rounds_fill_the_seconds_that_are_wanted(monkeypatch, taken, expected):
    looks = iter([0.0, taken])
    monkeypatch.setattr(timing.time, "perf_counter", lambda: next(looks))
    assert timing.rounds_for(lambda: None, seconds=1.0, most=7) == expected


def test_compiling_runs_nothing_and_counts_arguments():
    x = jnp.ones((8, 16))
    made = compilation.compiled(jax.jit(lambda x: x @ x.T), x)
    assert made.peak_bytes >= 4 * (8 * 16 + 8 * 8)
    assert made.xla_flops >= 2 * 8 * 16 * 8
    assert made.run(x).shape == (8, 8) and made.seconds > 0
