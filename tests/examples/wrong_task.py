"""A protocol in one file: a context of another task. How much does the agent go by its context?"""

import jax

from metastar.config import Field
from metastar.data import contexts
from metastar.evaluation.inference import infer_all
from metastar.evaluation.protocol import Protocol
from metastar.types import EnvSpec, Method

KIND = "protocol"
DEFAULTS = {"wrong_task_streams": Field(4, "[1, inf)", "contexts of other tasks for each task")}


def make(cfg, method: Method, spec: EnvSpec) -> Protocol:
    """Every stream plays one episode under a context of a training task, drawn uniformly."""

    def prepare(params, train, given, streams, key):
        key_task, key_draw, key_infer = jax.random.split(key, 3)
        shape = len(jax.tree.leaves(given.task)[0]), streams  # N, W
        task_id = jax.random.randint(key_task, shape, 0, len(train.count))
        view = contexts.draw(train, task_id, method.context, key_draw)
        return infer_all(method, params, view, given.task, key_infer), None

    return Protocol(
        name="wrong_task",
        title="context of another task",
        prepare=prepare,
        policy=method.policy,
        streams=cfg.wrong_task_streams,
        episodes=1,
    )
