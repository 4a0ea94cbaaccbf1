"""Few-shot: the adaptation is inferred from recorded data of the task and stays fixed.

Source: MetaSTAR (arXiv 2606.00780), evaluation.
"""

import jax

from metastar.config.fields import COUNT, Field
from metastar.data import contexts
from metastar.evaluation.inference import infer_all
from metastar.evaluation.protocol import Contexts, Protocol
from metastar.types import EnvSpec, Method

DEFAULTS = {
    "windows": Field(20, COUNT, "contexts per task and kind of context"),
    "episodes": Field(1, COUNT, "few-shot episodes per context"),
}


def make(cfg, method: Method, spec: EnvSpec) -> Protocol:
    """The method's policy under an adaptation inferred from one uniformly drawn context."""
    del spec

    def prepare(params, train, given, streams, key):
        del train
        key_draw, key_infer = jax.random.split(key)
        view = contexts.draw_of_each(given.parts, streams, method.context, key_draw)
        adaptation = infer_all(method, params, view, given.task, key_infer)
        rewarded = (view.reward > 0) & view.valid
        return adaptation, Contexts(view.valid.any((-2, -1)), rewarded.any((-2, -1)))

    return Protocol(
        name="few_shot",
        title="few-shot",
        prepare=prepare,
        policy=method.policy,
        streams=cfg.windows,
        episodes=cfg.episodes,
        from_data=True,
        keys=lambda key: (jax.random.fold_in(key, 3), jax.random.fold_in(key, 0)),
    )
