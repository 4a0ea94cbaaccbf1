"""The results of `metastar bench`, as JSON and text, from the seconds of its cases and probes."""

import contextlib
import math
import os
import platform
import resource
import tempfile
from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np

from metastar.tools.bench import roofline
from metastar.tools.bench.cases import CONFIGURED, CONSTANT, Case
from metastar.tools.bench.timing import interleaved, spread
from metastar.tools.report import tables
from metastar.training import flops
from metastar.training.flops import Product
from metastar.training.metrics import MetricsWriter

_CPUINFO = Path("/proc/cpuinfo")


def machine() -> dict:
    """The machine that the numbers were measured on."""
    return {
        "device": jax.devices()[0].device_kind,
        "platform": jax.default_backend(),
        "device_count": jax.device_count(),
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
    }


def measured(cases: dict[str, Case], probes: dict, seconds: dict) -> dict:
    """The entries "cases", "probes" and "memory" of a result.

    Args:
        cases: by label.
        probes: by `Product`, or by name.
        seconds: of each call of a case or a probe, by the same keys, [repeats].

    Returns:
        For each case `seconds` of its calls, `units` in a call, `per_unit` (spread of the seconds
        of one), `per_second` (units, at the median), `relative` (seconds of a unit over those of
        the first case, median over rounds), matrix FLOPs of one unit counted by hand, the rate
        that makes, the rate of the same products alone (`matrix_rate`), and their ratio
        `of_matrix_rate`; null where a case has no matrix products.
    """
    rates = {
        probe: tool.amount / spread(seconds[probe])["median"] for probe, tool in probes.items()
    }
    alone = {p: p.flops / rate for p, rate in rates.items() if isinstance(p, Product)}
    first, *_ = cases
    reference = np.divide(seconds[first], cases[first].units)
    return {
        "cases": {
            label: _case(case, np.array(seconds[label]), reference, alone)
            for label, case in cases.items()
        },
        "probes": {
            str(probe): {
                "amount": tool.amount,
                "unit": "FLOP" if isinstance(probe, Product) else "byte",
                "per_second": rates[probe],
                "seconds": seconds[probe],
            }
            for probe, tool in probes.items()
        },
        "memory": {
            "process_peak_bytes": 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
            "device": jax.devices()[0].memory_stats(),  # null on CPUs
        },
    }


def _case(case: Case, seconds: np.ndarray, reference: np.ndarray, alone: dict) -> dict:
    per_unit = seconds / case.units
    median = spread(per_unit)["median"]
    per_unit_flops = flops.flops(case.products) / case.units
    matrix_rate = roofline.matrix_rate(case.products, alone)
    return {
        "unit": case.unit,
        "units": case.units,
        "per_unit": spread(per_unit),
        "per_second": 1 / median,
        "relative": float(np.median(per_unit / reference)),
        "matmul_flops": per_unit_flops,
        "flops_per_second": per_unit_flops / median,
        "matrix_rate": _number(matrix_rate),
        "of_matrix_rate": _number(per_unit_flops / median / matrix_rate),
        "xla_flops": _number(case.xla_flops),
        "peak_bytes": case.peak_bytes,
        "parameters": case.parameters,
        "compile_seconds": case.compile_seconds,
        "products": {str(p): num / case.units for p, num in case.products.items()},
        "scopes": {name: num / case.units for name, num in (case.scopes or {}).items()},
        "seconds": seconds.tolist(),
    }


def overhead(cases: dict[str, Case], seconds: dict, chunk: int, repeats: int) -> dict:
    """The time of an update that is not arithmetic: sampling, metrics, logging, transfers.

    The difference to the same chunk with a constant batch, which returns no metrics, and the row of
    metrics that the host writes once in `chunk` updates.

    Returns:
        `row_seconds` of one row, and `share` of an update, the median over rounds.
    """
    _, metrics = cases[CONFIGURED].call()
    metrics = {name: np.resize(value, chunk) for name, value in metrics.items()}
    with (
        tempfile.TemporaryDirectory() as folder,
        contextlib.closing(MetricsWriter(Path(folder), 0)) as writer,
    ):

        def row():
            means = {name: float(x.mean(dtype=np.float64)) for name, x in metrics.items()}
            writer.write({"step": 1, **means})

        row_seconds = spread(interleaved({"row": row}, repeats)["row"])["median"]
    whole, bare = (np.divide(seconds[name], cases[name].units) for name in (CONFIGURED, CONSTANT))
    share = float(np.median((whole - bare) / whole)) + row_seconds / chunk / np.median(whole)
    return {"row_seconds": row_seconds, "share": float(share)}


def text(report: dict) -> str:
    """A result as a table for a terminal."""
    head = (
        f"{report['part']} on {report['device']} ({report['cpu']}, {report['cores']} cores), "
        f"median and quartiles of {report['repeats']} interleaved repeats, "
        f"{report['clock']} clock"
    )
    lines = [head, "", tables.plain(rows(report["cases"])), ""]
    for name, probe in report["probes"].items():
        lines.append(f"{name}: {probe['per_second'] / 1e9:.1f} G{probe['unit']}/s")
    lines += _by_scope(report["cases"])
    if "overhead" in report:
        share = report["overhead"]["share"]
        lines.append(f"sampling, metrics, logging and transfers: {100 * share:.1f} % of an update")
    return "\n".join(lines)


def rows(cases: dict[str, dict]) -> list[Sequence[str]]:
    """The table of some cases of a result."""
    unit = next(iter(cases.values()))["unit"]
    head = ("", f"ms per {unit}", "quartiles", f"{unit}s/s", "relative", "GFLOP", "GFLOP/s")
    table = [(*head, "of matrix rate", "peak MiB", "parameters", "compile s")]
    for name, case in cases.items():
        low, high = (1e3 * case["per_unit"][f"quartile_{i}"] for i in (1, 3))
        table.append(
            (
                name,
                f"{1e3 * case['per_unit']['median']:.4g}",
                f"{low:.4g} to {high:.4g}",
                f"{case['per_second']:.4g}",
                f"{case['relative']:.3g}",
                f"{case['matmul_flops'] / 1e9:.3g}",
                f"{case['flops_per_second'] / 1e9:.3g}",
                _percent(case["of_matrix_rate"]),
                "–" if case["peak_bytes"] is None else f"{case['peak_bytes'] / 2**20:.1f}",
                "–" if case.get("parameters") is None else f"{case['parameters']:,}",
                f"{case['compile_seconds']:.1f}",
            )
        )
    return table


def _by_scope(cases: dict[str, dict]) -> list[str]:
    """The share of matrix products by named scope, for cases whose update has such scopes."""
    lines = []
    for name, case in cases.items():
        total = sum(case["scopes"].values())
        shares = [f"{k} {100 * x / total:.0f} %" for k, x in case["scopes"].items() if k and total]
        if shares:
            lines.append(f"matrix products, {name}: {', '.join(shares)}")
    return lines


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.0f} %"


def _number(value: float | None) -> float | None:
    """JSON knows no NaN."""
    return None if value is None or not math.isfinite(value) else float(value)


def _cpu_model() -> str:
    if _CPUINFO.exists():
        for line in _CPUINFO.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
