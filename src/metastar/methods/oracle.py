"""The oracle: the conservative actor-critic on the true task parameters.

An upper bound for every method that has to infer the task, trained with the same losses on the
same real transitions. Not a competitor, since it reads the task parameters.
"""

import jax

from metastar import registry
from metastar.config.fields import Field
from metastar.data import normalize, sampler
from metastar.data.normalize import view_whitener, whitener
from metastar.data.rows import flatten, real_transitions
from metastar.data.sampler import sample_task_id, sample_transitions
from metastar.models.acting import AGENT, code_policy, code_value, one_batch
from metastar.ops.task_parameters import join_parameters
from metastar.types import Adaptation, Batch, Context, DataSpec, Method, Phase, RowSpec

DEFAULTS = {
    "context_len": Field(
        30,
        "[2, inf)",
        "length of the windows its evaluation draws, which are then those of the methods it bounds",
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
    rows = RowSpec(spec.action_dim, cfg.sampler.batch_size)
    agent = one_batch(registry.make("agent", name, cfg.agent[name], rows), name, "oracle")

    def init(key):
        return {AGENT: agent.init(key, spec.obs_dim + spec.task_dim)}

    def sample(data, key, step):
        key_task, key_real = jax.random.split(jax.random.fold_in(key, step))
        task_id = sample_task_id(data, cfg.sampler, key_task)
        real = sample_transitions(data, task_id, key_real, cfg.sampler.batch_size)
        task = jax.tree.map(lambda x: x[task_id], data.task)
        return Batch(task_id, task, {"real": whiten_view(real)})

    def update(state, batch, key, hp, step):
        real = flatten(real_transitions(batch, join_parameters(batch.task)))
        learner, metrics = agent.update(state[AGENT], real, key, hp["agent"][name], step)
        return {**state, AGENT: learner}, metrics

    def infer(params, view, task, key):
        return Adaptation(join_parameters(jax.tree.map(lambda x: x[None], task))[0])

    return Method(
        init=init,
        phases=(Phase("train", cfg.train.updates, sample, update),),
        export=lambda state: {AGENT: agent.export(state[AGENT])},
        context=Context(cfg.context_len),
        infer=infer,
        policy=code_policy(agent, spec.action_dim, whiten),
        privileged=True,
        value=code_value(agent, whiten),
    )
