"""IDAQ: in-distribution online adaptation, by returns."""

from metastar.evaluation import belief, round_robin
from metastar.types import EnvSpec, Method, Strategy

DEFAULTS = {}

NEEDS_MODEL = False


def make(method: Method, spec: EnvSpec) -> Strategy:
    """Tries codes of the bank that differ, and takes the stretch of largest return as context.

    Each of the `turns.TRIES` turns of episode 1 goes to the one of `turns.CANDIDATES` uniformly
    drawn codes that is farthest from all tried before. A stretch of the own history counts as in
    distribution if its return is the largest so far, and is then the context; later episodes act on
    its code and replace it by a better one. Wang et al. 2023 (ICML, arXiv 2305.19529), with the
    return as the uncertainty quantifier, which their ablation found best; their exploration
    episodes are shares of one episode here, since the budget is one.
    """
    del method
    return round_robin.by_turns(round_robin.farthest, belief.rewarding, spec, round_robin.TRIES)
