"""IDAQ: in-distribution online adaptation, by returns."""

from metastar.evaluation import belief, round_robin
from metastar.evaluation.strategy import Strategy
from metastar.types import EnvSpec, Method

DEFAULTS = {}

NEEDS_MODEL = False


def make(method: Method, spec: EnvSpec) -> Strategy:
    """Tries codes of the bank that differ, and takes the window of largest return as context.

    Episode 1 acts on `NUM_CODES` codes of `round_robin`, each the one of `CANDIDATES` uniformly
    drawn codes that is farthest from all tried before. A window of the own history counts as in
    distribution if its return is the largest so far, and is then the context; later episodes act on
    its code, until a window of theirs is better. Wang et al. 2023 (ICML, arXiv 2305.19529), with
    the return as the uncertainty quantifier, which their ablation found best; shares of one
    episode take the place of their exploration episodes, since that is the budget.
    """
    del method
    return round_robin.make_round_robin(
        round_robin.farthest, belief.rewarding, spec, round_robin.NUM_CODES
    )
