"""Context-conditioned behaviour cloning: a bound, what imitation alone achieves on the data.

The encoder and the actor of MetaSTAR, trained end to end on the likelihood of the data's actions:
no world model, no task objective, no rewards except those in the context, no conservative learning.
A method that learns from rewards should beat it wherever the data hold behaviours of different
quality. Equation in `losses/cloning.py`.
"""

import jax
import jax.numpy as jnp
import optax

from metastar.config.fields import COUNT, RATE, Field
from metastar.data import normalize, sampler
from metastar.data.normalize import view_whitener, whitener
from metastar.data.sampler import sample_task_id, sample_transitions, sample_windows
from metastar.losses import cloning
from metastar.models import world_model
from metastar.models.nets.actor_critic import Actor, init_actor, sample_action
from metastar.ops.optim import gradient_step
from metastar.ops.td import polyak
from metastar.types import (
    Adaptation,
    Batch,
    Context,
    DataSpec,
    Learner,
    Method,
    Phase,
    Policy,
)

DEFAULTS = {
    "hidden": Field((128, 128), COUNT, "widths of the actor's hidden layers"),
    "encoder_lr": Field(1e-4, RATE, "learning rate", swept=True, decays=True),
    "actor_lr": Field(3e-4, RATE, "learning rate", swept=True, decays=True),
    "actor_average": Field(
        0.0, "[0, 1)", "decay of the averaged actor; 0 makes it the actor itself", swept=True
    ),
}
SECTIONS = {
    "train": (),
    "sampler": (sampler, sampler.HELD, normalize),
    "world_model": (world_model,),
}
CLONE = "clone"  # the one part of the state
PARTS = ("encoder", "actor")  # of its parameters
ENCODER = ("encoder", "posterior", "core")  # the networks that make a task code


def make_optimizer() -> optax.GradientTransformation:
    """Adam for `update.gradient_step`; its learning rate [2] holds one for each of `PARTS`."""

    def build(learning_rate):
        parts = {part: optax.adam(rate) for part, rate in zip(PARTS, learning_rate)}
        return optax.partition(parts, {part: part for part in PARTS})

    return optax.inject_hyperparams(build)(learning_rate=jnp.zeros(len(PARTS)))


def make(cfg, spec: DataSpec) -> Method:
    """Binds cloning to a config."""
    actor, normalized = Actor(cfg.hidden, spec.action_dim), cfg.sampler.normalize_obs
    whiten, whiten_view = whitener(normalized, spec), view_whitener(normalized, spec)
    optimizer = make_optimizer()
    clone = gradient_step(cloning.loss, optimizer)

    def init(key):
        key_encoder, key_actor = jax.random.split(key)
        model = world_model.init(key_encoder, cfg, spec)
        params = {
            "encoder": {name: model[name] for name in ENCODER},
            "actor": init_actor(key_actor, actor, spec.obs_dim + cfg.world_model.code_dim),
        }
        extra = {"actor": params["actor"]}
        return {CLONE: Learner(params, opt_state=optimizer.init(params), extra=extra)}

    def sample(data, key, step):
        key_tasks, key_views = jax.random.split(key)
        key_tasks = jax.random.fold_in(key_tasks, step // cfg.sampler.hold_updates)
        task_id = sample_task_id(data, cfg.sampler, key_tasks)
        key_context, key_real = jax.random.split(jax.random.fold_in(key_views, step))
        context = sample_windows(data, task_id, key_context, cfg.world_model.context_len)
        real = sample_transitions(data, task_id, key_real, cfg.sampler.batch_size)
        views = {"context": whiten_view(context), "real": whiten_view(real)}
        return Batch(task_id, jax.tree.map(lambda x: x[task_id], data.task), views)

    def update(state, batch, key, hp, step):
        noise = world_model.draw_encode_noise(key, batch.views["context"].valid.shape, cfg)
        own, learner = hp["bc"], state[CLONE]
        rates = jnp.stack([own["encoder_lr"], own["actor_lr"]])
        params, opt_state, metrics = clone(
            learner.params, learner.opt_state, rates, batch, noise, cfg, actor
        )
        average = polyak(params["actor"], learner.extra["actor"], 1 - own["actor_average"])
        learner = Learner(params, opt_state=opt_state, extra={"actor": average})
        return {**state, CLONE: learner}, metrics

    def export(state):
        learner = state[CLONE]
        return {"encoder": learner.params["encoder"], "actor": learner.extra["actor"]}

    def infer(params, view, task, key):
        context = whiten_view(jax.tree.map(lambda x: x[0], view))
        noise = world_model.draw_encode_noise(key, context.valid.shape, cfg)
        return Adaptation(world_model.encode_task(params["encoder"], context, noise, cfg))

    def act(params, adaptation, carry, step, key, greedy):
        obs_code = jnp.concatenate([whiten(step.obs), adaptation.code])
        noise = jnp.where(greedy, 0, jax.random.normal(key, (spec.action_dim,)))
        return sample_action(actor, params["actor"], obs_code, noise)[0], carry

    return Method(
        init=init,
        phases=(Phase("train", cfg.train.updates, sample, update),),
        export=export,
        context=Context(cfg.world_model.context_len),
        infer=infer,
        policy=Policy(lambda params, adaptation: (), act),
    )
