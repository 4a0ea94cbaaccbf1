"""What is measured of a method on all tasks of a run: NumPy arrays by protocol."""

from collections.abc import Callable, Sequence
from functools import cache

import jax
import numpy as np

from metastar.data import store
from metastar.data.sources import sources_in
from metastar.envs.make import family_of, make_env, profile_of
from metastar.evaluation import episodes as play
from metastar.evaluation.protocol import Given, Protocol
from metastar.types import Array, Method, code_of

NUM_KEYS = 4  # keys 0 to 3 are folded in by the protocols, later ones by the sources


def make_measure(
    cfg, method: Method, tasks: store.Tasks, protocols: Sequence[Protocol], key: Array
) -> Callable:
    """Builds `(params, gamma) -> {protocol: arrays}`: all protocols on all tasks of a run.

    All draws follow from `key`, whatever the method: see `Protocol.keys`.

    N tasks, W streams, E episodes, K sources of context. Every protocol has `title`; `return` and
    `optimum` [N, W], undiscounted means over the scored episodes of a stream, NaN where there is
    none or the family knows no optimum; `scored` [N, W], their number; `random_return` [N, W], of
    uniform actions in as many streams; `reached` [N, W, E], whether the goal was met; `path`. A
    protocol with a budget also has `episode_return` [E, N, W], `first_return` [N, W], that of
    episode 1, and its `path` holds the first and the last episode. A protocol whose contexts are
    drawn from data also has `rewarded` [N, W]; `source_return` and `source_present` [K, N, W], for
    contexts of one source, cross-task ones among them, and the names of these in `sources`; `code`
    and `source_code` [..., Z] for methods with codes; and the arrays of `episodes.values` under the
    discount `gamma`.
    """
    env, family = make_env(cfg), family_of(cfg.family, profile_of(cfg))
    manifest, parts = tasks.manifest, tasks.parts
    everything = Given(play.tasks_of(parts), parts)
    task = jax.device_get(everything.task)
    found = sources_in(manifest.policies, manifest.stages, parts)
    runs = [play.evaluation(one, env, one.streams) for one in protocols]
    values = None if method.value is None else play.values(method)

    @cache
    def random_return(streams: int, episodes: int, own: bool) -> np.ndarray:
        """Returns [N, W] of uniform actions, without episode 1 if it is never scored (`own`)."""
        uniform = play.uniform(env, streams, episodes)
        played = uniform(everything.task, jax.random.fold_in(key, int(own)))
        return np.asarray(played.episode_return)[..., int(own) :].mean(-1)

    def of_streams(protocol: Protocol, played: play.Played) -> dict:
        own = protocol.budget > 0
        optimum = _optimum(family, played.start, task)
        arrays = {
            "title": np.array(protocol.title),
            "return": play.scored_mean(played.episode_return, played.scored),
            "optimum": play.scored_mean(optimum, played.scored),
            "random_return": random_return(protocol.streams, protocol.episodes, own),
            "scored": played.scored.sum(-1),
            "reached": played.reached,
            "path": played.path[:, :, [0, -1]] if own else played.path,
        }
        if own:
            arrays["episode_return"] = np.moveaxis(played.episode_return, -1, 0)
            arrays["first_return"] = played.episode_return[..., 0]
        return arrays

    def of_sources(run: Callable, params, keys: tuple) -> dict:
        returns, present, codes = [], [], []
        for k, (_, policy, stage) in enumerate(found):
            key_source = jax.random.fold_in(key, NUM_KEYS + k)
            restricted = tuple(store.restrict(part, policy, stage) for part in parts)
            given = everything._replace(parts=restricted)
            one = run(params, tasks.train, given, key_source, keys[1])
            played, drawn, code = jax.device_get(
                (one.played, one.contexts, code_of(one.adaptation))
            )
            returns.append(play.scored_mean(played.episode_return, played.scored))
            present.append(drawn.present)
            codes += [] if code is None else [code]
        return {
            "sources": np.array([source.name for source in found]),
            "source_return": np.stack(returns),
            "source_present": np.stack(present),
            **({"source_code": np.stack(codes)} if codes else {}),
        }

    def of_protocol(protocol: Protocol, run: Callable, params, gamma) -> dict:
        given = everything if protocol.from_data else everything._replace(parts=())
        keys = protocol.keys(key)
        one = run(params, tasks.train, given, *keys)
        arrays = of_streams(protocol, jax.device_get(one.played))
        if protocol.from_data:
            rewarded, code = jax.device_get(one.contexts.rewarded), code_of(one.adaptation)
            arrays["rewarded"] = rewarded if family.sparse else np.zeros(0, bool)
            if code is not None:
                arrays["code"] = jax.device_get(code)
            if values is not None and code is not None:
                arrays |= jax.device_get(values(params, gamma, one.played, code))
            arrays |= of_sources(run, params, keys)
        return arrays

    def measure(params, gamma: float | None) -> dict[str, dict]:
        return {
            protocol.name: of_protocol(protocol, run, params, gamma)
            for protocol, run in zip(protocols, runs)
        }

    return measure


def _optimum(family, start, task):
    """Largest possible return [N, W, E] from `start` [N, W, E, O]; NaN if the family knows none."""
    if family.optimum is None:
        return np.full(start.shape[:-1], np.nan)
    return family.optimum(start, jax.tree.map(lambda x: x[:, None, None], task))
