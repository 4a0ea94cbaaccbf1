"""Posterior sampling over the bank: act as in a task that is still plausible."""

import jax
import jax.numpy as jnp

from metastar.evaluation import belief
from metastar.evaluation.strategy import Strategy
from metastar.types import EnvSpec, Method

DEFAULTS = {}

NEEDS_MODEL = True


def make(method: Method, spec: EnvSpec) -> Strategy:
    """Draws a task from the posterior and stays with it until it is ruled out.

    Then takes the plausible task whose code is nearest, so that the search is a sweep, and acts on
    the own code once that is `known`. Thompson 1933 (Biometrika 25, 285-294); Osband et al. 2013
    (arXiv 1306.0940), of whom the nearest task in place of a new draw is our variant.
    """
    del method, spec

    def choose(params, seen, target, key):
        drawn = jax.random.categorical(key, seen.log_posterior)
        target = jnp.where(target < 0, drawn, belief.next_plausible(seen, target))
        return jnp.where(belief.known(seen), seen.own_code, seen.bank[target]), target

    return Strategy(lambda bank: jnp.array(-1), choose, belief.informative)
