"""Jobs of a SLURM cluster, through submitit: arrays, and requeued when preempted or out of time.

Each command is an element of a job array. What SLURM takes away from a cell is asked to save first
and goes on from its checkpoint when it has its turn again. Workdirs, data and the sweep's folder
lie on a file system that all nodes share.
"""

import contextlib
import math
import os
import signal
import subprocess
import time
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from metastar import files
from metastar.config.fields import COUNT, NOT_NEGATIVE, Field
from metastar.errors import UserError
from metastar.tools.sweep import executor, process
from metastar.tools.sweep.executor import Executor, Share

DEFAULTS = {
    "partition": Field("", "", "of the jobs; empty: the cluster's default, as for the next three"),
    "account": Field("", "", "that the jobs are charged to"),
    "qos": Field("", "", "quality of service of the jobs"),
    "constraint": Field("", "", "features that a node must have"),
    "minutes": Field(1440, COUNT, "that a job may take; a cell that is not done then is requeued"),
    "save_seconds": Field(120, COUNT, "that a cell has for saving, ahead of that limit"),
    "requeues": Field(100, COUNT, "of a cell, at most, after that limit"),
    "gpus": Field(0, NOT_NEGATIVE, "of a cell, whole"),
    "options": Field((), "", "further ones of sbatch, as 'exclude=node7'"),
    "setup": Field((), "", "lines of shell ahead of the command, as 'module load cuda'"),
}
_FOLDER = "slurm"  # below that of the runs: scripts, what submitit hands over, its logs
_WRAPPER_GB = 0.5  # memory of what starts the command
_ARRAY = 1000  # elements of an array at most: SLURM's own MaxArraySize is 1001
_EARLY_SECONDS = 60  # that SLURM may send a signal ahead of its time
_LOOK_SECONDS = 600  # between two calls of sacct, at most
_STATUS = {"status": int}
_FORM = {"slurm": str, "end": str}
# SLURM sends these to all processes of a step, of which `_Command` alone answers: a second request
# ends a command before it has saved, and one that SIGUSR2 finds unprepared is killed by it.
_SLURMS = (signal.SIGUSR1, signal.SIGUSR2, signal.SIGTERM)


class _Command:
    """A command, as submitit hands it to a node."""

    def __init__(self, argv, log, share, gpus, folder, end):
        self.parts = (argv, log, share, gpus, folder, end)
        self.child, self.asked, self.leaving, self.stopped = None, False, False, False

    def __call__(self) -> None:
        """Runs it to its end, and writes its exit status."""
        argv, log, share, gpus, folder, end = self.parts
        signal.signal(signal.SIGUSR1, self._end)
        changes = {} if gpus else {"JAX_PLATFORMS": "cpu"}
        with process.free_cores(share.cores) as own:
            self.child = process.start(argv, Path(log), own, changes, folder, deaf=_SLURMS)
            signal.signal(signal.SIGTERM, self._leave)
            status = process.wait(self.child, share.memory_gb, Path(log))
        while self.leaving:  # saved; a job that ended by itself would not be requeued
            time.sleep(1)
        files.write_json(Path(end), {"status": status})

    def checkpoint(self) -> Any:
        """Called by submitit in its handler of SIGUSR2, ahead of a requeue; None: there is none."""
        import submitit

        if self.child is not None:
            self._ask()
            with contextlib.suppress(ChildProcessError):  # `Popen.wait` may hold its lock just now
                os.waitid(os.P_PID, self.child.pid, os.WEXITED | os.WNOWAIT)
        if self.stopped:  # meanwhile: nobody waits for the job any more
            files.write_json(Path(self.parts[-1]), {"status": 128 + signal.SIGINT})
            return None
        return submitit.helpers.DelayedSubmission(_Command(*self.parts))

    def _end(self, number, frame):
        """The sweep stops."""
        del number, frame
        self.stopped = True
        self._ask()

    def _leave(self, number, frame):
        """SLURM preempts the job, or somebody cancelled it: SIGKILL follows."""
        del number, frame
        self.leaving = True
        self._ask()

    def _ask(self):
        """Asks the command, once, to save and end."""
        if self.child is None:
            raise KeyboardInterrupt
        if not self.asked:
            self.asked = True
            self.child.send_signal(signal.SIGINT)


class _Job:
    """A command and, once it is handed over, its job."""

    def __init__(self, log: Path, end: Path, command: _Command | None = None, handle: Any = None):
        self.log, self.end, self.command, self.handle = log, end, command, handle


