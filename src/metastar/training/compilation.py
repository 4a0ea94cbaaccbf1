"""Compiles a jitted function before it runs, and measures time, memory and operations."""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

from metastar.training.memory import expect_products


class Compiled(NamedTuple):
    """A jitted function at one set of shapes."""

    run: Callable
    jaxpr: Any
    seconds: float  # to trace and compile
    xla_flops: float  # XLA's cost analysis, which counts a loop's body once; NaN if it has none
    peak_bytes: int  # arguments included


def compiled(function: Callable, *args: Any) -> Compiled:
    """Compiles a jitted function for arguments like these; runs nothing.

    Raises:
        UserError: as `memory.expect_products`.
    """
    began = time.perf_counter()
    traced = function.trace(*args)
    expect_products(traced.jaxpr.jaxpr)
    program = traced.lower().compile()
    seconds = time.perf_counter() - began
    memory = program.memory_analysis()
    peak = (
        memory.argument_size_in_bytes
        + memory.output_size_in_bytes
        + memory.temp_size_in_bytes
        - memory.alias_size_in_bytes
    )
    cost = program.cost_analysis() or {}
    xla_flops = cost.get("flops", float("nan"))
    return Compiled(program, traced.jaxpr.jaxpr, seconds, xla_flops, peak)
