"""CORRO: a contrast with generated answers trains transition codes, the critics learn to pool them.

Yuan and Lu 2022 (ICML, arXiv 2206.10442); equations in `docs/methods.md`. Three phases, each of
which leaves the parts of the others alone:

* `generator`: a conditional autoencoder of the transitions of all tasks;
* `contrast`: the encoder of single transitions, against negatives that the generator makes, or
  against noised rewards, which need no generator;
* `agent`: values and policy on pooled codes. The pooling learns from the critics alone.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from ml_collections import FrozenConfigDict

from metastar import registry
from metastar.config.fields import COUNT, NOT_NEGATIVE, POSITIVE, RATE, Field
from metastar.data import contexts, normalize, sampler
from metastar.data.normalize import view_whitener, whitener
from metastar.data.rows import Transitions, flatten, real_transitions
from metastar.data.sampler import sample_task_id, sample_transitions
from metastar.errors import UserError
from metastar.losses import transition_contrast as losses
from metastar.models import task_codes, transition_cvae
from metastar.models.acting import AGENT, code_policy, code_value, one_batch
from metastar.models.nets.attention_pooling import AttentionPooling
from metastar.models.transition_cvae import TransitionCvae
from metastar.ops.contrastive import unit_length
from metastar.ops.optim import descend, gradient_step, make_optimizer
from metastar.types import (
    Adaptation,
    Agent,
    Array,
    Batch,
    Context,
    DataSpec,
    Encoder,
    Learner,
    Method,
    Phase,
    RowSpec,
    TrainState,
    View,
)

GENERATOR, ENCODER, POOLING = "generator", "encoder", "pooling"  # parts, beside the agent
DEFAULTS = {
    "negatives": Field(
        "generated",
        ("generated", "noised"),
        "reward and next state of a negative: what the generator draws for its state and action, "
        "or its own with noise on the reward, for tasks that differ in rewards",
    ),
    "num_negatives": Field(16, COUNT, "K of a transition; CORRO 16"),
    "pairs": Field(64, COUNT, "P, pairs of transitions of an update of the contrast; CORRO 64"),
    "temperature": Field(0.1, POSITIVE, "of the contrast; CORRO", swept=True),
    "noise_std": Field(0.5, POSITIVE, "of `noised`, in units of reward; CORRO 0.5", swept=True),
    "encoder_lr": Field(3e-4, RATE, "rate of the encoder; CORRO", swept=True, decays=True),
    "contrast_updates": Field(10_000, NOT_NEGATIVE, "of the phase; CORRO 1000 times 200"),
    "generator_updates": Field(
        10_000, NOT_NEGATIVE, "of the phase, none with `noised`; CORRO 100 passes over the data"
    ),
    "generator_batch": Field(128, COUNT, "transitions of an update of it; CORRO 128"),
    "generator_lr": Field(3e-4, RATE, "rate of the generator; CORRO", swept=True, decays=True),
    "kl_weight": Field(0.2, NOT_NEGATIVE, "of the generator's KL; CORRO 0.2", swept=True),
    "pooling_lr": Field(3e-4, RATE, "rate of the pooling; CORRO", swept=True, decays=True),
}
SECTIONS = {
    "train": (),
    "sampler": (sampler, normalize),
    "generator": (transition_cvae,),
    "encoder": (task_codes.SECTION,),
    "agent": ({"name": Field("iql", "agent", "a file of agents/", selector=True)},),
}


def check(cfg) -> None:
    """Raises `UserError` for an encoder that does not fit."""
    task_codes.check(cfg, "corro")


def idle(cfg) -> dict[str, str]:
    """Settings without effect under the other settings, which must not be swept, and why."""
    where = f"while corro.negatives={cfg.negatives!r}; set that to"
    if cfg.negatives == "generated":
        return {"noise_std": f"{where} 'noised'"}
    return dict.fromkeys(("generator_lr", "kl_weight"), f"{where} 'generated'")


class System(NamedTuple):
    """The constant inputs of an update."""

    cfg: FrozenConfigDict
    spec: DataSpec
    generator: TransitionCvae
    encoder: Encoder
    pooling: AttentionPooling
    agent: Agent
    context: Context
    optimizer: optax.GradientTransformation
    whiten: Callable
    whiten_view: Callable


def make(cfg, spec: DataSpec) -> Method:
    """Binds the system to a config."""
    system = bind(cfg, spec)
    generator = Phase(
        "generator", cfg.generator_updates, partial(sample_all, system), partial(generate, system)
    )
    contrast = Phase(
        "contrast", cfg.contrast_updates, partial(sample_pairs, system), partial(tell, system)
    )
    agent = Phase("agent", cfg.train.updates, partial(sample, system), partial(learn, system))

    def infer(params, view, task, key):
        context = system.whiten_view(jax.tree.map(lambda x: x[0], view))
        each = encode(system, params[ENCODER], context, key)
        return Adaptation(pool(system, params[POOLING], each, context.valid))

    return Method(
        init=partial(init, system),
        phases=(generator, contrast, agent) if cfg.negatives == "generated" else (contrast, agent),
        export=partial(export, system),
        context=system.context,
        infer=infer,
        policy=code_policy(system.agent, spec.action_dim, system.whiten),
        value=code_value(system.agent, system.whiten),
    )


def bind(cfg, spec: DataSpec) -> System:
    """Builds what updates need; raises `UserError` for an agent that does not fit."""
    name, rows = cfg.agent.name, RowSpec(spec.action_dim, cfg.sampler.batch_size)
    agent = one_batch(registry.make("agent", name, cfg.agent[name], rows), name, "corro")
    if agent.code_loss is None:
        raise UserError(
            f"agent {name!r} does not tell its critics' loss as a function of codes (`code_loss`), "
            "from which method 'corro' learns to pool them; set agent.name to 'iql' or 'sac'"
        )
    encoder, context = task_codes.make(cfg.encoder, spec)
    return System(
        cfg=cfg,
        spec=spec,
        generator=transition_cvae.make(cfg.generator, spec),
        encoder=encoder,
        pooling=AttentionPooling(),
        agent=agent,
        context=context,
        optimizer=make_optimizer(),
        whiten=whitener(cfg.sampler.normalize_obs, spec),
        whiten_view=view_whitener(cfg.sampler.normalize_obs, spec),
    )


def generate(
    system: System, state: TrainState, batch: Batch, key: Array, hp: dict, step: Array
) -> tuple[TrainState, dict[str, Array]]:
    """One update of the generator, on transitions of all tasks [P, 1]."""
    del step
    view, part, own = batch.views["any"], state[GENERATOR], hp["corro"]
    noise = jax.random.normal(key, (*view.reward.shape, system.generator.latent_dim))
    *moved, metrics = gradient_step(losses.generator_loss, system.optimizer)(
        *(part.params, part.opt_state, own["generator_lr"]),
        *(view, noise, own["kl_weight"], system.generator),
    )
    return {**state, GENERATOR: Learner(moved[0], opt_state=moved[1])}, metrics


def tell(
    system: System, state: TrainState, batch: Batch, key: Array, hp: dict, step: Array
) -> tuple[TrainState, dict[str, Array]]:
    """One update of the encoder, on pairs of transitions of a task, [P, 2].

    1. K negatives of the first of each pair.
    2. Codes of length 1 of all; the contrast of the pair with the negatives; Adam.

    Codes of other tasks are no negatives: their state and action would tell them apart.
    """
    del step
    pair, part, own = batch.views["pair"], state[ENCODER], hp["corro"]
    key_negatives, key_codes = jax.random.split(key)
    query = jax.tree.map(lambda x: x[:, 0] if x.ndim > 1 else x, pair)
    shape = pair.reward.shape[0], system.cfg.num_negatives
    if system.cfg.negatives == "generated":
        noise = jax.random.normal(key_negatives, (*shape, system.generator.latent_dim))
        negative = losses.generated(state[GENERATOR].params, query, noise, system.generator)
    else:
        noise = jax.random.normal(key_negatives, shape)
        negative = losses.noised(query, noise, own["noise_std"])
    *moved, metrics = gradient_step(losses.contrast, system.optimizer)(
        *(part.params, part.opt_state, own["encoder_lr"]),
        *(pair, negative, own["temperature"]),
        lambda net, view: each_of(system, net, view, key_codes),
    )
    return {**state, ENCODER: Learner(moved[0], opt_state=moved[1])}, metrics


def learn(
    system: System, state: TrainState, batch: Batch, key: Array, hp: dict, step: Array
) -> tuple[TrainState, dict[str, Array]]:
    """One update of pooling and agent on contexts [M, L] and rows [M, B].

    1. Codes of all transitions of a context, by the frozen encoder; `z` pools them.
    2. The gradient of the critics' loss in z, with the critics from before their step, is pulled
       back through the pooling: one step of Adam.
    3. The agent learns on the same rows with the z of 1.
    """
    key_codes, key_agent = jax.random.split(key)
    context, name = batch.views["context"], system.cfg.agent.name
    part, agent = state[POOLING], state[AGENT]

    with jax.named_scope("encode"):
        each = encode(system, state[ENCODER].params, context, key_codes)
        code, pull_back = jax.vjp(
            lambda params: pool(system, params, each, context.valid), part.params
        )

    def rows_of(code) -> Transitions:
        return flatten(real_transitions(batch, code))

    own = key_agent, hp["agent"][name], step
    with jax.named_scope("pooling"):
        of_code = jax.grad(lambda code: system.agent.code_loss(agent, rows_of(code), *own))(code)
        moved = descend(
            *(system.optimizer, part.params, part.opt_state, hp["corro"]["pooling_lr"]),
            pull_back(of_code)[0],
        )

    with jax.named_scope("agent"):
        agent, metrics = system.agent.update(agent, rows_of(code), *own)
    metrics["code_spread"] = jnp.std(code, axis=0).mean()
    return {**state, POOLING: Learner(moved[0], opt_state=moved[1]), AGENT: agent}, metrics


def each_of(system: System, net: Any, view: View, key: Array) -> Array:
    """The encoder's codes [..., L, Z] of single transitions; `UserError` if it makes none."""
    noise = system.encoder.draw_noise(key, view.valid.shape)
    each = system.encoder.encode(net, view, noise).each
    if each is None:
        raise UserError(
            f"method 'corro' needs a code of every transition, which encoder "
            f"{system.cfg.encoder.name!r} does not make; set encoder.name='mean_mlp'"
        )
    return each


