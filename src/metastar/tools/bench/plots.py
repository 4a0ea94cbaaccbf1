"""Figures of the scans of `metastar bench`: throughput and time against the size of one axis."""

import io
import re
from pathlib import Path

import matplotlib
from matplotlib.figure import Figure

from metastar import files
from metastar.errors import UserError
from metastar.files import Each, Maybe

_SPREAD = dict.fromkeys(("median", "quartile_1", "quartile_3"), float)
_FORM = {
    **dict.fromkeys(("part", "device"), str),
    "axis": Maybe(str),
    "cases": Each({"unit": str, "per_second": float, "per_unit": _SPREAD}),
    "config": dict.fromkeys(("method", "family", "preset"), str),
}
_SIZE = re.compile(r"[0-9]{1,18}(\.[0-9]+)?(e[+-]?[0-9]{1,2})?")
_REMEDY = "run its benchmark again"
_COLORS = ("#1f77b4", "#d62728", "#2ca02c", "#9467bd", "#8c564b", "#e377c2")


def read(folder: str | Path) -> dict[str, dict]:
    """Results of `metastar bench` in a folder, by name.

    Raises `UserError` if there is none, or a file is damaged or was edited.
    """
    found = {}
    for file in sorted(Path(folder).glob("*.json")):
        # Results of earlier versions have no checksum.
        report = files.read_json(file, _REMEDY, sealed=False)
        otherwise = f"{file} is not the result of a benchmark"
        files.expect(report, _FORM, otherwise, _REMEDY)
        if not all(map(_is_measured, report["cases"].values())):
            raise UserError(f"{otherwise}: it has times that nothing takes; {_REMEDY}")
        found[file.stem] = report
    if not found:
        raise UserError(f"no result in {str(folder)!r}; run `metastar bench PART --config=...`")
    return found


def write(folder: str | Path) -> list[Path]:
    """Draws every scan over numbers of a folder, `<name>.png` beside the result; returns the files.

    Raises `UserError` as `read` does.
    """
    drawn = []
    for name, report in read(folder).items():
        if series(report):
            file = Path(folder) / f"{name}.png"
            buffer = io.BytesIO()
            with matplotlib.rc_context({"text.parse_math": False}):
                figure(report).savefig(buffer, format="png")
            files.write_atomic(file, buffer.getvalue())
            drawn.append(file)
    return drawn


def _is_measured(case: dict) -> bool:
    """Whether quartiles of seconds are in order, and all of a size that can be drawn."""
    spread = case["per_unit"]
    times = 1e-30, spread["quartile_1"], spread["median"], spread["quartile_3"], 1e30
    return sorted(times) == list(times) and 1e-30 <= case["per_second"] <= 1e30


def series(report: dict) -> dict[str, list[tuple[float, dict]]]:
    """The cases of a scan over numbers above 0: {case: [(size, measured)]}; {} of other results."""
    found = {}
    for label, case in report["cases"].items() if report["axis"] else ():
        size, _, name = label.removeprefix(f"{report['axis']}=").partition(", ")
        if not _SIZE.fullmatch(size):
            return {}
        if float(size) > 0:  # the axis is logarithmic
            found.setdefault(name, []).append((float(size), case))
    return found


def figure(report: dict) -> Figure:
    """Throughput, and the time of a unit, on logarithmic axes.

    The dotted line of the times is linear in the size, through the first one.
    """
    canvas = Figure(figsize=(9, 3.6), layout="constrained")
    rate, cost = canvas.subplots(1, 2)
    for color, (name, points) in zip(_COLORS, series(report).items()):
        sizes = [size for size, _ in points]
        unit = points[0][1]["unit"]
        rate.plot(sizes, [case["per_second"] for _, case in points], "o-", color=color, label=name)
        spreads = [case["per_unit"] for _, case in points]
        times = [1e3 * spread["median"] for spread in spreads]
        below = [1e3 * (s["median"] - s["quartile_1"]) for s in spreads]
        above = [1e3 * (s["quartile_3"] - s["median"]) for s in spreads]
        cost.errorbar(sizes, times, (below, above), fmt="o-", color=color)
        cost.plot(sizes, [times[0] * size / sizes[0] for size in sizes], ":", color=color)
        rate.set_ylabel(f"{unit}s per second")
        cost.set_ylabel(f"ms per {unit}; dotted: linear")
    for axes in (rate, cost):
        axes.set(xscale="log", yscale="log", xlabel=report["axis"])
        axes.grid(alpha=0.3)
    rate.legend(frameon=False)
    config = report["config"]
    canvas.suptitle(
        f"{report['part']}, {config['method']} on {config['family']}:{config['preset']}, "
        f"{report['device']}"
    )
    return canvas
