"""A method in one file: one policy for all tasks, which ignores the context. A lower bound.

It remembers how large rewards are and learns from rewards in that unit, which is set anew at every
`unit_period`-th update.
"""

import jax
import jax.numpy as jnp

from metastar import registry
from metastar.config import Field
from metastar.data import normalize, sampler
from metastar.data.normalize import view_whitener, whitener
from metastar.data.rows import flatten, real_transitions
from metastar.data.sampler import sample_task_id, sample_transitions
from metastar.models.acting import AGENT, code_policy, one_batch
from metastar.types import Adaptation, Batch, Context, DataSpec, Learner, Method, Phase, RowSpec

KIND = "method"
MEMORY = "memory"  # the part of the state beside the agent
DEFAULTS = {
    "context_len": Field(30, "[1, inf)", "windows that its evaluation draws, unread"),
    "unit_period": Field(100, "[1, inf)", "updates from one unit of rewards to the next"),
    "forgetting": Field(0.01, "(0, 1]", "weight of a new batch in the memory", swept=True),
}
SECTIONS = {
    "train": (),
    "sampler": (sampler, normalize),
    "agent": ({"name": Field("conservative", "agent", "a file of agents/", selector=True)},),
}


def make(cfg, spec: DataSpec) -> Method:
    """Binds the agent of a config, with a code that is always 0."""
    name, normalized = cfg.agent.name, cfg.sampler.normalize_obs
    whiten, whiten_view = whitener(normalized, spec), view_whitener(normalized, spec)
    rows = RowSpec(spec.action_dim, cfg.sampler.batch_size)
    agent = registry.find("agent", name).make(cfg.agent[name], rows)
    agent = one_batch(agent, name, "blind_method")

    def init(key):
        memory = {"square": jnp.ones(()), "unit": jnp.ones(())}
        return {AGENT: agent.init(key, spec.obs_dim + 1), MEMORY: Learner({}, extra=memory)}

    def sample(data, key, step):
        key_task, key_real = jax.random.split(jax.random.fold_in(key, step))
        task_id = sample_task_id(data, cfg.sampler, key_task)
        real = sample_transitions(data, task_id, key_real, cfg.sampler.batch_size)
        return Batch(task_id, None, {"real": whiten_view(real)})

    def update(state, batch, key, hp, step):
        rows = flatten(real_transitions(batch, jnp.zeros((batch.task_id.shape[0], 1))))
        memory = remember(state[MEMORY].extra, rows.reward, hp["blind_method"]["forgetting"], step)
        rows = rows._replace(reward=rows.reward / memory["unit"])
        learner, metrics = agent.update(state[AGENT], rows, key, hp["agent"][name], step)
        state = {AGENT: learner, MEMORY: state[MEMORY]._replace(extra=memory)}
        return state, {**metrics, "reward_unit": memory["unit"]}

    def remember(memory, reward, forgetting, step):
        """The running mean of squared rewards and, at some updates, the unit that follows it."""
        square = (1 - forgetting) * memory["square"] + forgetting * jnp.mean(reward**2)
        due = step % cfg.unit_period == 0  # the same for all runs of a program: one branch is run
        unit = jax.lax.cond(due, lambda: jnp.sqrt(square + 1e-6), lambda: memory["unit"])
        return {"square": square, "unit": unit}

    return Method(
        init=init,
        phases=(Phase("train", cfg.train.updates, sample, update),),
        export=lambda state: {AGENT: agent.export(state[AGENT])},
        context=Context(cfg.context_len),
        infer=lambda params, view, task, key: Adaptation(jnp.zeros(1)),
        policy=code_policy(agent, spec.action_dim, whiten),
    )
