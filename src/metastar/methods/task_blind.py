"""The task-blind agent: a file of `agents/` on observations alone, as if all data were of one task.

A lower bound: what the data give to whoever does not tell tasks apart. A task representation that
is worth anything beats it under the same agent.
"""

import jax
import jax.numpy as jnp

from metastar import registry
from metastar.config.fields import COUNT, Field
from metastar.data import normalize, sampler
from metastar.data.normalize import view_whitener, whitener
from metastar.data.rows import flatten, real_transitions
from metastar.data.sampler import sample_task_id, sample_transitions
from metastar.models.acting import AGENT, code_policy, code_value
from metastar.types import Adaptation, Batch, Context, DataSpec, Method, Phase, RowSpec

DEFAULTS = {
    "context_len": Field(
        64, COUNT, "transitions of the contexts that its evaluation draws and does not look at"
    ),
}
SECTIONS = {
    "train": (),
    "sampler": (sampler, normalize),
    "agent": ({"name": Field("iql", "agent", "a file of agents/", selector=True)},),
}
CODE = jnp.zeros(1)  # [Z] in the place of every task's code


def make(cfg, spec: DataSpec) -> Method:
    """Binds the agent to a config; its policy takes one zero for a code."""
    name, normalized = cfg.agent.name, cfg.sampler.normalize_obs
    whiten, whiten_view = whitener(normalized, spec), view_whitener(normalized, spec)
    rows = RowSpec(spec.action_dim, cfg.sampler.batch_size)
    agent = registry.make("agent", name, cfg.agent[name], rows)

    def init(key):
        return {AGENT: agent.init(key, spec.obs_dim + len(CODE))}

    def sample(data, key, step):
        key_task, key_real = jax.random.split(jax.random.fold_in(key, step))
        task_id = sample_task_id(data, cfg.sampler, key_task)
        num_rows = agent.num_batches * cfg.sampler.batch_size
        real = sample_transitions(data, task_id, key_real, num_rows)
        task = jax.tree.map(lambda x: x[task_id], data.task)
        return Batch(task_id, task, {"real": whiten_view(real)})

    def update(state, batch, key, hp, step):
        code = jnp.tile(CODE, (len(batch.task_id), 1))
        rows = flatten(real_transitions(batch, code), agent.num_batches)
        learner, metrics = agent.update(state[AGENT], rows, key, hp["agent"][name], step)
        return {**state, AGENT: learner}, metrics

    return Method(
        init=init,
        phases=(Phase("train", cfg.train.updates, sample, update),),
        export=lambda state: {AGENT: agent.export(state[AGENT])},
        context=Context(cfg.context_len, ordered=False),
        infer=lambda params, view, task, key: Adaptation(CODE),
        policy=code_policy(agent, spec.action_dim, whiten),
        value=code_value(agent, whiten),
    )
