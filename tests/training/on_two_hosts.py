"""Run by `test_hosts` in two processes of one program: prints what it finds, as JSON.

`python on_two_hosts.py PROCESS PORT FOLDER [SIGNAL VICTIM]`; process 0 sends that signal to the
victim, one of the two, after update 20.
"""

import json
import os
import signal
import sys
from pathlib import Path

from metastar.errors import UserError, ending
from metastar.training import hosts, placement


def refused(function, *args):
    try:
        function(*args)
    except UserError as error:
        return str(error)


def trained(folder, look):
    """Digests of four runs of the fake method on a device of each process."""
    from fake_method import claimed, make_cfg, make_data, make_method
    from metastar.training.checkpoint import params_sha256
    from metastar.training.loop import fit
    from metastar.training.runs import Run

    place = placement.make({"run": 2, "task": 1}, 4)
    runs = []
    for seed in range(4):
        cfg = make_cfg()
        cfg.seed = seed
        runs.append(Run(cfg, folder / str(seed)))
    if place.is_writer:
        runs = [claimed(run) for run in runs]
    hosts.wait("claimed")
    look = look if place.is_writer else None
    hps = [{"scale": 1.0}] * 4
    done = fit(runs, make_method(24, 0), make_data(), hps, look, place=place)
    return [params_sha256(loop) for loop in done.loops]


def main():
    process, port, folder = int(sys.argv[1]), sys.argv[2], Path(sys.argv[3])
    (folder / f"{process}.pid").write_text(str(os.getpid()))

    def look(state, step):
        victim = folder / f"{sys.argv[-1]}.pid"
        if step == 20 and len(sys.argv) > 4 and victim.exists():
            number = int(victim.read_text())
            victim.unlink()  # once, though there are four runs
            os.kill(number, int(sys.argv[4]))
        return {"step": step}

    with hosts.joined(f"127.0.0.1:{port}", process, 2):
        meshes = [{"run": 3, "task": 1}, {"run": 1, "task": 1}, {"run": 4, "task": 1}]
        found = {
            "refused": [refused(placement.make, mesh, 12) for mesh in meshes],
            "alike": [refused(hosts.expect_alike, x, "differ") for x in (1, process)],
            "signal": hosts.agreed([signal.SIGINT] if process else []),
            "digests": trained(folder, look),
        }
        print(json.dumps(found), file=sys.stderr)


if __name__ == "__main__":
    try:
        main()
    except BaseException as error:
        status, sentence = ending(error)
        if status is None:
            raise
        print(sentence, file=sys.stderr)
        sys.exit(status)
