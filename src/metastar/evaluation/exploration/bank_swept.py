"""All codes of the bank, one after the other."""

import jax
import jax.numpy as jnp

from metastar.evaluation import belief, round_robin
from metastar.evaluation.strategy import Strategy
from metastar.types import EnvSpec, Method

DEFAULTS = {}

NEEDS_MODEL = False


def make(method: Method, spec: EnvSpec) -> Strategy:
    """Acts in episode 1 on every code of the bank for an equal share of the steps.

    The first is drawn uniformly, each next one is the nearest that is left: the order of the
    training tasks has no effect. The context is chosen as by `bank_sampled`.
    """

    def next_code(bank, memory, key):
        drawn = jax.random.randint(key, (), 0, bank.shape[0])
        left = jnp.where(memory.tried, jnp.inf, belief.distance(bank, bank[memory.target]))
        return jnp.where(memory.target < 0, drawn, jnp.argmin(left))

    score = belief.rewarding if method.task_model is None else belief.informative
    return round_robin.make_round_robin(next_code, score, spec)
