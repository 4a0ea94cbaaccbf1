"""IDAQ: in-distribution online adaptation, by the errors of a model of rewards."""

from metastar.evaluation import belief, round_robin
from metastar.evaluation.strategy import Strategy
from metastar.types import EnvSpec, Method

DEFAULTS = {}

NEEDS_MODEL = True


def make(method: Method, spec: EnvSpec) -> Strategy:
    """As `idaq`, but a window is in distribution if its rewards are as the model predicts them.

    The quantifier is the mean squared error of the rewards under the codes acted on: the prediction
    error of Wang et al. 2023, with one model in place of their ensemble. In a sparse family a
    window without reward, where none is predicted, is as good as one with the predicted reward.
    """
    del method
    return round_robin.make_round_robin(
        round_robin.farthest, belief.expected, spec, round_robin.NUM_CODES
    )
