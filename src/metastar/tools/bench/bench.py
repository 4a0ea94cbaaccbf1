"""`metastar bench`: how fast parts of a run are on this device, and how fast they could be."""

import itertools
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
from ml_collections import ConfigDict, FrozenConfigDict

from metastar import config, files
from metastar.errors import UserError, did_you_mean
from metastar.tools.bench import cases as bench_parts
from metastar.tools.bench import evaluation as bench_eval
from metastar.tools.bench import report as bench_report
from metastar.tools.bench import roofline
from metastar.tools.bench import setting as bench_data
from metastar.tools.bench import simulators as bench_simulators
from metastar.tools.bench.cases import Case
from metastar.tools.bench.setting import Setting
from metastar.tools.bench.timing import interleaved
from metastar.training import provenance

PARTS = ("update", "world_model", "imagine", "critic", "env", "eval", "infer", "seeds")
# Seconds; "cpu" are those of this process alone, whatever else the machine does: the time of a loop
# on one thread of a busy machine.
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}
# Short names of the axes that are scanned most, and the field of each.
AXES = {
    "meta_batch": "sampler.meta_batch",
    "batch_size": "sampler.batch_size",
    "num_rollouts": "imagine.num_rollouts",
    "horizon": "imagine.horizon",
    "context_len": "world_model.context_len",
    "num_actions": "agent.conservative.num_actions",
    "windows": "eval.windows",
    "streams": "eval.zero_shot_streams",
    "num_seeds": "num_seeds",
}


class Sizes(NamedTuple):
    """The axis of a scan."""

    axis: str  # as the user calls it
    field: str
    values: tuple


_ONE_SIZE = Sizes("", "", (None,))
_SEEDS = Sizes("num_seeds", "num_seeds", (1, 2, 4, 8))


def run(
    part: str,
    cfg: FrozenConfigDict,
    out: str | Path,
    sizes: str = "",
    repeats: int = 20,
    max_steps: int = 0,
    profile: bool = False,
    command: str = "",
    systems: Mapping[str, FrozenConfigDict] | None = None,
    clock: str = "wall",
) -> str:
    """Times one part; writes `<out>/<name>.json` and returns a table of it.

    In each of `repeats` rounds every case and every probe of the device runs once.

    Args:
        part: a name of `PARTS`.
        cfg: a valid config; the data are random and of its shapes.
        out: folder of the results.
        sizes: "axis=value,value,...": the part at each value; "" is the config as it is.
        repeats: rounds.
        max_steps: of "env" and "eval": steps of an episode at most; 0 leaves them as they are.
        profile: also writes a trace of one call of each case, `<out>/<name>_trace`.
        command: what the file shows as its origin.
        systems: configs by label, whose updates are timed side by side, `cfg` first among them.
        clock: a name of `CLOCKS`.

    Raises:
        UserError: the part is unknown or the method lacks it; an axis or a value is wrong; systems
            are to be compared by a part or an axis; the folder cannot be made.
    """
    if part not in PARTS:
        raise UserError(f"bench knows no part {part!r}{did_you_mean(part, PARTS)}")
    if repeats < 1:
        raise UserError(f"--repeats is {repeats} but must be at least 1")
    if max_steps < 0:
        raise UserError(f"--max-steps is {max_steps} but must be at least 0")
    if systems and (part != "update" or sizes):
        raise UserError("bench compares configs by their whole update: bench update, no --sizes")
    scan = parse_sizes(sizes, cfg) if sizes else _SEEDS if part == "seeds" else _ONE_SIZE
    folder = Path(out)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"cannot make folder {str(out)!r} ({error.strerror}); name another with --out"
        ) from None
    cases = {label: _whole_update(label, one) for label, one in (systems or {}).items()}
    for size, variant in () if systems else variants(scan, cfg):
        for case in _cases(part, bench_data.make(variant), size, max_steps):
            cases[case.name if size is None else f"{scan.axis}={size}, {case.name}"] = case
    name = _name("systems" if systems else part, cfg, scan)
    if profile:
        with jax.profiler.trace(str(folder / f"{name}_trace")):
            for case in cases.values():
                jax.block_until_ready(case.call())

    heavy = itertools.chain.from_iterable(roofline.heaviest(c.products) for c in cases.values())
    shapes = dict.fromkeys((roofline.square_product(), *heavy))
    probes = {p: roofline.product_probe(p) for p in shapes} | {"copy": roofline.copy_probe()}
    timed = {name: tool.call for name, tool in (cases | probes).items()}
    seconds = interleaved(timed, repeats, CLOCKS[clock])

    report = {
        "part": part,
        "name": name,
        "command": command,
        "axis": scan.axis or None,
        "side_by_side": bool(systems),
        **bench_report.machine(),
        "commit": provenance.commit(),
        "versions": provenance.versions(),
        "config": config.flatten(cfg),
        "repeats": repeats,
        "clock": clock,
        "max_steps": max_steps,
        **bench_report.measured(cases, probes, seconds),
    }
    if bench_parts.CONSTANT in cases:
        report["overhead"] = bench_report.overhead(cases, seconds, cfg.train.chunk, repeats)
    file = folder / f"{name}.json"
    files.write_json(file, report)
    return f"{bench_report.text(report)}\n\nwritten to {file}"


