"""IDAQ: in-distribution online adaptation, by the errors of a model of rewards."""

from metastar.evaluation import belief, round_robin
from metastar.evaluation.strategy import Strategy
from metastar.types import EnvSpec, Method

DEFAULTS = {}

NEEDS_MODEL = True


def make(method: Method, spec: EnvSpec) -> Strategy:
    """As `idaq`, but a segment is in distribution if its rewards are as the model expects them.

    The quantifier is the mean squared error of the rewards under the codes acted on: the prediction
    error of Wang et al. 2023, with one model in place of their ensemble. In a sparse family a
    segment that meets no goal, where none is expected, is as good as one that meets the expected
    one.
    """
    del method
    return round_robin.make_round_robin(
        round_robin.farthest, belief.expected, spec, round_robin.NUM_CODES
    )
