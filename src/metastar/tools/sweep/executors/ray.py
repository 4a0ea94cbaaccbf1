"""Tasks of a Ray cluster: one queue over machines of several kinds, with fractions of GPUs.

Each command is a task of Ray's, which runs it as a process of its own on whatever node has room. A
task whose node is lost begins again on another one, and its command goes on from its checkpoint.
Workdirs, data and sweep folder lie in a folder that all nodes see under one path.
"""

import logging
import os
import signal
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from metastar.config.fields import COUNT, NOT_NEGATIVE, POSITIVE, Field
from metastar.errors import UserError
from metastar.tools.sweep import executor, process
from metastar.tools.sweep.executor import Executor, Share

DEFAULTS = {
    "address": Field("auto", "", "of the cluster, HOST:PORT; auto: RAY_ADDRESS or this machine's"),
    "seconds": Field(60.0, POSITIVE, "until a cluster that does not answer is given up"),
    "gpus": Field(0.0, NOT_NEGATIVE, "of a cell; below 1: as large a part of the memory of one"),
    "retries": Field(3, COUNT, "of a command whose node is lost"),
}
_OWN = ("JAX_", "XLA_", "MUJOCO_", "PYTHONPATH")  # variables that a command has from the sweep
_USABLE = 0.9  # of the memory of a GPU; the rest is for the driver and for programs
_PAUSE = 0.5  # seconds


class _Job(NamedTuple):
    task: Any  # the `ObjectRef` of its exit status
    log: Path


def make(
    settings: Mapping[str, Any], share: Share, jobs: int | None = None, folder: Path = Path()
) -> Executor:
    """Builds the executor, connected to the cluster.

    Args:
        settings: those of `DEFAULTS`.
        share: what each task reserves.
        jobs: tasks at most, those that wait in Ray's queue too; None: as many as the nodes of the
            cluster have room for at the moment.
        folder: not needed.

    Raises:
        UserError: Ray is not installed; no cluster answers; `gpus` is above 1 and not whole; no
            node has room for a cell, unless `jobs` says that the cluster may grow.
    """
    del folder
    ray = executor.package("ray", "ray")
    gpus = settings["gpus"]
    if gpus > 1 and gpus != int(gpus):
        raise UserError(f"ray: gpus is {gpus:g}, and above 1 it must be whole; change it")
    _connect(ray, settings)
    wanted = {"CPU": share.cores, "memory": int(share.memory_gb * process.GIB), "GPU": gpus}
    if not jobs and not _room(ray, wanted):
        raise UserError(
            f"no node of the Ray cluster has {share.cores} cores, {share.memory_gb:g} GiB and "
            f"{gpus:g} GPUs for a cell; lower them in the sweep file, or give --jobs if nodes come"
        )
    task = ray.remote(
        num_cpus=share.cores,
        num_gpus=gpus,
        memory=wanted["memory"],
        max_retries=settings["retries"],
    )(_run)

    def start(argv, log, taken):
        if len(taken) >= (jobs or _room(ray, wanted)):
            return None
        changes = _environment(gpus)
        return _Job(task.remote(list(argv), str(log.absolute()), share, changes, os.getcwd()), log)

    def poll(job):
        if not ray.wait([job.task], timeout=0)[0]:
            return None
        try:
            return ray.get(job.task)
        except ray.exceptions.TaskCancelledError:
            return -signal.SIGTERM
        except ray.exceptions.OutOfMemoryError:
            why = (
                "Ray ended it, since its node had no memory left; raise memory_gb in the sweep file"
            )
        except ray.exceptions.RayTaskError as error:
            why = f"the worker failed with {str(error).splitlines()[-1]}; look at its node"
        except ray.exceptions.RayError as error:  # its node, or its worker, again and again
            why = f"what ran it was lost more than {settings['retries']} times ({_name(error)})"
        process.say(job.log, why)
        return 1

    def stop(jobs):
        for job in jobs:
            ray.cancel(job.task)

    return Executor(start, poll, stop, place=lambda job: {"ray": "task"})


def _run(
    argv: Sequence[str], log: str, share: Share, changes: Mapping[str, str], folder: str
) -> int:
    """Runs a command on a node; returns its exit status."""
    from metastar.training import workdir

    paths = [word.partition("=")[2] for word in argv if word.startswith("--workdir=")]
    try:  # what a lost node, or an earlier call, left behind saves before it ends
        while any(workdir.is_held(Path(folder, path)) for path in paths):
            time.sleep(_PAUSE)
    except KeyboardInterrupt:
        return -signal.SIGTERM
    with process.free_cores(share.cores) as own:
        child = process.start(argv, Path(log), own, changes, folder, tied=True)
        return process.wait(child, share.memory_gb, Path(log))


def _connect(ray: Any, settings: Mapping[str, Any]) -> None:
    """Connects to the cluster.

    In a thread, since Ray waits for minutes, and would take SIGTERM for itself in this one.
    """
    failed = []

    def connect():
        try:
            ray.init(
                settings["address"],
                log_to_driver=False,
                logging_level=logging.ERROR,
                ignore_reinit_error=True,
            )
        except Exception as error:
            failed.append(f"{_name(error)}: {str(error).splitlines()[0]}")

    thread = threading.Thread(target=connect, daemon=True)
    thread.start()
    thread.join(settings["seconds"])
    if thread.is_alive():
        failed.append(f"no answer within {settings['seconds']:g} s")
    if failed:
        raise UserError(
            f"no Ray cluster at {settings['address']!r} ({failed[0]}); start one with `ray start "
            "--head`, or name another in the field address of the section ray of the sweep file"
        )


def _room(ray: Any, wanted: Mapping[str, float]) -> int:
    """How many cells the nodes of a cluster have room for, whoever is there now."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    parts = [
        [node.get(name, 0) / amount + 1e-9 for name, amount in wanted.items() if amount]
        for node in nodes
    ]
    return sum(int(min(part)) for part in parts)


def _environment(gpus: float) -> dict[str, str]:
    """What a command has in place of the variables of the node.

    Without `gpus` it would see all GPUs of its node; and a process takes three quarters of the
    memory of a GPU, however small its part of that is.
    """
    changes = {name: value for name, value in os.environ.items() if name.startswith(_OWN)}
    changes.pop("JAX_PLATFORMS", None)
    if not gpus:
        changes["JAX_PLATFORMS"] = "cpu"
    elif gpus < 1:
        changes["XLA_CLIENT_MEM_FRACTION"] = f"{_USABLE * gpus:.3f}"
    return changes


def _name(error: Exception) -> str:
    return type(error).__name__
