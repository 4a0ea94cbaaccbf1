"""Codes of the bank by turns: episode 1 in equal shares, each acted in on one code."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from metastar.evaluation import belief
from metastar.types import Array, EnvSpec, Strategy

TRIES, CANDIDATES = 5, 5  # of `farthest`; IDAQ's released code has 2 to 10, and 5 or 20


class Turns(NamedTuple):
    """The memory of such a strategy."""

    tried: Array  # [K] bool: which codes have had their turn
    target: Array  # [] int: whose turn it is; -1 before the first


def by_turns(follow: Callable, worth: Callable, spec: EnvSpec, num: int | None = None) -> Strategy:
    """Acts on `num` codes in episode 1, each for as many steps, and on the own code afterwards.

    The own code is that of the stretch of history of largest worth, which later episodes may still
    replace by a better one.

    Args:
        follow: `(bank, Turns, key) -> []`, the index of the code whose turn is next.
        worth: as in `Strategy`.
        spec: the length of an episode is used.
        num: turns; None is one for each code of the bank.
    """

    def init(bank):
        return Turns(jnp.zeros(bank.shape[0], bool), jnp.array(-1))

    def choose(params, seen, turns, key):
        shares = num or seen.bank.shape[0]
        share, before = (t * shares // spec.max_episode_steps for t in (seen.time, seen.time - 1))
        target = jnp.where(share != before, follow(seen.bank, turns, key), turns.target)
        turns = Turns(turns.tried.at[target].set(True), target)
        return jnp.where(seen.episode > 0, seen.own, seen.bank[target]), turns

    return Strategy(init, choose, worth)


def farthest(bank: Array, turns: Turns, key: Array) -> Array:
    """Of `CANDIDATES` uniformly drawn codes the one farthest from its nearest tried one: [].

    Wang et al. 2023 (ICML), in their released code.
    """
    drawn = jax.random.randint(key, (CANDIDATES,), 0, bank.shape[0])
    apart = jax.vmap(belief.distance, in_axes=(None, 0))(bank, bank[drawn])
    nearest = jnp.where(turns.tried[None], apart, jnp.inf).min(-1)
    return drawn[jnp.argmax(nearest)]
