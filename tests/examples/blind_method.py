"""A method in one file: one policy for all tasks, which ignores the context. A lower bound."""

import jax
import jax.numpy as jnp

from metastar.agents import conservative as agents
from metastar.data import normalize, sampler
from metastar.data.rows import real_transitions
from metastar.data.sampler import sample_transitions
from metastar.ops import schedule
from metastar.types import Adaptation, Batch, DataSpec, Method, Phase, TrainState


def make(cfg, spec: DataSpec) -> Method:
    """Binds the conservative actor-critic to a config, with a code that is always 0."""
    agent = agents.make(cfg, spec, code_dim=1)
    whiten = normalize.whitener(cfg, spec)

    def init(key):
        params, opt_state = agent.init(key)
        target, extra = {"critic": params["critic"]}, {"actor": params["actor"]}
        return TrainState(params, target, opt_state, extra, step=jnp.zeros((), jnp.int32))

    def sample(data, key, step):
        key_task, key_real = jax.random.split(jax.random.fold_in(key, step))
        task_id = sampler.sample_task_id(data, cfg, key_task)
        real = sample_transitions(data, task_id, key_real, cfg.sampler.batch_size)
        real = real._replace(obs=whiten(real.obs), next_obs=whiten(real.next_obs))
        return Batch(task_id, None, {"real": real})

    def update(state, batch, key, hp):
        hp = schedule.decayed(hp, cfg, state.step, cfg.train.updates)
        rows = real_transitions(batch, jnp.zeros((batch.task_id.shape[0], 1)))
        rows = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), rows)
        state, metrics = agent.update(state, rows, key, hp)
        return state._replace(step=state.step + 1), metrics

    return Method(
        hp=agents.hyper_params(cfg),
        init=init,
        phases=(Phase("train", cfg.train.updates, sample, update),),
        export=lambda state: {"actor": state.extra["actor"]},
        infer=lambda params, context, task, key: Adaptation(jnp.zeros(1)),
        policy=agent.policy,
    )
