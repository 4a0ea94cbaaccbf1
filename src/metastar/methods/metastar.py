"""MetaSTAR: a Transformer world model, a task objective, and conservative imagination.

Source: "Behavior-Invariant Task Representation Learning with Transformer-based World Models for
Offline Meta-RL" (arXiv 2606.00780); equations in `docs/methods.md`.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from ml_collections import FrozenConfigDict

from metastar import registry
from metastar.config.fields import NOT_NEGATIVE, POSITIVE, RATE, Field
from metastar.data import normalize, sampler
from metastar.data.normalize import unwhitener, view_whitener, whitener
from metastar.data.rows import concatenate, flatten, imagined_transitions, real_transitions
from metastar.data.sampler import (
    sample_contexts,
    sample_task_id,
    sample_transitions,
    sample_windows,
)
from metastar.errors import UserError
from metastar.losses import objective
from metastar.losses import world_model as model_loss
from metastar.losses.task import reconstruction
from metastar.models import dynamics, other_codes, world_model
from metastar.models import imagine as imagination
from metastar.models.acting import AGENT, code_policy, code_value, one_batch
from metastar.models.rollouts import replay, roll_out
from metastar.ops.optim import gradient_step, make_optimizer
from metastar.types import (
    Adaptation,
    Agent,
    Array,
    Batch,
    Context,
    DataSpec,
    Learner,
    Method,
    Phase,
    RowSpec,
    TrainState,
)

MODEL, OPPONENTS = "world_model", "opponents"  # parts of the state, beside the agent
DEFAULTS = {}
SECTIONS = {
    "train": (
        {"pretrain_updates": Field(10_000, NOT_NEGATIVE, "updates of the pretraining phase")},
    ),
    "sampler": (
        sampler,
        sampler.HELD,
        sampler.VIEWS,
        normalize,
        {
            "pretrain_batch": Field(
                0, NOT_NEGATIVE, "tasks of a pretraining update; 0 is all of them", before=0
            ),
        },
    ),
    "world_model": (
        world_model,
        model_loss,
        {
            "pretrain_lr": Field(1e-4, RATE, "rate of the pretraining", swept=True, decays=True),
            "lr": Field(1e-4, RATE, "rate of the joint phase", swept=True, decays=True),
            "clip_norm": Field(1000.0, POSITIVE, "largest norm of the model's gradient"),
            "every": Field(
                1,
                NOT_NEGATIVE,
                "joint updates from one in which the model learns to the next; 0: it is done with "
                "the pretraining (ours)",
                before=1,
            ),
        },
        other_codes.NEAR,
    ),
    "task_losses": (objective.WEIGHTED,),
    "imagine": (dynamics, imagination, other_codes),
    "agent": ({"name": Field("conservative", "agent", "a file of agents/", selector=True)},),
}
READS = ("data",)


def check(cfg) -> None:
    """Raises `UserError` for fields that do not fit together."""
    tasks = cfg.data.train_tasks - cfg.data.validation_tasks
    imagined = cfg.imagine.num_rollouts * cfg.imagine.horizon
    if cfg.sampler.pretrain_batch == 1 or cfg.sampler.pretrain_batch > tasks:
        raise UserError(
            f"sampler.pretrain_batch is {cfg.sampler.pretrain_batch} but must be 0 for all {tasks} "
            "training tasks, or from 2 to as many"
        )
    dynamics.expect_room(cfg.imagine.context_len, cfg.imagine.horizon, cfg)
    if imagined >= cfg.sampler.batch_size:
        raise UserError(
            f"imagine.num_rollouts * imagine.horizon is {imagined} but must be less than "
            f"sampler.batch_size, {cfg.sampler.batch_size}, to leave room for real transitions"
        )
    if cfg.imagine.uncertainty == "disagreement" and cfg.world_model.ensemble == 1:
        raise UserError(
            "imagine.uncertainty='disagreement' needs decoders that can disagree; set "
            "world_model.ensemble to 2 or more"
        )
    agent = cfg.agent[cfg.agent.name]
    if agent.get("penalty") == "reward_uncertainty" and cfg.imagine.penalty == 0:
        raise UserError(
            f"agent.{cfg.agent.name}.penalty='reward_uncertainty' takes nothing off imagined "
            "rewards while imagine.penalty is 0; set it above 0"
        )
    other_codes.expect_told(cfg)
    objective.expect_any(cfg, "metastar")


class System(NamedTuple):
    """The constant inputs of an update."""

    cfg: FrozenConfigDict
    spec: DataSpec
    task_losses: objective.TaskLosses
    agent: Agent
    model_step: Callable  # of the world model, by `gradient_step`
    views: tuple[str, ...]  # "context", and "positive" if there is a second window of each task
    whiten: Callable
    whiten_view: Callable
    unwhiten: Callable


def make(cfg, spec: DataSpec) -> Method:
    """Binds the system to a config: a pretraining phase of the world model, then a joint phase."""
    return method_of(bind(cfg, spec))


def method_of(system: System) -> Method:
    """The method of a bound system."""
    cfg, spec = system.cfg, system.spec
    updates = cfg.train.pretrain_updates, cfg.train.updates

    def heads(params):
        return params[MODEL][model_loss.TASK_LOSSES]["reconstruction"]

    return Method(
        init=partial(init, system),
        phases=(
            Phase("pretrain", updates[0], *of(system, sample_model, pretrain, validate)),
            Phase("joint", updates[1], *of(system, sample_joint, update)),
        ),
        export=partial(export, system),
        context=Context(cfg.world_model.context_len),
        infer=partial(infer, system),
        policy=code_policy(system.agent, spec.action_dim, system.whiten),
        predict=partial(predict, system),
        task_model=reconstruction.make_task_model(
            heads, cfg.reconstruction, spec, system.whiten, system.unwhiten
        )
        if "reconstruction" in system.task_losses
        else None,
        value=code_value(system.agent, system.whiten),
    )


def bind(cfg, spec: DataSpec) -> System:
    """Builds what updates need.

    Raises `UserError` if a task loss needs a view that is not drawn, or two sources where the data
    have one.
    """
    views = objective.context_views(cfg.sampler, spec)
    task_losses = objective.make(cfg, spec, cfg.world_model.code_dim, views)
    num_imagined = cfg.imagine.num_rollouts * cfg.imagine.horizon
    rows = RowSpec(spec.action_dim, cfg.sampler.batch_size, num_imagined)
    agent = registry.make("agent", cfg.agent.name, cfg.agent[cfg.agent.name], rows)
    optimizer, normalized = make_optimizer(cfg.world_model.clip_norm), cfg.sampler.normalize_obs
    return System(
        cfg=cfg,
        spec=spec,
        task_losses=task_losses,
        agent=one_batch(agent, cfg.agent.name, "metastar"),
        model_step=gradient_step(model_loss.loss_and_codes, optimizer),
        views=views,
        whiten=whitener(normalized, spec),
        whiten_view=view_whitener(normalized, spec),
        unwhiten=unwhitener(normalized, spec),
    )


def update(
    system: System, state: TrainState, batch: Batch, key: Array, hp: dict, step: Array
) -> tuple[TrainState, dict[str, Array]]:
    """One update of the joint phase, in the order of the paper (equations in `docs/methods.md`).

    1. World model and task code, by one gradient: reconstruction and termination from the
       posterior's latents, the balanced KL of the latent dynamics, and the task objective on the
       codes of the context windows. The opponents of task losses then learn from these codes. With
       `world_model.every` above 1 (ours) the model stays as it is in the updates between.
    2. Imagination: from every start window the model is rolled out for `imagine.horizon` steps
       under the actor and the code. `imagine.penalty` times its uncertainty is subtracted from its
       rewards. With `imagine.reach` (ours) rollouts are under codes of other tasks, with
       `world_model.code_noise` (ours) the agent learns under codes near those of the tasks.
    3. Values and policy: the conservative critics learn from real and imagined rows together, the
       actor from the critics. Their gradients do not reach the code or the model.

    Args:
        system: of `bind`.
        state: the parts `world_model`, `agent` and, where task losses have them, `opponents`.
        batch: of `sample_joint`.
        key: of this update.
        hp: traced numbers, by section of the config.
        step: [] int, since the phase began.
    """
    cfg, spec, agent = system.cfg, system.spec, system.agent
    key_model, key_agent = jax.random.split(key)
    key_imagine, key_agent = jax.random.split(key_agent)

    with jax.named_scope("world_model"):
        rate, every = hp["world_model"]["lr"], cfg.world_model.every
        learns = step % every == 0 if every > 1 else every == 1
        state, model_metrics, code = train_model(system, state, batch, key_model, hp, rate, learns)
        if cfg.world_model.code_noise:
            code = other_codes.perturb(jax.random.fold_in(key_imagine, 2), code, cfg)

    with jax.named_scope("imagine"):
        act = partial(agent.act, state[AGENT].params, greedy=False)
        world = state[MODEL].params, cfg, hp["imagine"]["penalty"]
        codes, reward_fn = imagined_tasks(system, state[MODEL].params, code, key_imagine)
        start = batch.views["start"], codes
        imagined = roll_out(*world, *start, act, key_imagine, spec.action_dim, reward_fn)

    with jax.named_scope("agent"):
        rows = concatenate(real_transitions(batch, code), imagined_transitions(imagined, codes))
        own = hp["agent"][cfg.agent.name]
        learner, metrics = agent.update(state[AGENT], flatten(rows), key_agent, own, step)
    return {**state, AGENT: learner}, {**model_metrics, **metrics}


def train_model(
    system: System,
    state: TrainState,
    batch: Batch,
    key: Array,
    hp: dict,
    rate: Array,
    learns: bool | Array = True,
) -> tuple[TrainState, dict[str, Array], Array]:
    """Trains the world model, then the opponents; returns state, metrics and the codes [M, Z].

    The codes are those of the "context" view from before the step, so that the rest of the update
    has them without another pass of the model. Where it `learns` not ([] bool, may be traced) the
    model stays, and metrics and codes are of what it is.
    """
    model, opponents = state[MODEL], state.get(OPPONENTS, Learner({}))
    noise = model_loss.draw_noise(key, batch, system.cfg, system.task_losses)
    given = opponents.params, batch, noise, hp, system.cfg, system.task_losses

    def learn(params, opt_state):
        return system.model_step(params, opt_state, rate, *given)

    def stay(params, opt_state):
        return params, opt_state, model_loss.loss_and_codes(params, *given)[1]

    own = model.params, model.opt_state
    if isinstance(learns, bool):
        params, opt_state, (metrics, codes) = (learn if learns else stay)(*own)
    else:
        params, opt_state, (metrics, codes) = jax.lax.cond(learns, learn, stay, *own)
    state = {**state, MODEL: Learner(params, opt_state=opt_state)}
    if opponents.params:
        key = jax.random.fold_in(key, 1)
        state[OPPONENTS], answered = objective.train_opponents(
            opponents, codes, batch, key, hp, system.task_losses
        )
        metrics = {**metrics, **answered}
    return state, metrics, codes["context"].task


def imagined_tasks(
    system: System, params: dict, code: Array, key: Array
) -> tuple[Array, Callable | None]:
    """The codes [M, R, Z] of the rollouts, from those of the tasks [M, Z], and their rewards.

    Rewards are the decoder's (None) under the tasks' own codes, and of the reconstruction's head
    under those that `imagine.reach` asks for: the real steps ahead of a rollout hold rewards of its
    own task, from which the decoder would tell them.
    """
    cfg, rollouts = system.cfg, system.cfg.imagine.num_rollouts
    if not cfg.imagine.reach:
        return jnp.broadcast_to(code[:, None], (code.shape[0], rollouts, code.shape[-1])), None
    heads = params[model_loss.TASK_LOSSES]["reconstruction"]

    def reward_fn(obs, action, next_obs, code):
        after = next_obs[None] if cfg.reconstruction.reward_given == "next_obs" else None
        given = obs, action, after, code[None], cfg.reconstruction.width
        return reconstruction.expected_reward(heads, *given)[0]

    return other_codes.draw(jax.random.fold_in(key, 1), code, rollouts, cfg), reward_fn


def pretrain(system, state, batch, key, hp, step):
    """One update of the pretraining phase: the first part of `update`."""
    rate = hp["world_model"]["pretrain_lr"]
    state, metrics, _ = train_model(system, state, batch, key, hp, rate)
    return state, metrics


def validate(system, state, batch, key, hp):
    """The world model's loss on a batch."""
    noise = model_loss.draw_noise(key, batch, system.cfg, system.task_losses)
    model, opponents = state[MODEL].params, state.get(OPPONENTS, Learner({})).params
    return model_loss.loss(model, opponents, batch, noise, hp, system.cfg, system.task_losses)[0]


