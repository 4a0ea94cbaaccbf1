"""SPC: a context encoder trained by a latent world model and a contrast, values on its codes.

"Contextual Latent World Models for Offline Meta-RL" (arXiv 2603.02935); equations in
`docs/methods.md`. Other task losses can be added to its contrast or take its place.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from ml_collections import FrozenConfigDict

from metastar import registry
from metastar.config.fields import COUNT, NOT_NEGATIVE, POSITIVE, RATE, Field
from metastar.data import contexts, normalize, sampler
from metastar.data.normalize import unwhitener, view_whitener, whitener
from metastar.data.rows import Transitions, flatten, sequence_transitions
from metastar.data.sampler import sample_sequences, sample_task_id
from metastar.losses import latent_dynamics as model_loss
from metastar.losses import objective
from metastar.losses.task import reconstruction
from metastar.models import latent_dynamics, task_codes
from metastar.models.acting import AGENT, code_policy, code_value, one_batch
from metastar.models.latent_dynamics import LatentModel
from metastar.ops import memory_infonce
from metastar.ops.optim import descend, global_norm, make_optimizer
from metastar.ops.td import polyak
from metastar.types import (
    Agent,
    Array,
    Batch,
    Codes,
    Context,
    DataSpec,
    Encoder,
    Learner,
    Method,
    Phase,
    RowSpec,
    TrainState,
)

MODEL, ENCODER, OPPONENTS = "world_model", "encoder", "opponents"  # parts, beside the agent
NET, TASK_LOSSES = "net", objective.WEIGHTS  # parameters of the encoder, and of the task losses
DEFAULTS = {
    "encoder_lr": Field(1e-4, RATE, "rate of the context encoder; SPC", swept=True, decays=True),
    "period": Field(2, COUNT, "model and encoder are trained at every n-th update; SPC 2"),
    "infonce_weight": Field(1.0, NOT_NEGATIVE, "of the contrast with the memory; SPC", swept=True),
    "infonce_tau": Field(0.005, RATE, "rate of the memory; SPC", swept=True),
    "infonce_radius": Field(100.0, POSITIVE, "unit of distances in the contrast; SPC", swept=True),
    "repeated": Field(
        "mean", ("mean", "last"), "which code of a task drawn twice is its row; SPC's code: last"
    ),
}
SECTIONS = {
    "train": (),
    "sampler": (sampler, sampler.VIEWS, normalize),
    "encoder": (task_codes.SECTION,),
    "world_model": (latent_dynamics, model_loss),
    "task_losses": (objective.WEIGHTED,),
    "agent": ({"name": Field("iql", "agent", "a file of agents/", selector=True)},),
}


def check(cfg) -> None:
    """Raises `UserError` for an encoder or contexts that do not fit."""
    task_codes.check(cfg, "spc")


class System(NamedTuple):
    """The constant inputs of an update."""

    cfg: FrozenConfigDict
    spec: DataSpec
    encoder: Encoder
    model: LatentModel
    task_losses: objective.TaskLosses
    agent: Agent
    context: Context
    views: tuple[str, ...]  # "context", and "positive" if there is a second context of each task
    optimizer: optax.GradientTransformation
    model_optimizer: optax.GradientTransformation
    whiten: Callable
    whiten_view: Callable


def make(cfg, spec: DataSpec) -> Method:
    """Binds the system to a config: one phase, in which all parts learn together."""
    system = bind(cfg, spec)
    train = partial(sample, system), partial(update, system)
    unwhiten = unwhitener(cfg.sampler.normalize_obs, spec)

    def heads(params):
        return params[ENCODER][TASK_LOSSES]["reconstruction"]

    def see(params, obs):
        return system.model.encode(params[MODEL]["encoder"], obs)

    return Method(
        init=partial(init, system),
        phases=(Phase("train", cfg.train.updates, *train),),
        export=partial(export, system),
        context=system.context,
        infer=task_codes.make_infer(system.encoder, lambda p: p[ENCODER][NET], system.whiten_view),
        policy=code_policy(system.agent, spec.action_dim, system.whiten, see),
        task_model=reconstruction.make_task_model(
            heads, cfg.reconstruction, spec, system.whiten, unwhiten
        )
        if "reconstruction" in system.task_losses
        else None,
        value=code_value(system.agent, system.whiten, see),
    )


def bind(cfg, spec: DataSpec) -> System:
    """Builds what updates need; raises `UserError` for an agent or task loss that does not fit."""
    name, views = cfg.agent.name, objective.context_views(cfg.sampler, spec)
    encoder, context = task_codes.make(cfg.encoder, spec)
    code_dim = cfg.encoder[cfg.encoder.name].code_dim
    horizon = cfg.world_model.horizon
    rows = RowSpec(spec.action_dim, cfg.sampler.batch_size // horizon * horizon)
    return System(
        cfg=cfg,
        spec=spec,
        encoder=encoder,
        model=latent_dynamics.make(cfg.world_model, spec, code_dim),
        task_losses=objective.make(cfg, spec, code_dim, views, context.ordered),
        agent=one_batch(registry.make("agent", name, cfg.agent[name], rows), name, "spc"),
        context=context,
        views=views,
        optimizer=make_optimizer(),
        model_optimizer=make_optimizer(weight_decay=cfg.world_model.weight_decay),
        whiten=whitener(cfg.sampler.normalize_obs, spec),
        whiten_view=view_whitener(cfg.sampler.normalize_obs, spec),
    )


def update(
    system: System, state: TrainState, batch: Batch, key: Array, hp: dict, step: Array
) -> tuple[TrainState, dict[str, Array]]:
    """One update; the equations are in `docs/methods.md`.

    1. Codes `z = E(context)` of every context view.
    2. At every `period`-th update the representation learns: `represent`.
    3. The agent learns from all steps of the sequences, on the latents of the encoder after 2 and
       the codes of 1. Its gradient reaches neither.

    Metrics of 2 are `period` times their value where it is trained, else 0: their means over
    updates are then those over the updates that train it.

    Args:
        system: of `bind`.
        state: the parts `world_model`, `encoder`, `agent` and, where task losses have them,
            `opponents`.
        batch: of `sample`.
        key: of this update.
        hp: traced numbers, by section of the config.
        step: [] int, since the phase began.

    Raises:
        UserError: the memory has other rows than there are training tasks.
    """
    memory_infonce.expect_rows(state[ENCODER].extra["memory"], system.spec.num_tasks)
    key_codes, key_represent, key_agent = jax.random.split(key, 3)

    with jax.named_scope("encode"):
        own = batch.views, system.views, key_codes, system.cfg.encoder
        codes, pull_back = jax.vjp(
            lambda net: task_codes.encode(system.encoder, net, *own), state[ENCODER].params[NET]
        )

    def train(state):
        return represent(system, state, codes, pull_back, batch, key_represent, hp)

    def keep(state):
        return state, jax.tree.map(lambda x: jnp.zeros(x.shape), jax.eval_shape(train, state)[1])

    with jax.named_scope("representation"):
        state, found = jax.lax.cond(step % system.cfg.period == 0, train, keep, state)
        found = {name: system.cfg.period * x for name, x in found.items()}

    with jax.named_scope("agent"):
        rows = latent_rows(system, state[MODEL].params, batch, codes["context"].task)
        own = hp["agent"][system.cfg.agent.name]
        learner, learned = system.agent.update(state[AGENT], rows, key_agent, own, step)
    return {**state, AGENT: learner}, {**found, **learned}


def represent(
    system: System,
    state: TrainState,
    codes: dict[str, Codes],
    pull_back: Callable,
    batch: Batch,
    key: Array,
    hp: dict,
) -> tuple[TrainState, dict[str, Array]]:
    """Trains world model and context encoder, in the order of the authors' code.

    1. The gradient of the world model's loss in its parameters and in the codes; AdamW; the target
       encoder follows.
    2. The gradient of the contrast with the memory in the codes, after the memory has moved, and
       that of the task losses, against opponents that have moved.
    3. All gradients in the codes together are pulled back through the encoder: one step of Adam.
    """
    cfg, own = system.cfg, hp["spc"]
    key_noise, key_losses, key_opponents = jax.random.split(key, 3)
    model, encoder, sequence = state[MODEL], state[ENCODER], batch.views["sequence"]
    code = codes["context"].task

    target = system.model.target(model.target["encoder"], sequence.next_obs)
    noise = system.model.draw_noise(key_noise, sequence.reward.shape)
    (of_model, by_model), found = jax.grad(model_loss.loss, (0, 1), has_aux=True)(
        *(model.params, code, target, sequence, noise, hp["world_model"]),
        *(system.model, cfg.world_model.mask_terminals),
    )
    params, opt_state = descend(
        *(system.model_optimizer, model.params, model.opt_state), hp["world_model"]["lr"], of_model
    )
    follower = polyak(params["encoder"], model.target["encoder"], hp["world_model"]["tau"])
    model = Learner(params, {"encoder": follower}, opt_state)

    (infonce, memory), by_contrast = jax.value_and_grad(memory_infonce.infonce, has_aux=True)(
        *(code, batch.task_id, encoder.extra["memory"]),
        *(own["infonce_tau"], own["infonce_radius"], cfg.repeated),
    )
    by_contrast = own["infonce_weight"] * by_contrast
    opponents, answered = objective.train_opponents(
        state.get(OPPONENTS, Learner({})), codes, batch, key_opponents, hp, system.task_losses
    )
    of_losses, by_losses, objectives = objective.gradients(
        *(encoder.params[TASK_LOSSES], opponents.params, codes, batch, key_losses, hp),
        system.task_losses,
    )

    total = by_losses["context"].task + by_model + by_contrast
    by_losses["context"] = by_losses["context"]._replace(task=total)
    grads = {NET: pull_back(by_losses)[0], TASK_LOSSES: of_losses}
    moved = descend(system.optimizer, encoder.params, encoder.opt_state, own["encoder_lr"], grads)
    state = {**state, MODEL: model, ENCODER: Learner(moved[0], (), moved[1], {"memory": memory})}
    if OPPONENTS in state:
        state[OPPONENTS] = opponents
    norms = {"model_code_grad": by_model, "infonce_code_grad": by_contrast}
    norms = {name: global_norm(grad) for name, grad in norms.items()}
    return state, {**found, "memory_infonce": infonce, **norms, **objectives, **answered}


def latent_rows(system: System, params, batch: Batch, code: Array) -> Transitions:
    """All steps [M * B * H] of the sequences, their latents joined with the codes [M, Z].

    Padding of an episode shorter than a sequence is its first step again, a row like any other.
    """
    see = partial(system.model.encode, params["encoder"])
    return flatten(sequence_transitions(batch.views["sequence"], code, see))


def init(system: System, key: Array) -> TrainState:
    """Draws the first state; the memory starts at zero."""
    key_model, key_net, key_losses, key_opponents, key_agent = jax.random.split(key, 5)
    code_dim = system.cfg.encoder[system.cfg.encoder.name].code_dim
    model = system.model.init(key_model)
    params = {
        NET: system.encoder.init(key_net),
        TASK_LOSSES: objective.init(key_losses, system.task_losses),
    }
    memory = {"memory": jnp.zeros((system.spec.num_tasks, code_dim))}
    opponents = objective.init_opponents(key_opponents, system.task_losses)
    return {
        MODEL: Learner(model, {"encoder": model["encoder"]}, system.model_optimizer.init(model)),
        ENCODER: Learner(params, (), system.optimizer.init(params), memory),
        AGENT: system.agent.init(key_agent, system.model.size + code_dim),
        **({OPPONENTS: opponents} if opponents else {}),
    }


def sample(system: System, data, key: Array, step: Array) -> Batch:
    """The batch of an update: contexts and sequences within episodes of a meta-batch.

    Raises `UserError` for windows that are longer than the data of any task.
    """
    keys, cfg = jax.random.split(jax.random.fold_in(key, step), 3), system.cfg
    task_id = sample_task_id(data, cfg.sampler, keys[0])
    own = system.context, system.views, cfg.sampler.positive
    views = contexts.draw_views(data, task_id, keys[1], *own)
    sizes = cfg.sampler.batch_size, cfg.world_model.horizon
    views["sequence"] = sample_sequences(data, task_id, keys[2], *sizes)
    views = {name: system.whiten_view(view) for name, view in views.items()}
    return Batch(task_id, jax.tree.map(lambda x: x[task_id], data.task), views)


def export(system: System, state: TrainState) -> dict:
    """What inference and policy need."""
    return {
        MODEL: {"encoder": state[MODEL].params["encoder"]},
        ENCODER: state[ENCODER].params,
        AGENT: system.agent.export(state[AGENT]),
    }
