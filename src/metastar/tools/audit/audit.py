"""`metastar audit`: do task codes depend on the task, or on the source of the context?"""

import functools
import time
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np

from metastar import files
from metastar.collection import collect
from metastar.data import choose, contexts, store
from metastar.data.sources import sources, sources_in
from metastar.envs.make import family_of
from metastar.errors import UserError
from metastar.evaluation import likelihood, results
from metastar.ops.task_parameters import join_parameters
from metastar.tools.audit import codes as audit_codes
from metastar.tools.audit import figures as audit_figures
from metastar.tools.audit import measures as audit_measures
from metastar.tools.audit import open_loop as audit_model
from metastar.tools.audit import page as audit_page
from metastar.tools.audit.parts import missing
from metastar.training import checkpoint, chunk, restore
from metastar.training.restore import Restored
from metastar.training.workdir import identity
from metastar.types import Method, TaskData

FILE = "audit.json"
PAGE = "audit.md"
WINDOWS = 64  # of each task and source
SPLITS = ("train", "test")
SEED = 0


def audit(
    workdir: str | Path,
    against: str | Path | None = None,
    windows: int = WINDOWS,
    inference: str | None = None,
) -> str:
    """Audits a run's newest good checkpoint; writes `audit.json`, `audit.md` and figures into it.

    Args:
        workdir: a trained run of a method that infers its code from a context.
        against: a second such run on the same tasks, perhaps trained on other data.
        windows: W of each task and source; even.
        inference: takes the place of the runs' `inference.choice`.

    Returns:
        The summary for a terminal.

    Raises:
        UserError: no checkpoint, a method without a context or without what the inference needs, a
            second run that does not fit, data that are missing or damaged, a folder that is
            read-only.
    """
    began = time.monotonic()
    run = _restore(workdir, inference)
    other = None if against is None else _restore(against, inference)
    data_set = collect.data_set(run.cfg)
    manifest = data_set.manifest
    if other is not None:
        _check_alike(run, other, manifest, against)
    data, side = load(run, data_set)
    found = sources_in(manifest.policies, manifest.stages, [data])
    names = [source.name for source in found]
    draws = [audit_codes.halves(data, source) for source in found]
    contexts.check(run.method.context, data.count, run.cfg.method)

    def reader(one: Method):
        """The reader of a method's codes, of the same windows for every model."""
        return audit_codes.make_reader(one, draws, windows, jax.random.key(SEED))

    method, params_of = _inferring(run)
    read, params, theirs = reader(method), params_of(run.state), None
    codes = read(params)
    if other is not None:
        their_method, their_params_of = _inferring(other)
        theirs = reader(their_method)(their_params_of(other.state))
    report = {
        "method": run.cfg.method,
        "family": run.cfg.family,
        "preset": run.cfg.preset,
        "seed": run.cfg.seed,
        "inference": run.cfg.inference.choice,
        "step": run.step,
        "sources": names,
        "windows": windows,
        "context_len": contexts.steps_of(run.method.context),
        **_by_split(run, data, codes, side, np.isin(names, _trained(data, manifest)), names),
        "open_loop": {
            name: audit_model.open_loop(
                run.cfg,
                method,
                params,
                jax.tree.map(lambda x, rows=side == name: x[rows], data),
                run.spec.obs_std,
                jax.random.key(SEED),
            )
            for name in SPLITS
        },
        "drift": _drift(run, workdir, lambda state: read(params_of(state)), codes),
        **_returns(workdir, run.cfg.inference.choice),
        "against": other and {"workdir": str(against), "step": other.step},
    }
    if theirs is not None:
        for name in SPLITS:
            of_split = (x[side == name] for x in (codes.code, theirs.code, codes.keep))
            report["against"][name] = audit_measures.alike(*of_split)
    report["seconds"] = time.monotonic() - began
    return _write(Path(workdir), report, codes, side)


def _by_split(
    run: Restored,
    data: TaskData,
    codes: audit_codes.Codes,
    side: np.ndarray,
    trained: np.ndarray,
    names: list[str],
) -> dict:
    """The measures of codes [N, K, W] and their health, by the part of the split.

    Codes of test tasks are also compared with those of the training tasks. `trained` [K] bool are
    the sources that the run was trained on, of all `names`.
    """
    factor = np.asarray(join_parameters(data.task), float)
    sparse, chosen = family_of(run.cfg.family).sparse, {}
    report = {"splits": {}, "health": {}}
    for name in SPLITS:
        rows = side == name
        part = audit_codes.rows_of(codes, rows)
        asked = _asked(part, trained, sparse)
        report["splits"][name] = {"tasks": int(rows.sum())} | {
            kind: audit_measures.of_windows(part, keep, factor[rows], names)
            for kind, keep in asked.items()
        }
        chosen[name] = {kind: (part, keep, factor[rows]) for kind, keep in asked.items()}
        report["health"][name] = audit_measures.health(part)
    for kind, of_test in chosen["test"].items():
        found = audit_measures.task_of_others(*chosen["train"][kind], *of_test)
        report["splits"]["test"][kind]["task_of_training"] = found
    return report