def init(system: System, key: Array) -> TrainState:
    """Draws the first state."""
    cfg, spec, task_losses = system.cfg, system.spec, system.task_losses
    key_model, key_agent = jax.random.split(key)
    params = model_loss.init(key_model, cfg, spec, task_losses)
    optimizer = make_optimizer(cfg.world_model.clip_norm)
    opponents = objective.init_opponents(jax.random.fold_in(key_model, 1), task_losses)
    return {
        MODEL: Learner(params, opt_state=optimizer.init(params)),
        AGENT: system.agent.init(key_agent, spec.obs_dim + cfg.world_model.code_dim),
        **({OPPONENTS: opponents} if opponents else {}),
    }


def sample_model(system, data, key, step):
    """The batch of a pretraining update: all tasks, or `sampler.pretrain_batch` of them."""
    key, task_id = jax.random.fold_in(key, step), jnp.arange(data.count.shape[0])
    if num := system.cfg.sampler.pretrain_batch:
        key, key_tasks = jax.random.split(key)
        task_id = jax.random.choice(key_tasks, task_id, (num,), replace=False)
    return _batch(data, task_id, _contexts(system, data, task_id, key))


def sample_joint(system, data, key, step):
    """The batch of a joint update: contexts, real transitions and start windows of a meta-batch."""
    cfg = system.cfg
    key_tasks, key_views = jax.random.split(key)
    key_tasks = jax.random.fold_in(key_tasks, step // cfg.sampler.hold_updates)
    task_id = sample_task_id(data, cfg.sampler, key_tasks)
    key_context, key_real, key_start = jax.random.split(jax.random.fold_in(key_views, step), 3)
    views = _contexts(system, data, task_id, key_context)
    num_real = cfg.sampler.batch_size - cfg.imagine.num_rollouts * cfg.imagine.horizon
    views["real"] = system.whiten_view(sample_transitions(data, task_id, key_real, num_real))
    starts = jnp.tile(task_id[:, None], (1, cfg.imagine.num_rollouts))
    window = sample_windows(data, starts, key_start, cfg.imagine.context_len)
    views["start"] = system.whiten_view(window)
    return _batch(data, task_id, views)


def export(system, state):
    """The parameters that inference, policy and predictions need."""
    return {MODEL: state[MODEL].params, AGENT: system.agent.export(state[AGENT])}


def infer(system, params, view, task, key):
    """The code of one window, [1, L]."""
    context = system.whiten_view(jax.tree.map(lambda x: x[0], view))
    noise = world_model.draw_encode_noise(key, context.valid.shape, system.cfg)
    return Adaptation(world_model.encode_task(params[MODEL], context, noise, system.cfg))


def predict(system, params, window, action, code, key):
    """`Method.predict`: one rollout under recorded actions."""
    window = system.whiten_view(window)
    path = replay(params[MODEL], system.cfg, window, action, code, key)
    return system.unwhiten(path.next_obs), path.reward


def of(system: System, *functions: Callable) -> list[Callable]:
    """These functions of the file, bound to a system."""
    return [partial(function, system) for function in functions]


def _contexts(system, data, task_id, key):
    cfg = system.cfg
    views = sample_contexts(
        data, task_id, key, cfg.world_model.context_len, system.views, cfg.sampler.positive
    )
    return {name: system.whiten_view(view) for name, view in views.items()}


def _batch(data, task_id, views):
    return Batch(task_id, jax.tree.map(lambda x: x[task_id], data.task), views)
