"""All that is prepared for an accelerator, in one call that may be cut off at any time.

    python experiments/accelerator.py --minutes 10 --out results

What tells most comes first. Each step is a command of its own; its files are whole or absent, and
`accelerator.json` lists after every step what was run, how it ended and how long it took. A step
that is out of time is told to stop: a training saves itself, and its curve until then counts. Steps
that the list has as done are not run again, so that the same call goes on from there.

The steps, in order: an update of the paper's sizes; seeds in one program; few-shot and zero-shot
evaluation; float32 against TF32 and bfloat16, as times; the simulator in JAX by the number of
streams; the paper's preset for three minutes, which give the whole run by extrapolation
(`projection`); the precisions again, as returns; scans of the sizes of parts. `--steps` names those
that are wanted.
"""

import argparse
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import jax

from metastar import files
from metastar.training import metrics, provenance

ROOT = Path(__file__).parent.parent
PAPER = "--config=configs/metastar.py:cheetah_vel,paper"
QUICK = "--config=configs/metastar.py:point_robot_sparse,quick"
PRECISIONS = "float32,tensorfloat32,bfloat16"
# The paper's sizes on the preset's own data, of minutes; those of `paper` take hours to collect.
LONG = (
    f"train {PAPER} --config.simulator.backend=mjx --config.data.preset=quick "
    "--config.train.eval_every=5000 --config.train.checkpoint_every=5000"
)
LEAST_SECONDS = 20  # with less left no step begins
GRACE = 30  # seconds from being told to stop to being ended
SUMMARY = "accelerator.json"
ENV = dict(os.environ)  # of the steps


class Step(NamedTuple):
    """A command of `metastar`; `{out}` is the folder of the results."""

    name: str
    command: str
    seconds: float  # at most


def bench(name: str, command: str, seconds: float = 60) -> Step:
    return Step(name, f"bench {command} --out={{out}} --repeats=10", seconds)


STEPS = (
    bench("update", f"update {PAPER}"),
    bench("seeds", f"seeds {QUICK} --sizes=num_seeds=1,2,4,8,16,32", 90),
    bench("evaluation", f"eval {PAPER} --config.simulator.backend=mjx"),
    bench("precision", f"update {PAPER} --sizes=train.precision={PRECISIONS}", 80),
    bench("simulator", f"env {PAPER} --config.simulator.backend=mjx --sizes=windows=1,10,100", 80),
    Step("paper", f"{LONG} --workdir={{out}}/paper", 180),
    *(
        Step(
            f"returns_{precision}",
            f"train {QUICK} --config.num_seeds=3 --config.train.precision={precision} "
            f"--workdir={{out}}/returns_{precision}",
            120,
        )
        for precision in PRECISIONS.split(",")
    ),
    bench("critic", f"critic {PAPER}"),
    bench("critic_batch", f"critic {PAPER} --sizes=batch_size=256,512,1024,2048", 90),
    bench("world_model", f"world_model {PAPER} --sizes=context_len=128,256,512,1024", 90),
    bench("horizon", f"imagine {PAPER} --sizes=horizon=1,2,4,8,16", 90),
    bench("rollouts", f"imagine {PAPER} --sizes=num_rollouts=8,16,32,64,128", 90),
)


def run_all(steps: tuple[Step, ...], out: Path, seconds: float, call: Callable) -> list[dict]:
    """Runs the steps that are not done yet, as far as the time goes.

    Args:
        steps: in their order.
        out: folder of the results; `SUMMARY` in it is written after each step.
        seconds: until the end.
        call: `(arguments, seconds) -> status`: 0 is done, None is out of time.

    Returns:
        What `SUMMARY` lists: name, command, state ("done", "failed", "out of time") and seconds.
    """
    end, summary = time.monotonic() + seconds, out / SUMMARY
    before = files.read_json(summary, "delete it")["steps"] if summary.exists() else []
    listed = {row["name"]: row for row in before}
    for step in steps:
        left = end - time.monotonic()
        if listed.get(step.name, {}).get("state") == "done" or left < LEAST_SECONDS:
            continue
        command, began = step.command.format(out=out), time.monotonic()
        status = call(command.split(), min(step.seconds, left))
        state = {0: "done", None: "out of time"}.get(status, "failed")
        listed[step.name] = {
            "name": step.name,
            "command": f"metastar {command}",
            "state": state,
            "seconds": time.monotonic() - began,
        }
        files.write_json(summary, {**origin(), "steps": list(listed.values())})
        print(f"{step.name}: {state}, {listed[step.name]['seconds']:.0f} s", flush=True)
    return list(listed.values())


def origin() -> dict:
    """The device, versions and commit."""
    device = jax.devices()[0]
    return {
        "device": device.device_kind,
        "platform": device.platform,
        "commit": provenance.commit(),
        "versions": provenance.versions(),
    }


def call(arguments: list[str], seconds: float) -> int | None:
    """Runs `metastar`; tells it to stop when its time is over, and ends it after `GRACE`."""
    process = subprocess.Popen([sys.executable, "-m", "metastar", *arguments], cwd=ROOT, env=ENV)
    try:
        return process.wait(max(seconds - GRACE, 1))
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGINT)
    try:
        process.wait(GRACE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    return None


def projection(rows: list[dict], num_updates: int) -> dict | None:
    """What a training would take to its end, from its rows of metrics so far.

    Returns:
        `updates_per_second` in the last phase (the median of its rows), `updates` so far and the
        `hours` of `num_updates` at that speed; None before there is a row.
    """
    if not rows:
        return None
    speeds = sorted(r["updates_per_second"] for r in rows if r["phase"] == rows[-1]["phase"])
    speed = speeds[len(speeds) // 2]
    return {
        "updates_per_second": speed,
        "updates": rows[-1]["step"],
        "hours": num_updates / speed / 3600,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=10.0, help="in all (default: 10)")
    parser.add_argument("--out", type=Path, required=True, help="folder of the results")
    names = [step.name for step in STEPS]
    parser.add_argument("--steps", nargs="+", choices=names, default=names, metavar="STEP")
    args = parser.parse_args()
    out = args.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    # This process asks for the device's name alone; the memory is for those of the steps.
    os.environ["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"
    steps = tuple(step for step in STEPS if step.name in args.steps)
    run_all(steps, out, 60 * args.minutes, call)
    rows = metrics.read_rows(out / "paper" / metrics.FILE)
    if found := projection(rows, num_updates=210_000):
        files.write_json(out / "projection.json", {**origin(), **found})


if __name__ == "__main__":
    main()