def encode(system: System, net: Any, view: View, key: Array) -> Array:
    """The codes of a context's transitions, of length 1: [..., L, Z]."""
    return unit_length(each_of(system, net, view, key))


def pool(system: System, params: Any, each: Array, valid: Array) -> Array:
    """The code [..., Z] of a context; zero for one without a valid transition."""
    return system.pooling.apply({"params": params}, each, valid)[0]


def init(system: System, key: Array) -> TrainState:
    """Draws the first state."""
    key_generator, key_net, key_pooling, key_agent = jax.random.split(key, 4)
    code_dim = system.cfg.encoder[system.cfg.encoder.name].code_dim
    pooling = system.pooling.init(key_pooling, jnp.zeros((1, code_dim)), jnp.ones(1, bool))
    params = {ENCODER: system.encoder.init(key_net), POOLING: pooling["params"]}
    if system.cfg.negatives == "generated":
        params[GENERATOR] = system.generator.init(key_generator)
    learners = {
        name: Learner(own, opt_state=system.optimizer.init(own)) for name, own in params.items()
    }
    return {**learners, AGENT: system.agent.init(key_agent, system.spec.obs_dim + code_dim)}


def sample_all(system: System, data, key: Array, step: Array) -> Batch:
    """Transitions of all tasks alike, one by one: "any" [P, 1]."""
    return _singles(system, data, key, step, "any", system.cfg.generator_batch, 1)


