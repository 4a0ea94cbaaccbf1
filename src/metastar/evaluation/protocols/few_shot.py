"""Few-shot: the adaptation is inferred from recorded data of the task and stays fixed.

Source: MetaSTAR (arXiv 2606.00780), evaluation.
"""

from metastar.evaluation import recorded
from metastar.evaluation.protocol import Protocol
from metastar.types import EnvSpec, Method

DEFAULTS = {}
SECTIONS = {"eval": (recorded,)}


def make(cfg, method: Method, spec: EnvSpec) -> Protocol:
    """The method's policy under an adaptation inferred from one uniformly drawn context."""
    del spec

    def prepare(params, train, given, streams, key):
        del train
        return recorded.infer_recorded(method, params, given, streams, key)

    return Protocol(
        name="few_shot",
        title="few-shot",
        prepare=prepare,
        policy=method.policy,
        streams=cfg.eval.windows,
        episodes=cfg.eval.episodes,
        from_data=True,
        keys=recorded.episode_keys,
    )
