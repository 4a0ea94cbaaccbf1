"""Figures of the scans of `metastar bench`: throughput and time against the size of one axis."""

import io
from pathlib import Path

from matplotlib.figure import Figure

from metastar import files
from metastar.errors import UserError

_COLORS = ("#1f77b4", "#d62728", "#2ca02c", "#9467bd", "#8c564b", "#e377c2")


def read(folder: str | Path) -> dict[str, dict]:
    """Results of `metastar bench` in a folder, by name.

    Raises `UserError` if there is none, or a file is damaged or was edited.
    """
    found = {}
    for file in sorted(Path(folder).glob("*.json")):
        # Results of earlier versions have no checksum.
        found[file.stem] = files.read_json(file, "run its benchmark again", sealed=False)
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
            figure(report).savefig(buffer, format="png")
            files.write_atomic(file, buffer.getvalue())
            drawn.append(file)
    return drawn


def series(report: dict) -> dict[str, list[tuple[float, dict]]]:
    """The cases of a scan over numbers: {case: [(size, measured)]}; {} of any other result."""
    found = {}
    for label, case in report["cases"].items() if report["axis"] else ():
        size, _, name = label.removeprefix(f"{report['axis']}=").partition(", ")
        try:
            found.setdefault(name, []).append((float(size), case))
        except ValueError:
            return {}
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
