"""The oracle: the conservative actor-critic on the true task parameters.

An upper bound for every method that has to infer the task, trained with the same losses on the
same real transitions. Not a competitor: it reads what no agent may read.
"""

import jax
import jax.numpy as jnp

from metastar import registry
from metastar.config.fields import Field
from metastar.data import normalize, sampler
from metastar.data.normalize import view_whitener, whitener
from metastar.data.rows import real_transitions
from metastar.data.sampler import sample_task_id, sample_transitions
from metastar.ops.task_parameters import join_parameters
from metastar.types import Adaptation, Batch, Context, DataSpec, Method, Phase, TrainState

DEFAULTS = {
    "context_len": Field(
        30,
        "[2, inf)",
        "windows that its evaluation draws, so that its rows are those of the methods it bounds",
    ),
}
SECTIONS = {
    "train": (),
    "sampler": (sampler, normalize),
    "agent": ({"name": Field("conservative", "agent", "a file of agents/", selector=True)},),
}


def make(cfg, spec: DataSpec) -> Method:
    """Binds the oracle to a config."""
    name, normalized = cfg.agent.name, cfg.sampler.normalize_obs
    whiten, whiten_view = whitener(normalized, spec), view_whitener(normalized, spec)
    agent = registry.find("agent", name).make(
        cfg.agent[name], spec, whiten, spec.task_dim, cfg.sampler.batch_size
    )

    def init(key):
        params, opt_state = agent.init(key)
        return TrainState(
            params=params,
            target={"critic": params["critic"]},
            opt_state=opt_state,
            extra={"actor": params["actor"]},
            step=jnp.zeros((), jnp.int32),
        )

    def sample(data, key, step):
        key_task, key_real = jax.random.split(jax.random.fold_in(key, step))
        task_id = sample_task_id(data, cfg.sampler, key_task)
        real = sample_transitions(data, task_id, key_real, cfg.sampler.batch_size)
        task = jax.tree.map(lambda x: x[task_id], data.task)
        return Batch(task_id, task, {"real": whiten_view(real)})

    def update(state, batch, key, hp):
        rows = real_transitions(batch, join_parameters(batch.task))
        rows = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), rows)
        return agent.update(state, rows, key, hp["agent"][name])

    def infer(params, context, task, key):
        return Adaptation(join_parameters(jax.tree.map(lambda x: x[None], task))[0])

    return Method(
        init=init,
        phases=(Phase("train", cfg.train.updates, sample, update),),
        export=lambda state: {"actor": state.extra["actor"], "critic": state.params["critic"]},
        infer=infer,
        policy=agent.policy,
        context=Context(cfg.context_len),
        privileged=True,
        value=agent.value,
        parts={"critic": update},
    )
