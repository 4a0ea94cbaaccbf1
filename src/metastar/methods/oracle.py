"""The oracle: the conservative actor-critic on the true task parameters.

An upper bound for every method that has to infer the task, trained with the same losses on the
same real transitions. Not a competitor: it reads what no agent may read.
"""

import jax
import jax.numpy as jnp

from metastar.agents import conservative as agents
from metastar.data import normalize, sampler
from metastar.data.rows import real_transitions
from metastar.data.sampler import sample_transitions
from metastar.ops import schedule
from metastar.ops.task_parameters import join_parameters
from metastar.types import Adaptation, Batch, DataSpec, Method, Phase, TrainState


def make(cfg, spec: DataSpec) -> Method:
    """Binds the oracle to a config; `world_model`, `task_losses` and `imagine` are not used."""
    agent = agents.make(cfg, spec, spec.task_dim)
    whiten_view = normalize.view_whitener(cfg, spec)

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
        task_id = sampler.sample_task_id(data, cfg, key_task)
        real = sample_transitions(data, task_id, key_real, cfg.sampler.batch_size)
        task = jax.tree.map(lambda x: x[task_id], data.task)
        return Batch(task_id, task, {"real": whiten_view(real)})

    def update(state, batch, key, hp):
        hp = schedule.decayed(hp, cfg, state.step, cfg.train.updates)
        rows = real_transitions(batch, join_parameters(batch.task))
        rows = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), rows)
        state, metrics = agent.update(state, rows, key, hp)
        return state, metrics

    def infer(params, context, task, key):
        return Adaptation(join_parameters(jax.tree.map(lambda x: x[None], task))[0])

    return Method(
        hp=agents.hyper_params(cfg),
        init=init,
        phases=(Phase("train", cfg.train.updates, sample, update),),
        export=lambda state: {"actor": state.extra["actor"], "critic": state.params["critic"]},
        infer=infer,
        policy=agent.policy,
        privileged=True,
        value=agent.value,
        parts={"critic": update},
    )
