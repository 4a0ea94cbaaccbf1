"""Episodes to be filmed: of a trained agent, recorded ones, and of uniform actions.

Each function chooses its tasks and checks its arguments at once; the function that it returns plays
the episodes.
"""

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from metastar.data import choose, contexts, layout, store
from metastar.data.sources import sources
from metastar.envs.family import Family
from metastar.envs.make import make_env, profile_of, spec_of
from metastar.envs.rollout import make_rollout, no_adaptation, uniform_policy
from metastar.errors import UserError, did_you_mean
from metastar.evaluation import likelihood
from metastar.tools.render import films
from metastar.tools.render.pictures import Recording
from metastar.training import restore
from metastar.types import Policy

NUM_TASKS = 4  # shown unless others are asked for
STAGE = "expert"  # of recorded episodes, unless a source is named
SEED = 0  # of starts, context windows and random actions


class Subject(NamedTuple):
    """What is filmed."""

    cfg: ConfigDict  # the run's or the data set's, for the C engine
    family: Family
    workdir: Path | None  # the run that acts
    data: store.DataSet | None  # None for a family's own tasks
    source: str | None  # whose recorded episodes are shown
    tasks: dict[str, np.ndarray]  # parameters, leaves [N, ...]
    split: dict[str, list[int]]  # indices of the tasks that may be shown; "test" among the names


def of_random(subject: Subject, asked: Sequence[int]) -> tuple[int, Callable]:
    """Uniform actions. Returns how many recordings there will be, and `() -> [Recording]`."""
    tasks = _choose(subject, asked)
    spec = spec_of(subject.cfg.family, profile_of(subject.cfg))
    adaptation = no_adaptation(len(tasks), 1)
    notes = ["uniform actions"] * len(tasks)

    def make():
        return _play(subject, tasks, notes, uniform_policy(spec.action_dim), (), adaptation)

    return len(tasks), make


def of_agent(subject: Subject, asked: Sequence[int]) -> tuple[int, Callable]:
    """The agent of a run, which infers the task from one uniformly drawn context of its data."""
    tasks = _choose(subject, asked)
    run = restore.restore(subject.workdir)
    data = store.load(subject.data, "all", run.cfg)
    inference = likelihood.make(run.cfg.inference, run.method)
    method = inference.method
    contexts.check(method.context, data.count, run.cfg.method)

    def make():
        exported = run.method.export(run.state)
        params = inference.params(exported, lambda: store.load(subject.data, "train", run.cfg))
        loaded = _ids(subject)
        rows = jnp.array([loaded.index(task) for task in tasks])
        _, key_window, key_infer = _keys()
        view = contexts.draw(data, rows, method.context, key_window)
        given = jax.tree.map(lambda x: x[rows], data.task) if method.privileged else None
        infer = jax.jit(jax.vmap(method.infer, in_axes=(None, 0, 0, 0)))
        adaptation = infer(params, view, given, jax.random.split(key_infer, len(tasks)))
        adaptation = jax.tree.map(lambda x: x[:, None], adaptation)  # one stream of each task
        notes = [run.cfg.method] * len(tasks)
        # Without a reward nothing in the context tells the task.
        if subject.family.sparse and not method.privileged:
            rewarded = ((view.reward > 0) & view.valid).any((-2, -1))
            words = ["with" if seen else "without" for seen in rewarded]
            notes = [f"{run.cfg.method}, context {word} reward" for word in words]
        return _play(subject, tasks, notes, method.policy, params, adaptation)

    return len(tasks), make


def of_behavior(subject: Subject, asked: Sequence[int]) -> tuple[int, Callable]:
    """The last recorded episode of each task by the source asked for."""
    path, manifest, fields = subject.data
    policies, stages = manifest.policies, manifest.stages
    known = sources(policies, stages, fields["policy"], fields["stage"])
    tables = (fields[name] for name in ("length", "policy", "stage"))
    length, policy_of, stage_of = (layout.by_task(x, fields["episodes"]) for x in tables)

    def is_wanted(source):
        if subject.source is not None:
            return source.name == subject.source
        return stages[source.stage] == STAGE and policies[source.policy] != choose.CROSS_TASK

    wanted = [source for source in known if is_wanted(source)]
    if not wanted:
        name = STAGE if subject.source is None else subject.source
        raise UserError(
            f"data set {path} has no episodes of {name!r}"
            f"{did_you_mean(name, [source.name for source in known])}; choose with --source"
        )
    positions = subject.family.body.positions
    if positions is None:
        raise UserError(
            f"recorded episodes of {subject.cfg.family} cannot be drawn: what was seen does not "
            "tell where the robot was; use --policy=agent or --policy=random"
        )
    label = np.full(length.shape, "", object)
    for name, policy, stage in wanted:
        label[(policy_of == policy) & (stage_of == stage)] = name
    usable = (label != "") & (length > 0)
    tasks = _choose(subject, asked, usable.any(1))

    def recording(task):
        episode = int(np.flatnonzero(usable[task])[-1])
        obs, reward = layout.episode_of(fields, task, episode)
        return Recording(
            title=_title(subject, task),
            note=f"{label[task, episode]}, episode {episode}",
            state=positions(np.asarray(obs, float), profile_of(subject.cfg)),
            reward=np.asarray(reward, float),
            task={name: value[task] for name, value in subject.tasks.items()},
        )

    return len(tasks), lambda: [recording(task) for task in tasks]


