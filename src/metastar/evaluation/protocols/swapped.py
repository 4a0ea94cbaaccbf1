"""Swapped: few-shot under the code of another task, to see whether the agent goes by its code.

It has the contexts and the starts of few-shot, so that the code alone is exchanged. A return that
stays what it was says that the agent reads the task elsewhere, or not at all. It is an experiment:
nobody should act this way.
"""

import jax
import jax.numpy as jnp

from metastar.errors import UserError
from metastar.evaluation import recorded
from metastar.evaluation.protocol import Protocol
from metastar.types import Array, EnvSpec, Method

DEFAULTS = {}
SECTIONS = {"eval": (recorded,)}


def make(cfg, method: Method, spec: EnvSpec) -> Protocol:
    """The method's policy under what it infers in another task of the evaluation, of any split."""
    del spec

    def prepare(params, train, given, streams, key):
        del train
        adaptation, drawn = recorded.infer_recorded(method, params, given, streams, key)
        return exchanged(adaptation, jax.random.fold_in(key, 1)), drawn

    return Protocol(
        name="swapped",
        title="few-shot, code of another task",
        prepare=prepare,
        policy=method.policy,
        streams=cfg.eval.windows,
        episodes=cfg.eval.episodes,
        from_data=True,
        keys=recorded.episode_keys,
    )


def exchanged(adaptation, key: Array):
    """Gives stream w of each task what stream w of another one has, each of the others as likely.

    Args:
        adaptation: leaves [N, W, ...].
        key: PRNG key.

    Raises:
        UserError: there is one task.
    """
    num, streams = jax.tree.leaves(adaptation)[0].shape[:2]
    if num < 2:
        raise UserError(
            "protocol 'swapped' exchanges codes between tasks, and there is one; evaluate on more"
        )
    ahead = jax.random.randint(key, (streams,), 1, num)
    other = (jnp.arange(num)[:, None] + ahead[None]) % num
    return jax.tree.map(lambda x: x[other, jnp.arange(streams)[None]], adaptation)
