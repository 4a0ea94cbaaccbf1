"""`metastar render`: films what an agent, recorded data or uniform actions do on a few tasks."""

from collections.abc import Sequence
from pathlib import Path

from metastar import config, files
from metastar.collection import collect
from metastar.data import choose, store
from metastar.data.manifest import config_of
from metastar.envs.make import profile_of
from metastar.errors import UserError, did_you_mean
from metastar.tools.render import films, pictures, recordings
from metastar.tools.render.recordings import Subject
from metastar.training.workdir import read_config

_MAKERS = {
    "agent": recordings.of_agent,
    "behavior": recordings.of_behavior,
    "random": recordings.of_random,
}


def render(
    workdir: str | None = None,
    family: str | None = None,
    policy: str | None = None,
    data: str | None = None,
    source: str | None = None,
    tasks: Sequence[int] = (),
    out: str | None = None,
    film: str = "gif",
) -> list[Path]:
    """Films an episode of each of a few tasks: a GIF or MP4, and a contact sheet as PNG.

    Simulated robots run on the C engine, whatever the run's back end.

    Args:
        workdir: a run; its held-out tasks are shown.
        family: a family; its tasks are those that a config with the default `data` section draws.
        policy: "agent" (the default of a run), with one context window of each task's own data;
            "behavior" (the default of `data`), recorded episodes; "random" (the default of a
            family), uniform actions; or the folder of a run, to show its agent on `family`.
        data: a data set, for policy "behavior" without a run.
        source: whose last episode of each task "behavior" shows: a name of the data card such as
            "sac medium"; None is any learner at stage expert.
        tasks: indices of the tasks to show; none is a few, spread over the task parameter.
        out: folder to write to; None is `render` in the workdir, or in the current folder.
        film: "gif" or "mp4".

    Returns:
        The two files.

    Raises:
        UserError: arguments that do not fit together, a name or a task that does not exist, a run
            of another family, a data set without the source, nothing that can draw or encode, a
            folder that cannot be written.
    """
    policy, run = _cast(workdir, family, policy, data, source)
    subject = _subject(run, family, data, source)
    encode = films.encoder(film)
    num_recordings, play = _MAKERS[policy](subject, tasks)
    seconds = subject.family.body.dt
    folder = Path(out or Path(workdir or "", "render"))
    with pictures.studio(subject.family, films.tile_width(num_recordings)) as draw:
        _make(folder)  # what takes time comes when all is ready
        shown = play()
        painters = draw(shown)
        frames, pace = films.film(shown, painters, seconds)
        sheet = films.contact_sheet(shown, painters, seconds)
    name = f"{subject.cfg.family}_{policy}"
    contents = {f"{name}.{film}": encode(frames, pace), f"{name}.png": films.png(sheet)}
    for file, content in contents.items():
        files.save(folder / file, content)
    return [folder / file for file in contents]


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"cannot make folder {str(folder)!r} ({error.strerror}); name another with --out"
        ) from None


def _cast(workdir, family, policy, data, source) -> tuple[str, str | None]:
    """Who acts: a name in `_MAKERS`, and the folder of a run or None."""
    run = workdir
    if policy is not None and policy not in _MAKERS:
        if not Path(policy).is_dir():
            hint = did_you_mean(policy, _MAKERS)
            raise UserError(f"policy {policy!r} is neither a name nor the folder of a run{hint}")
        if workdir or not family:
            raise UserError("--policy=RUN goes with --family=NAME; else give --workdir=RUN alone")
        run, policy = policy, "agent"
    if not (run or family or data):
        raise UserError("nothing to show; give --workdir=RUN, --family=NAME or --data=DIR")
    policy = policy or ("agent" if run else "behavior" if data else "random")
    if policy == "agent" and not run:
        raise UserError("policy 'agent' needs a run; give --workdir=RUN")
    if policy == "behavior" and not (run or data):
        raise UserError(
            "policy 'behavior' shows recorded episodes; give --workdir=RUN or --data=DIR"
        )
    if policy != "behavior" and (data or source):
        raise UserError("--data and --source go with --policy=behavior only")
    if run and data:
        raise UserError("give --workdir or --data, not both; a run knows its data set")
    return policy, run


def _subject(run, family, data, source) -> Subject:
    """Reads the run, the data set or the family, and their tasks."""
    data_set = None
    if run:
        cfg = read_config(run)
    elif data:
        manifest = store.read_manifest(data)
        values = {"family": manifest.family, **config_of(manifest)}
        cfg = config.build({p: values[p] for p in ("family", "env.profile") if p in values})
    else:
        cfg = config.build({"family": family})
    if family and cfg.family != family:
        raise UserError(
            f"{run or data} is of family {cfg.family!r}, but --family asks for {family!r}; "
            "leave --family out or name another folder"
        )
    # First: everything below may import MuJoCo.
    found = pictures.find_family(cfg.family, profile_of(cfg))
    if run:
        store.read_manifest(collect.directory_of(cfg))  # an error, and not collected anew
        data_set = collect.data_set(cfg)
    elif data:
        data_set = store.verify(data, manifest)
    cfg.simulator.backend = "c"
    if data_set is None:
        tasks, split = collect.draw_tasks(cfg)
        split = {"test": [*split["train"], *split["test"]]}  # nothing was trained on any of them
    else:
        manifest = data_set.manifest
        store.check_family(data_set.path, manifest, cfg)
        tasks, split = manifest.tasks, choose.split_ids(manifest, cfg)
    return Subject(cfg, found, Path(run) if run else None, data_set, source, tasks, split)