def parse_sizes(text: str, cfg: Any) -> Sizes:
    """Reads "axis=value,value,...": a name of `AXES`, or any field of the config.

    Raises `UserError` if there is no such field, or a value is not of its type.
    """
    axis, _, listed = text.partition("=")
    if not (axis and listed):
        raise UserError(f"--sizes is {text!r} but must be of the form horizon=1,2,4")
    field, known = AXES.get(axis, axis), config.flatten(cfg)
    if field not in known:
        raise UserError(f"--sizes names no axis {axis!r}{did_you_mean(axis, [*AXES, *known])}")
    kind = type(known[field])
    if kind not in (int, float, str):
        raise UserError(f"--sizes cannot scan {field}, a {kind.__name__}; scan a number or a name")
    try:
        if kind is not str:
            listed.encode("ascii")  # Python reads the digits of other scripts
        values = tuple(kind(value) for value in listed.split(","))
    except ValueError:
        raise UserError(f"--sizes: a value of {axis} must be of type {kind.__name__}") from None
    return Sizes(axis, field, values)


def variants(scan: Sizes, cfg: Any) -> list[tuple[Any, FrozenConfigDict]]:
    """Every size with the config at it; raises `UserError` if that is none."""
    return [(size, _at(cfg, scan, size)) for size in scan.values]


def _at(cfg: FrozenConfigDict, scan: Sizes, size: Any) -> FrozenConfigDict:
    variant = ConfigDict(cfg.to_dict())
    if scan.field:
        variant.update_from_flattened_dict({scan.field: size})
    config.validate(variant)
    return FrozenConfigDict(variant)


def _cases(part: str, setting: Setting, size: Any, max_steps: int) -> list[Case]:
    phase = bench_parts.last_phase(setting)
    if part == "env":
        return bench_simulators.cases(part, setting, max_steps)
    if part == "eval":
        return bench_eval.cases(setting, max_steps)
    if part == "infer":
        return bench_eval.inferences(setting)
    if part == "seeds":
        return [bench_parts.updates("update", setting, phase)]
    if part == "update" and size is None:
        return bench_parts.forms(setting)
    if part == "update":
        return [bench_parts.updates(part, setting, phase)]
    return [bench_parts.updates(part, setting, bench_parts.part_phase(setting, part), True)]


def _whole_update(name: str, cfg: FrozenConfigDict) -> Case:
    setting = bench_data.make(cfg)
    return bench_parts.updates(name, setting, bench_parts.last_phase(setting))


def _name(part: str, cfg: FrozenConfigDict, scan: Sizes) -> str:
    """A file's name: part, method, family, preset, axis and device."""
    device = jax.devices()[0].device_kind
    parts = (part, cfg.method, cfg.family, cfg.preset or "default", scan.axis, device)
    return "_".join("".join(c if c.isalnum() else "-" for c in p) for p in parts if p).lower()
