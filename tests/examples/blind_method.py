"""A method in one file: one policy for all tasks, which ignores the context. A lower bound."""

import jax
import jax.numpy as jnp

from metastar import registry
from metastar.config import Field
from metastar.data import normalize, sampler
from metastar.data.normalize import view_whitener, whitener
from metastar.data.rows import real_transitions
from metastar.data.sampler import sample_task_id, sample_transitions
from metastar.types import Adaptation, Batch, Context, DataSpec, Method, Phase, TrainState

KIND = "method"
DEFAULTS = {"context_len": Field(30, "[1, inf)", "windows that its evaluation draws, unread")}
SECTIONS = {
    "train": (),
    "sampler": (sampler, normalize),
    "agent": ({"name": Field("conservative", "agent", "a file of agents/", selector=True)},),
}


def make(cfg, spec: DataSpec) -> Method:
    """Binds the agent of a config, with a code that is always 0."""
    name, normalized = cfg.agent.name, cfg.sampler.normalize_obs
    whiten, whiten_view = whitener(normalized, spec), view_whitener(normalized, spec)
    agent = registry.find("agent", name).make(
        cfg.agent[name], spec, whiten, code_dim=1, num_rows=cfg.sampler.batch_size
    )

    def init(key):
        params, opt_state = agent.init(key)
        target, extra = {"critic": params["critic"]}, {"actor": params["actor"]}
        return TrainState(params, target, opt_state, extra, step=jnp.zeros((), jnp.int32))

    def sample(data, key, step):
        key_task, key_real = jax.random.split(jax.random.fold_in(key, step))
        task_id = sample_task_id(data, cfg.sampler, key_task)
        real = sample_transitions(data, task_id, key_real, cfg.sampler.batch_size)
        return Batch(task_id, None, {"real": whiten_view(real)})

    def update(state, batch, key, hp):
        rows = real_transitions(batch, jnp.zeros((batch.task_id.shape[0], 1)))
        rows = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), rows)
        return agent.update(state, rows, key, hp["agent"][name])

    return Method(
        init=init,
        phases=(Phase("train", cfg.train.updates, sample, update),),
        export=lambda state: {"actor": state.extra["actor"]},
        infer=lambda params, context, task, key: Adaptation(jnp.zeros(1)),
        policy=agent.policy,
        context=Context(cfg.context_len),
    )
