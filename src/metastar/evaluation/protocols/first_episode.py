"""The first episode: the agent acts from the first step on, without a context, and is scored.

The zero-shot evaluation of Meta-DT (Wang et al. 2024, NeurIPS) and of other sequence models: what
a policy does with a task in which it has not been before.
"""

import jax

from metastar.evaluation import history
from metastar.evaluation.inference import infer_empty
from metastar.evaluation.protocol import Protocol
from metastar.types import EnvSpec, Method

DEFAULTS = {}
SECTIONS = {"eval": (history,)}


def make(cfg, method: Method, spec: EnvSpec) -> Protocol:
    """The method's policy under what it infers from an empty context, which stays fixed."""

    def prepare(params, train, given, streams, key):
        del train
        return infer_empty(method, spec, params, given.task, streams, key), None

    return Protocol(
        name="first_episode",
        title="first episode",
        prepare=prepare,
        policy=method.policy,
        streams=cfg.eval.zero_shot_streams,
        episodes=1,
        keys=lambda key: (jax.random.fold_in(key, 2), jax.random.fold_in(key, 1)),
    )