def _keys() -> jax.Array:
    """Keys of the episodes (so that every policy meets the same starts), the windows, the codes."""
    return jax.random.split(jax.random.key(SEED), 3)


def _ids(subject: Subject) -> list[int]:
    """Indices of all tasks that may be shown, in the order that `store.load` has them in."""
    return [task for ids in subject.split.values() for task in ids]


def _choose(subject: Subject, asked: Sequence[int], usable: np.ndarray | None = None) -> list[int]:
    """The tasks asked for, or held-out ones from the lowest to the highest task parameter.

    Raises:
        UserError: a task does not exist or has no episode to show (`usable` [N] is False), none
            is left, or there are more than one film holds.
    """
    known = sorted(_ids(subject))
    if usable is not None:
        known = [task for task in known if usable[task]]
    for task in asked:
        if task not in known:
            raise UserError(f"there is no task {task} to show; choose among {known}")
    if len(asked) > films.MAX_RECORDINGS:
        raise UserError(f"{len(asked)} tasks are too many; one film holds {films.MAX_RECORDINGS}")
    if asked:
        return list(asked)
    label = np.asarray(subject.family.label(subject.tasks)[1])
    heldout = sorted(set(subject.split["test"]) & set(known), key=lambda task: (label[task], task))
    if not heldout:
        raise UserError(f"no held-out task has such an episode; choose with --task among {known}")
    place = np.linspace(0, len(heldout) - 1, min(NUM_TASKS, len(heldout))).round().astype(int)
    return [heldout[i] for i in place]


def _play(
    subject: Subject,
    tasks: list[int],
    notes: list[str],
    policy: Policy,
    params,
    adaptation: Any,
) -> list[Recording]:
    """Plays one greedy episode of each task and keeps the simulator's states.

    A simulator on the host is wrapped in one that records, so that it does exactly what it does in
    an evaluation. The states of the others are their observations.
    """
    env, states = make_env(subject.cfg), []

    def recorded(function):
        def call(*args):
            state, rest = function(*args)
            states.append(state.qpos)
            return state, rest

        return call

    if env.on_host:
        if not subject.family.body.model:
            raise UserError(
                f"family {subject.cfg.family!r} cannot be drawn: its simulator has no model file; "
                "film its own environment"
            )
        env = env._replace(reset=recorded(env.reset), step=recorded(env.step))
    parameters = {name: value[np.array(tasks)] for name, value in subject.tasks.items()}
    run = make_rollout(env, policy, episodes=1)
    given = jax.tree.map(jnp.asarray, parameters)
    key_play, _, _ = _keys()
    steps = jax.device_get(run(params, adaptation, given, key_play))
    steps = jax.tree.map(lambda x: x[:, 0, 0], steps)  # [N, T, ...]
    observed = np.concatenate([steps.obs[:, :1], steps.next_obs], 1)
    path = np.stack(states, 1) if env.on_host else observed
    return [
        Recording(
            title=_title(subject, task),
            note=notes[i],
            state=path[i, : steps.valid[i].sum() + 1],
            reward=steps.reward[i, steps.valid[i]],
            task={name: value[i] for name, value in parameters.items()},
        )
        for i, task in enumerate(tasks)
    ]


def _title(subject: Subject, task: int) -> str:
    """For instance "task 31: target speed 1.27 m/s"."""
    name, value = subject.family.label(subject.tasks)
    words, unit = re.fullmatch(r"(.*?)(?: \[(.*)\])?", name).groups()
    kind = "training task" if task in subject.split.get("train", ()) else "task"
    return f"{kind} {task}: {words} {value[task]:.2f} {unit or ''}".rstrip()