def sample_pairs(system: System, data, key: Array, step: Array) -> Batch:
    """Two transitions of a task each: "pair" [P, 2]."""
    return _singles(system, data, key, step, "pair", system.cfg.pairs, 2)


def _singles(system, data, key, step, name, num, of_each):
    key_task, key_view = jax.random.split(jax.random.fold_in(key, step))
    task_id = jax.random.randint(key_task, (num,), 0, data.count.shape[0])
    view = system.whiten_view(sample_transitions(data, task_id, key_view, of_each))
    return Batch(task_id, jax.tree.map(lambda x: x[task_id], data.task), {name: view})


def sample(system: System, data, key: Array, step: Array) -> Batch:
    """The batch of an agent's update: a context and real transitions of each task.

    Raises `UserError` if windows are longer than the data of any task.
    """
    keys, cfg = jax.random.split(jax.random.fold_in(key, step), 3), system.cfg.sampler
    task_id = sample_task_id(data, cfg, keys[0])
    views = contexts.draw_views(data, task_id, keys[1], system.context, ("context",))
    views["real"] = sample_transitions(data, task_id, keys[2], cfg.batch_size)
    views = {name: system.whiten_view(view) for name, view in views.items()}
    return Batch(task_id, jax.tree.map(lambda x: x[task_id], data.task), views)


def export(system: System, state: TrainState) -> dict:
    """What inference and policy need."""
    nets = {name: state[name].params for name in (ENCODER, POOLING)}
    return {**nets, AGENT: system.agent.export(state[AGENT])}