def make(
    settings: Mapping[str, Any], share: Share, jobs: int | None = None, folder: Path = Path()
) -> Executor:
    """Builds the executor.

    Args:
        settings: those of `DEFAULTS`.
        share: what each job reserves.
        jobs: handed over at most, those that wait in SLURM's queue too; None: no limit.
        folder: of the runs.

    Raises:
        UserError: submitit is not installed, or this machine has no SLURM; an option is none;
            `minutes` leave a cell no time.
    """
    submitit = executor.package("submitit", "slurm")
    submitit.SlurmJob.watcher = _watcher(submitit)
    own = (folder / _FOLDER).absolute()
    queue = _queue(submitit, own, settings, share)
    pending: list[_Job] = []

    def start(argv, log, taken):
        if jobs and len(taken) >= jobs:
            return None
        end = own / f"{uuid.uuid4().hex}.json"
        parts = (list(argv), str(log.absolute()), share, settings["gpus"], os.getcwd(), str(end))
        pending.append(_Job(log, end, _Command(*parts)))
        return pending[-1]

    @contextlib.contextmanager
    def batch():
        yield
        while pending:
            jobs = pending[:_ARRAY]
            for job, handle in zip(jobs, _submitted(queue, [job.command for job in jobs])):
                job.handle = handle
            del pending[:_ARRAY]

    def adopt(place, log):
        if not place.keys() >= _FORM.keys():
            return None
        handle = queue.job_class(folder=own, job_id=place["slurm"])
        return _Job(log, own / place["end"], handle=handle)

    return Executor(start, _poll, _stop, _place, adopt, batch)


def _watcher(submitit: ModuleType) -> Any:
    """What asks sacct about all jobs: submitit's, which takes a suspended one to have ended."""

    class Watcher(submitit.slurm.slurm.SlurmInfoWatcher):
        def is_done(self, job_id, mode="standard"):
            return super().is_done(job_id, mode) and self.get_state(job_id, "cache") != "SUSPENDED"

    return Watcher(delay_s=_LOOK_SECONDS)


def _queue(submitit: ModuleType, folder: Path, settings: Mapping[str, Any], share: Share) -> Any:
    """submitit's executor, whose jobs reserve what a cell may take."""
    try:
        queue = submitit.SlurmExecutor(folder, max_num_timeout=settings["requeues"])
    except RuntimeError:
        raise UserError(
            "this machine has no SLURM (there is no srun on PATH); start the sweep where sbatch "
            "works, or with --on=local"
        ) from None
    if settings["save_seconds"] + _EARLY_SECONDS >= 60 * settings["minutes"]:
        raise UserError(
            f"slurm: minutes = {settings['minutes']} may leave a cell no time ahead of the signal "
            f"to save (save_seconds = {settings['save_seconds']}, and SLURM sends it up to "
            f"{_EARLY_SECONDS} s early); raise minutes in the sweep file"
        )
    more = [option.partition("=") for option in settings["options"]]
    for name, equals, _ in more:
        if not name or name.startswith("-"):
            raise UserError(f"slurm: {name + equals!r} in options must be NAME=VALUE or NAME")
    named = {name: settings[name] for name in ("partition", "account", "qos", "constraint")}
    named |= {"gpus_per_node": settings["gpus"], "setup": list(settings["setup"])}
    queue.update_parameters(
        job_name="metastar",
        time=settings["minutes"],
        signal_delay_s=settings["save_seconds"],
        array_parallelism=_ARRAY,  # submitit would run 256 elements at once; `jobs` is the limit
        cpus_per_task=share.cores,
        srun_args=[f"--cpus-per-task={share.cores}"],  # since 22.05 not that of sbatch
        mem=f"{math.ceil(1024 * (share.memory_gb + _WRAPPER_GB))}MB",
        additional_parameters={name: value if eq else True for name, eq, value in more},
        **{name: value for name, value in named.items() if value},
    )
    return queue


def _submitted(queue: Any, commands: list[_Command]) -> list[Any]:
    """Hands commands over, several as one array."""
    try:
        return queue.submit_array(commands)
    except (RuntimeError, OSError) as error:  # of sbatch, or of what it printed
        last = (str(error).strip().splitlines() or ["nothing"])[-1]
        raise UserError(
            f"sbatch refused the jobs of the sweep ({last}); change the section slurm of the sweep "
            "file, and go on with --resume"
        ) from None


def _poll(job: _Job) -> int | None:
    gone = job.handle.done()  # also makes a shared file system look anew
    if job.end.exists():
        content = files.read_json(job.end, "start the cell again with --only-failed")
        files.expect(content, _STATUS, f"{job.end} holds no exit status", "start the cell again")
        return content["status"]
    if not gone:
        return None
    state = job.handle.state
    if state.startswith("CANCELLED"):
        return -signal.SIGTERM
    if state == "OUT_OF_MEMORY":
        why = "SLURM ended the process, since it took more memory than the job had; raise memory_gb"
        process.say(job.log, f"{why} in the sweep file")
    else:
        number = job.handle.job_id
        process.say(job.log, f"SLURM ended job {number} ({state}); see {job.handle.paths.stderr}")
    return 1


def _stop(jobs: Sequence[_Job]) -> None:
    """Those that wait are cancelled; those that run are asked to save and end.

    All by one call, since scancel spends five seconds on a job that is just ending.
    """
    handles = [job.handle for job in jobs if job.handle is not None]
    if not handles:
        return
    handles[0].watcher.clear()  # of all: sacct is asked soon, what waited says nothing at its end
    for option in ("--state=PENDING", "--signal=USR1"):
        words = ["scancel", option, *(handle.job_id for handle in handles)]
        subprocess.run(words, stderr=subprocess.DEVNULL, check=False)  # it names what is not so


def _place(job: _Job) -> dict:
    return {"slurm": job.handle.job_id, "end": job.end.name} if job.handle else {}
