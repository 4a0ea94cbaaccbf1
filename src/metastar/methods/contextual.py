"""Encode a context, condition an agent on its code: an encoder, a task objective and an agent.

Settings choose the three: FOCAL (Li et al. 2021, arXiv 2010.01112) is the encoder
`mean_mlp` under the objective `distance` (`configs/focal.py`). Equations in `docs/methods.md`.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from ml_collections import FrozenConfigDict

from metastar import registry
from metastar.config.fields import COUNT, RATE, Field
from metastar.data import contexts, normalize, sampler
from metastar.data.normalize import unwhitener, view_whitener, whitener
from metastar.data.rows import flatten, real_transitions
from metastar.data.sampler import sample_task_id, sample_transitions
from metastar.losses import objective, task_ensemble
from metastar.losses.task import reconstruction
from metastar.models import task_codes
from metastar.models import task_ensemble as ensembles
from metastar.models.acting import AGENT, code_policy, code_value
from metastar.ops.optim import descend, gradient_step, make_optimizer
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
    TaskModel,
    TrainState,
)

# Parts of the state, beside the agent.
ENCODER, OPPONENTS, ENSEMBLE = "encoder", "opponents", "ensemble"
NET = "net"  # parameters of the encoder; beside them are those of the task losses
TASK_LOSSES = objective.WEIGHTS
DEFAULTS = {
    "encoder_lr": Field(
        3e-4, RATE, "rate of the encoder and of the objective's networks", swept=True, decays=True
    ),
    "encoder_period": Field(1, COUNT, "n: the encoder is trained at every n-th update; SPC 2"),
}
SECTIONS = {
    "train": (),
    "sampler": (sampler, sampler.VIEWS, normalize),
    "encoder": (task_codes.SECTION,),
    "task_losses": (objective.WEIGHTED,),
    "ensemble": (ensembles,),
    "agent": ({"name": Field("iql", "agent", "a file of agents/", selector=True)},),
}


def check(cfg) -> None:
    """Raises `UserError` for fields that do not fit together."""
    objective.expect_any(cfg, "contextual")
    task_codes.check(cfg, "contextual")


class System(NamedTuple):
    """The constant inputs of an update."""

    cfg: FrozenConfigDict
    spec: DataSpec
    encoder: Encoder
    task_losses: objective.TaskLosses
    ensemble: ensembles.TaskEnsemble | None
    agent: Agent
    context: Context  # what is encoded
    views: tuple[str, ...]  # "context", and "positive" if there is a second context of each task
    optimizer: optax.GradientTransformation
    whiten: Callable
    whiten_view: Callable
    unwhiten: Callable


def make(cfg, spec: DataSpec) -> Method:
    """Binds the system to a config: one phase, in which all parts learn together."""
    system = bind(cfg, spec)

    return Method(
        init=partial(init, system),
        phases=(
            Phase("train", cfg.train.updates, partial(sample, system), partial(update, system)),
        ),
        export=partial(export, system),
        context=system.context,
        infer=task_codes.make_infer(system.encoder, lambda p: p[ENCODER][NET], system.whiten_view),
        policy=code_policy(system.agent, spec.action_dim, system.whiten),
        task_model=task_model(system),
        value=code_value(system.agent, system.whiten),
    )


def task_model(system: System) -> TaskModel | None:
    """The ensemble's, or else that of the heads which the task loss `reconstruction` trains."""
    spec, units = system.spec, (system.whiten, system.unwhiten)
    if system.ensemble:
        return task_ensemble.make_task_model(lambda p: p[ENSEMBLE], system.ensemble, spec, *units)
    if "reconstruction" not in system.task_losses:
        return None
    return reconstruction.make_task_model(
        lambda p: p[ENCODER][TASK_LOSSES]["reconstruction"],
        system.cfg.reconstruction,
        spec,
        *units,
    )


def bind(cfg, spec: DataSpec) -> System:
    """Builds what updates need.

    Raises `UserError` if a task loss needs a view that is not drawn, or two sources where the data
    have one.
    """
    normalized = cfg.sampler.normalize_obs
    views = objective.context_views(cfg.sampler, spec)
    rows = RowSpec(spec.action_dim, cfg.sampler.batch_size)
    encoder, context = task_codes.make(cfg.encoder, spec)
    code_dim = cfg.encoder[cfg.encoder.name].code_dim
    return System(
        cfg=cfg,
        spec=spec,
        encoder=encoder,
        task_losses=objective.make(cfg, spec, code_dim, views, context.ordered),
        ensemble=ensembles.make(cfg.ensemble, spec, code_dim),
        agent=registry.make("agent", cfg.agent.name, cfg.agent[cfg.agent.name], rows),
        context=context,
        views=views,
        optimizer=make_optimizer(),
        whiten=whitener(normalized, spec),
        whiten_view=view_whitener(normalized, spec),
        unwhiten=unwhitener(normalized, spec),
    )


