"""Context-conditioned behaviour cloning: what imitation alone gets out of the data. A bound.

The encoder and the actor of MetaSTAR, trained end to end on the likelihood of the data's actions:
no world model, no task objective, no reward but what the context shows, no conservative learning.
A method that learns from rewards should beat it wherever the data hold more than one quality of
behaviour. Equation in `losses/cloning.py`.
"""

import jax
import jax.numpy as jnp
import optax

from metastar.agents import conservative as agents
from metastar.data import normalize, sampler
from metastar.data.sampler import sample_transitions, sample_windows
from metastar.losses import cloning
from metastar.models import world_model
from metastar.models.nets.actor_critic import Actor, init_actor
from metastar.ops import schedule
from metastar.ops.optim import gradient_step
from metastar.ops.td import polyak
from metastar.types import Adaptation, Batch, DataSpec, Method, Phase, TrainState

PARTS = ("encoder", "actor")  # of the parameters
ENCODER = ("encoder", "posterior", "core")  # the networks that make a task code


def make_optimizer() -> optax.GradientTransformation:
    """Adam for `update.gradient_step`; its learning rate [2] holds one for each of `PARTS`."""

    def build(learning_rate):
        parts = {part: optax.adam(rate) for part, rate in zip(PARTS, learning_rate)}
        return optax.partition(parts, {part: part for part in PARTS})

    return optax.inject_hyperparams(build)(learning_rate=jnp.zeros(len(PARTS)))


def make(cfg, spec: DataSpec) -> Method:
    """Binds cloning to a config; `task_losses`, `imagine` and the critic's fields are not used.

    The encoder is trained from scratch, so it has the rate of pretraining, `hp.lr_pretrain`.
    """
    actor = Actor(cfg.agent.hidden, spec.action_dim)
    whiten_view = normalize.view_whitener(cfg, spec)
    optimizer = make_optimizer()
    clone = gradient_step(cloning.loss, optimizer)

    def init(key):
        key_encoder, key_actor = jax.random.split(key)
        model = world_model.init(key_encoder, cfg, spec)
        params = {
            "encoder": {name: model[name] for name in ENCODER},
            "actor": init_actor(key_actor, actor, spec.obs_dim + cfg.world_model.code_dim),
        }
        return TrainState(
            params=params,
            target={},
            opt_state={"all": optimizer.init(params)},
            extra={"actor": params["actor"]},
            step=jnp.zeros((), jnp.int32),
        )

    def sample(data, key, step):
        key_tasks, key_views = jax.random.split(key)
        key_tasks = jax.random.fold_in(key_tasks, step // cfg.sampler.hold_updates)
        task_id = sampler.sample_task_id(data, cfg, key_tasks)
        key_context, key_real = jax.random.split(jax.random.fold_in(key_views, step))
        context = sample_windows(data, task_id, key_context, cfg.world_model.context_len)
        real = sample_transitions(data, task_id, key_real, cfg.sampler.batch_size)
        views = {"context": whiten_view(context), "real": whiten_view(real)}
        return Batch(task_id, jax.tree.map(lambda x: x[task_id], data.task), views)

    def update(state, batch, key, hp):
        hp = schedule.decayed(hp, cfg, state.step, cfg.train.updates)
        noise = world_model.draw_encode_noise(key, batch.views["context"].valid.shape, cfg)
        rates = jnp.stack([hp.lr_pretrain, hp.lr_actor])
        params, opt_state, metrics = clone(
            state.params, state.opt_state["all"], rates, batch, noise, hp, cfg, actor
        )
        average = polyak(params["actor"], state.extra["actor"], 1 - hp.actor_average)
        extra = {**state.extra, "actor": average}
        return state._replace(params=params, opt_state={"all": opt_state}, extra=extra), metrics

    def export(state):
        return {"encoder": state.params["encoder"], "actor": state.extra["actor"]}

    def infer(params, context, task, key):
        context = whiten_view(context)
        noise = world_model.draw_encode_noise(key, context.valid.shape, cfg)
        return Adaptation(world_model.encode_task(params["encoder"], context, noise, cfg))

    return Method(
        hp=agents.hyper_params(cfg),
        init=init,
        phases=(Phase("train", cfg.train.updates, sample, update),),
        export=export,
        infer=infer,
        policy=agents.make(cfg, spec, cfg.world_model.code_dim).policy,
    )
