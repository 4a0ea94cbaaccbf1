"""Codes of the bank drawn at random: the baseline that every other strategy should beat."""

import jax

from metastar.evaluation import belief, round_robin
from metastar.evaluation.strategy import Strategy
from metastar.types import EnvSpec, Method

DEFAULTS = {}

NEEDS_MODEL = False
NUM_CODES = 5


def make(method: Method, spec: EnvSpec) -> Strategy:
    """Acts in episode 1 on `NUM_CODES` codes, each drawn uniformly from the bank, with replacement.

    The context is the most informative window of the own history or, without a task model, the one
    of the largest return.
    """

    def next_code(bank, memory, key):
        return jax.random.randint(key, (), 0, bank.shape[0])

    score = belief.rewarding if method.task_model is None else belief.informative
    return round_robin.make_round_robin(next_code, score, spec, NUM_CODES)