def update(
    system: System, state: TrainState, batch: Batch, key: Array, hp: dict, step: Array
) -> tuple[TrainState, dict[str, Array]]:
    """One update; the equations are in `docs/methods.md`.

    1. Codes `z = E(context)` of every context view.
    2. Opponents, where task losses have them, take their inner steps on these codes.
    3. The encoder: the gradient of `sum_n w_n L_n` in the codes, against the opponents of 2, is
       pulled back through the encoder, which takes a step at every `encoder_period`-th update.
    4. The agent learns from real rows with the codes of 1; its gradient does not reach the encoder.
       Nor does that of an ensemble of task models, if there is one.

    Args:
        system: of `bind`.
        state: the parts `encoder`, `agent` and, where there are some, `opponents` and `ensemble`.
        batch: of `sample`.
        key: of this update.
        hp: traced numbers, by section of the config.
        step: [] int, since the phase began.
    """
    cfg, agent, task_losses = system.cfg, system.agent, system.task_losses
    key_codes, key_opponents, key_losses, key_agent = jax.random.split(key, 4)
    encoder, opponents = state[ENCODER], state.get(OPPONENTS, Learner({}))
    networks = encoder.params[TASK_LOSSES]

    with jax.named_scope("encode"):
        codes, pull_back = jax.vjp(
            lambda net: encode(system, net, batch, key_codes), encoder.params[NET]
        )

    with jax.named_scope("opponents"):
        opponents, answered = objective.train_opponents(
            opponents, codes, batch, key_opponents, hp, task_losses
        )

    def move(encoder):
        grads = {NET: pull_back(of_codes)[0], TASK_LOSSES: of_networks}
        rate = hp["contextual"]["encoder_lr"]
        moved = descend(system.optimizer, encoder.params, encoder.opt_state, rate, grads)
        return encoder._replace(params=moved[0], opt_state=moved[1])

    with jax.named_scope("objective"):
        of_networks, of_codes, found = objective.gradients(
            networks, opponents.params, codes, batch, key_losses, hp, task_losses
        )
        encoder = jax.lax.cond(step % cfg.encoder_period == 0, move, lambda same: same, encoder)

    with jax.named_scope("agent"):
        rows = flatten(real_transitions(batch, codes["context"].task), agent.num_batches)
        own = hp["agent"][cfg.agent.name]
        learner, learned = agent.update(state[AGENT], rows, key_agent, own, step)
    state = {**state, ENCODER: encoder, AGENT: learner}
    if OPPONENTS in state:
        state[OPPONENTS] = opponents
    if system.ensemble:
        with jax.named_scope("ensemble"):
            code = codes["context"].task
            state[ENSEMBLE], fitted = fit_ensemble(system, state[ENSEMBLE], batch, code, hp)
        learned |= fitted
    return state, {**found, **answered, **learned}


def fit_ensemble(
    system: System, part: Learner, batch: Batch, code: Array, hp: dict
) -> tuple[Learner, dict[str, Array]]:
    """One step of the ensemble on the view "members" [M, E * B] and the codes [M, Z], as data."""
    cfg = system.cfg.ensemble

    def of_members(x):
        return jnp.moveaxis(x.reshape(x.shape[0], cfg.members, cfg.rows, *x.shape[2:]), 1, 0)

    view = jax.tree.map(lambda x: of_members(x) if x.ndim > 1 else x, batch.views["members"])
    given = jax.lax.stop_gradient(code), view, system.ensemble, cfg.first_dynamics
    *moved, metrics = gradient_step(task_ensemble.loss, system.optimizer)(
        part.params, part.opt_state, hp["ensemble"]["lr"], *given
    )
    return Learner(moved[0], opt_state=moved[1]), metrics


def encode(system: System, net, batch: Batch, key: Array) -> dict[str, Codes]:
    """The codes of the context views of a batch, by view; raises as `task_codes.encode`."""
    own = system.views, key, system.cfg.encoder
    return task_codes.encode(system.encoder, net, batch.views, *own)


def init(system: System, key: Array) -> TrainState:
    """Draws the first state."""
    key_net, key_losses, key_opponents, key_agent = jax.random.split(key, 4)
    cfg, task_losses = system.cfg, system.task_losses
    params = {
        NET: system.encoder.init(key_net),
        TASK_LOSSES: objective.init(key_losses, task_losses),
    }
    opponents = objective.init_opponents(key_opponents, task_losses)
    size = system.spec.obs_dim + cfg.encoder[cfg.encoder.name].code_dim
    state = {
        ENCODER: Learner(params, opt_state=system.optimizer.init(params)),
        AGENT: system.agent.init(key_agent, size),
        **({OPPONENTS: opponents} if opponents else {}),
    }
    if system.ensemble:
        members = system.ensemble.init(jax.random.fold_in(key, 1))
        state[ENSEMBLE] = Learner(members, opt_state=system.optimizer.init(members))
    return state


def sample(system: System, data, key: Array, step: Array) -> Batch:
    """The batch of an update: contexts and real transitions of a meta-batch.

    Raises `UserError` if windows are longer than the data of any task.
    """
    keys, cfg = jax.random.split(jax.random.fold_in(key, step), 3), system.cfg.sampler
    task_id = sample_task_id(data, cfg, keys[0])
    own = system.context, system.views, cfg.positive
    views = contexts.draw_views(data, task_id, keys[1], *own)
    num_rows = system.agent.num_batches * cfg.batch_size
    views["real"] = sample_transitions(data, task_id, keys[2], num_rows)
    if system.ensemble:
        own, key_own = system.cfg.ensemble, jax.random.fold_in(keys[2], 1)
        views["members"] = sample_transitions(data, task_id, key_own, own.members * own.rows)
    views = {name: system.whiten_view(view) for name, view in views.items()}
    return Batch(task_id, jax.tree.map(lambda x: x[task_id], data.task), views)


def export(system: System, state: TrainState) -> dict:
    """What inference, policy and the task model need."""
    exported = {ENCODER: state[ENCODER].params, AGENT: system.agent.export(state[AGENT])}
    return exported | ({ENSEMBLE: state[ENSEMBLE].params} if system.ensemble else {})
