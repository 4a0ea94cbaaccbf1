"""Round robin over codes of the bank: the agent acts on each for an equal share of episode 1."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from metastar.evaluation import belief
from metastar.evaluation.strategy import Strategy
from metastar.types import Array, EnvSpec

NUM_CODES, CANDIDATES = 5, 5  # of IDAQ; its released code has 2 to 10, and 5 or 20


class RoundRobin(NamedTuple):
    """The memory of a round-robin strategy."""

    tried: Array  # [K] bool: which codes have been acted on
    target: Array  # [] int: the code acted on; -1 before the first


def make_round_robin(
    next_code: Callable, score: Callable, spec: EnvSpec, num_codes: int | None = None
) -> Strategy:
    """Acts on `num_codes` codes in episode 1, for the same number of steps, then on the own code.

    The own code is inferred from the window of the agent's history with the highest score, which a
    window of a later episode may still replace.

    Args:
        next_code: `(bank, RoundRobin, key) -> []`, the index of the code to act on next.
        score: as in `Strategy`.
        spec: the length of an episode is used.
        num_codes: None is every code of the bank.
    """

    def init(bank):
        return RoundRobin(jnp.zeros(bank.shape[0], bool), jnp.array(-1))

    def choose(params, seen, memory, key):
        shares = num_codes or seen.bank.shape[0]
        share, before = (t * shares // spec.max_episode_steps for t in (seen.time, seen.time - 1))
        target = jnp.where(share != before, next_code(seen.bank, memory, key), memory.target)
        memory = RoundRobin(memory.tried.at[target].set(True), target)
        return jnp.where(seen.episode > 0, seen.own_code, seen.bank[target]), memory

    return Strategy(init, choose, score)


def farthest(bank: Array, memory: RoundRobin, key: Array) -> Array:
    """Of `CANDIDATES` uniformly drawn codes the one that `belief.farthest` takes: []."""
    drawn = jax.random.randint(key, (CANDIDATES,), 0, bank.shape[0])
    return belief.farthest(bank, memory.tried, drawn)[0]
