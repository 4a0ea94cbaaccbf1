"""Codes of the bank drawn at random: the baseline that every other strategy should beat."""

import jax

from metastar.evaluation import belief, round_robin
from metastar.types import EnvSpec, Method, Strategy

DEFAULTS = {}

NEEDS_MODEL = False
TURNS = 5


def make(method: Method, spec: EnvSpec) -> Strategy:
    """Acts in episode 1 on `TURNS` codes, each drawn uniformly from the bank, with replacement.

    The context is the most informative stretch of the own history, or without a task model that of
    the largest return.
    """

    def follow(bank, turns, key):
        return jax.random.randint(key, (), 0, bank.shape[0])

    worth = belief.rewarding if method.task_model is None else belief.informative
    return round_robin.by_turns(follow, worth, spec, TURNS)