def load(run: Restored, data: store.DataSet) -> tuple[TaskData, np.ndarray]:
    """The training and test tasks, and the name of the split [N] of each."""
    split = choose.split_ids(data.manifest, run.cfg)
    side = np.array([name for name in SPLITS for _ in split[name]])
    return store.load(data, SPLITS, run.cfg), side


def _trained(data: TaskData, manifest: store.Manifest) -> list[str]:
    """Names of the sources that the run was trained on."""
    seen = audit_codes.drawn_from(data)
    return [source.name for source in sources(manifest.policies, manifest.stages, *seen)]


def _asked(codes: audit_codes.Codes, trained: np.ndarray, sparse: bool) -> dict[str, np.ndarray]:
    """The choices of windows [N, K, W] that are measured; `trained` is [K] bool."""
    found = {"all": codes.keep}
    if not trained.all():
        found["trained"] = codes.keep & trained[:, None]
    if sparse:
        found["informative"] = codes.keep & codes.rewarded
    return found


def _restore(workdir: str | Path, inference: str | None) -> Restored:
    run = restore.restore(workdir)
    if run.method.privileged:
        raise UserError(
            f"the run in {str(workdir)!r} is of method {run.cfg.method!r}, which is told the task "
            "and has no code of a context; audit a run of another method"
        )
    return run if inference is None else run._replace(cfg=likelihood.chosen(run.cfg, inference))


def _inferring(run: Restored) -> tuple[Method, Callable]:
    """A run's method as it infers, and `(TrainState) -> parameters` of this method's functions."""
    found = likelihood.make(run.cfg.inference, run.method)

    @functools.cache
    def train() -> TaskData:
        return store.load(collect.data_set(run.cfg), "train", run.cfg)

    return found.method, lambda state: found.params(run.method.export(state), train)


def _check_alike(run: Restored, other: Restored, manifest: store.Manifest, against) -> None:
    """Raises `UserError` unless the second run can encode the first one's windows."""
    where, mine, theirs = f"--against={against}", run.cfg, other.cfg
    if theirs.family != mine.family:
        raise UserError(
            f"{where} is a run on {theirs.family}, not on {mine.family}; give a run of one family"
        )
    lengths = [contexts.steps_of(one.method.context) for one in (other, run)]
    if other.method.context != run.method.context:
        raise UserError(
            f"{where} reads windows of {lengths[0]} steps, not of {lengths[1]}; give a run with "
            "the same context length"
        )
    if (run.spec.obs_dim, run.spec.action_dim) != (other.spec.obs_dim, other.spec.action_dim):
        raise UserError(f"{where} has other observations; give a run with the same env settings")
    tasks = []
    for cfg, one in ((mine, manifest), (theirs, store.read_manifest(collect.directory_of(theirs)))):
        split = choose.split_ids(one, cfg)
        tasks.append(
            [{key: x[split[name]].tolist() for key, x in one.tasks.items()} for name in SPLITS]
        )
    if tasks[0] != tasks[1]:
        raise UserError(
            f"{where} has other training or test tasks; give a run with the same data.task_seed, "
            "numbers of tasks and data.validation_tasks"
        )


def _returns(workdir: str | Path, inference: str) -> dict:
    """What the run's evaluation says of its codes, if these were inferred alike."""
    if not (Path(workdir) / results.FILE).exists():
        reason = "the run has not been evaluated; run `metastar evaluate` first"
        return dict.fromkeys(("cost", "use"), missing(reason))
    found = results.read(workdir)
    if (other := found.get("inference", "encoder")) != inference:
        reason = (
            f"the run was evaluated with inference.choice={other!r}; run `metastar evaluate "
            f"--inference={inference}` first"
        )
        return dict.fromkeys(("cost", "use"), missing(reason))
    return {"cost": audit_measures.cost(found), "use": audit_measures.use(found)}


def _drift(
    run: Restored, workdir: str | Path, read: Callable, codes: audit_codes.Codes
) -> list[dict]:
    """How far the codes of each older checkpoint are from those of the audited one.

    `read` is `(TrainState) -> Codes`.
    """
    directory, found = Path(workdir) / "checkpoints", []
    owner = identity(workdir)
    for step in checkpoint.steps(directory):
        loop = None
        if step < run.step:
            loop = checkpoint.restore(directory, step, chunk.abstract(run.method), owner)
        if loop is not None:
            before = read(loop.state).code
            found.append({"step": step, **audit_measures.drift(before, codes.code, codes.keep)})
    return found


def _write(workdir: Path, report: dict, codes: audit_codes.Codes, side: np.ndarray) -> str:
    """Writes the files of an audit; returns the summary."""
    files.write_json(workdir / FILE, report)
    images = audit_figures.write(workdir, report, codes, side)
    files.save(workdir / PAGE, audit_page.page(report, images))
    listed = ", ".join([FILE, PAGE, *images])
    return f"{audit_page.summary(report)}\n\nfiles in {workdir}: {listed}"
