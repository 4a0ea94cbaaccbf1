"""MetaSTAR: a Transformer world model, a task objective, and conservative imagination.

Source: "Behavior-Invariant Task Representation Learning with Transformer-based World Models for
Offline Meta-RL" (arXiv 2606.00780); equations in `docs/methods.md`.
"""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp

from metastar import registry
from metastar.config import schema
from metastar.config.fields import NOT_NEGATIVE, POSITIVE, RATE, Field, Open
from metastar.data import normalize, sampler
from metastar.data.normalize import unwhitener, view_whitener, whitener
from metastar.data.rows import imagined_transitions, real_transitions
from metastar.data.sampler import (
    sample_other_behavior,
    sample_task_id,
    sample_transitions,
    sample_windows,
)
from metastar.errors import UserError
from metastar.losses import world_model as model_loss
from metastar.losses.sources import expect_sources
from metastar.losses.task import reconstruction
from metastar.models import dynamics, world_model
from metastar.models import imagine as imagination
from metastar.models.imagine import ImagineNoise, imagine
from metastar.models.nets.actor_critic import Critic
from metastar.ops.optim import gradient_step, make_optimizer
from metastar.types import (
    Adaptation,
    Batch,
    Context,
    DataSpec,
    Method,
    Phase,
    TaskModel,
    TrainState,
)

TOLERANCE = 0.3  # of the model of rewards, in standard deviations of the reward


DEFAULTS = {}
SECTIONS = {
    "train": (
        {"pretrain_updates": Field(10_000, NOT_NEGATIVE, "updates of the pretraining phase")},
    ),
    "sampler": (
        sampler,
        sampler.HELD,
        normalize,
        {
            "pretrain_batch": Field(
                0, NOT_NEGATIVE, "tasks of a pretraining update; 0 is all of them", before=0
            ),
            "windows": Field(
                1, "[1, 2]", 'of a task; 2 adds the "positive" view, a second window of the same'
            ),
            "positive": Field(
                "any",
                ("any", "other_behavior"),
                "where that comes from: any behaviour, or another than the first window's",
                before="any",
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
        },
    ),
    "task_losses": (
        Open(
            "task loss",
            Field(0.0, NOT_NEGATIVE, "weight of a task loss", swept=True, switch=True),
        ),
    ),
    "imagine": (dynamics, imagination),
    "agent": ({"name": Field("conservative", "agent", "a file of agents/", selector=True)},),
}
READS = ("data",)


def check(cfg) -> None:
    """Raises `UserError` for fields that do not fit together."""
    tasks = cfg.data.train_tasks - cfg.data.validation_tasks
    rows, table = cfg.imagine.context_len + cfg.imagine.horizon, cfg.world_model.context_len
    imagined = cfg.imagine.num_rollouts * cfg.imagine.horizon
    if cfg.sampler.pretrain_batch == 1 or cfg.sampler.pretrain_batch > tasks:
        raise UserError(
            f"sampler.pretrain_batch is {cfg.sampler.pretrain_batch} but must be 0 for all {tasks} "
            "training tasks, or from 2 to as many"
        )
    if rows > table:
        raise UserError(
            f"imagine.context_len + imagine.horizon is {rows} but the position table has "
            f"world_model.context_len = {table} rows; lower one of the two"
        )
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
    if not any(cfg.task_losses.values()):
        raise UserError(
            "every weight of task_losses is 0 but method 'metastar' learns its task code from "
            "them; set at least one above 0"
        )


def make(cfg, spec: DataSpec, critic_module: Callable = Critic) -> Method:
    """Binds the system to a config: a pretraining phase of the world model, then a joint phase.

    `critic_module` makes a critic of hidden sizes.
    """
    task_losses = {
        name: schema.make(cfg, "task loss", name, spec)
        for name, weight in cfg.task_losses.items()
        if weight > 0
    }
    view_names = ("context", "positive")[: cfg.sampler.windows]
    for name, task_loss in task_losses.items():
        if missing := set(task_loss.views) - set(view_names):
            raise UserError(
                f"task loss {name!r} needs the view {min(missing)!r}, a second window of each "
                "task; set sampler.windows=2"
            )
    other_behavior = "positive" in view_names and cfg.sampler.positive == "other_behavior"
    if other_behavior:
        expect_sources(spec, "sampler.positive='other_behavior'")
    num_imagined = cfg.imagine.num_rollouts * cfg.imagine.horizon
    name, normalized = cfg.agent.name, cfg.sampler.normalize_obs
    whiten, whiten_view = whitener(normalized, spec), view_whitener(normalized, spec)
    unwhiten = unwhitener(normalized, spec)
    agent = registry.find("agent", name).make(
        cfg.agent[name],
        spec,
        whiten,
        cfg.world_model.code_dim,
        cfg.sampler.batch_size,
        num_imagined,
        critic_module,
    )
    optimizer = make_optimizer(cfg.world_model.clip_norm)
    model_step = gradient_step(model_loss.loss_and_codes, optimizer)
    start = {"predicted": dynamics.start, "real": dynamics.start_real}[cfg.imagine.start]

    def init(key):
        key_model, key_agent = jax.random.split(key)
        model = model_loss.init(key_model, cfg, spec, task_losses)
        params, opt_state = agent.init(key_agent)
        return TrainState(
            params={"world_model": model, **params},
            target={"critic": params["critic"]},
            opt_state={"world_model": optimizer.init(model), **opt_state},
            extra={"actor": params["actor"]},
            step=jnp.zeros((), jnp.int32),
        )

    def context_views(data, task_id, key):
        key_context, key_positive = jax.random.split(key)
        length = cfg.world_model.context_len
        context = sample_windows(data, task_id, key_context, length)
        views = {"context": context}
        if "positive" in view_names:
            sample = sample_windows
            if other_behavior:
                sample = partial(sample_other_behavior, policy=context.policy, stage=context.stage)
            views["positive"] = sample(data, task_id, key_positive, length)
        return {name: whiten_view(view) for name, view in views.items()}

    def batch_of(data, task_id, views):
        return Batch(task_id, jax.tree.map(lambda x: x[task_id], data.task), views)

    def sample_model(data, key, step):
        key, task_id = jax.random.fold_in(key, step), jnp.arange(data.count.shape[0])
        if cfg.sampler.pretrain_batch:
            key, key_tasks = jax.random.split(key)
            shape = (cfg.sampler.pretrain_batch,)
            task_id = jax.random.choice(key_tasks, task_id, shape, replace=False)
        return batch_of(data, task_id, context_views(data, task_id, key))

    def sample_joint(data, key, step):
        key_tasks, key_views = jax.random.split(key)
        key_tasks = jax.random.fold_in(key_tasks, step // cfg.sampler.hold_updates)
        task_id = sample_task_id(data, cfg.sampler, key_tasks)
        key_context, key_real, key_start = jax.random.split(jax.random.fold_in(key_views, step), 3)
        views = context_views(data, task_id, key_context)
        num_real = cfg.sampler.batch_size - num_imagined
        views["real"] = whiten_view(sample_transitions(data, task_id, key_real, num_real))
        starts = jnp.tile(task_id[:, None], (1, cfg.imagine.num_rollouts))
        window = sample_windows(data, starts, key_start, cfg.imagine.context_len)
        views["start"] = whiten_view(window)
        return batch_of(data, task_id, views)

    def train_model(state, batch, key, hp, lr):
        """One step of the world model; returns the codes of the context, from before the step."""
        noise = model_loss.draw_noise(key, batch, cfg, task_losses)
        params, opt_state, (metrics, codes) = model_step(
            state.params["world_model"],
            state.opt_state["world_model"],
            lr,
            batch,
            noise,
            weights_of(hp),
            cfg,
            task_losses,
        )
        state = state._replace(
            params={**state.params, "world_model": params},
            opt_state={**state.opt_state, "world_model": opt_state},
        )
        return state, metrics, codes["context"]

    def pretrain(state, batch, key, hp):
        rate = hp["world_model"]["pretrain_lr"]
        state, metrics, _ = train_model(state, batch, key, hp, rate)
        return state, metrics

    def validate(state, batch, key, hp):
        noise = model_loss.draw_noise(key, batch, cfg, task_losses)
        model = state.params["world_model"]
        return model_loss.loss(model, batch, noise, weights_of(hp), cfg, task_losses)[0]

    def roll_out(params, window, code, key, hp):
        """Rolls the model out from every start window [M, R, K] under the actor."""
        key_start, key_step, key_action = jax.random.split(key, 3)
        context_len, horizon = cfg.imagine.context_len, cfg.imagine.horizon
        rollouts = window.stage.shape
        noise_start = dynamics.draw_start_noise(key_start, rollouts, context_len, spec.obs_dim, cfg)
        noise = ImagineNoise(
            dynamics.draw_step_noise(key_step, (*rollouts, horizon), spec.obs_dim, cfg),
            jax.random.normal(key_action, (*rollouts, horizon, spec.action_dim)),
        )
        model = params["world_model"]
        step_fn = dynamics.make_step_fn(model, cfg, hp["imagine"]["penalty"])
        act = agent.policy_fn(params["actor"])

        def rollout(window, code, noise_start, noise):
            obs, carry = start(model, window, code, noise_start, cfg)

            def policy_fn(obs, noise):
                return act(jnp.concatenate([obs, code]), noise)[0]

            return imagine(step_fn, policy_fn, obs, carry, noise, horizon, cfg.imagine.restart)

        per_task = jax.vmap(rollout, in_axes=(0, None, 0, 0))
        return jax.vmap(per_task)(window, code, noise_start, noise)

    def train_agent(state, batch, code, key, hp):
        key_imagine, key_agent = jax.random.split(key)
        real = real_transitions(batch, code)
        window = batch.views["start"]
        trajectory = roll_out(state.params, window, code, key_imagine, hp)
        imagined = imagined_transitions(trajectory, code)
        rows = jax.tree.map(lambda a, b: jnp.concatenate([a, b], 1), real, imagined)
        rows = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), rows)
        return agent.update(state, rows, key_agent, hp["agent"][name])

    def joint(state, batch, key, hp):
        key_model, key_agent = jax.random.split(key)
        rate = hp["world_model"]["lr"]
        state, model_metrics, code = train_model(state, batch, key_model, hp, rate)
        state, agent_metrics = train_agent(state, batch, code, key_agent, hp)
        return state, {**model_metrics, **agent_metrics}

    # Terms to be timed alone. Codes are zero and real rows stand in for imagined ones: the work is
    # the same.
    def world_model_part(state, batch, key, hp):
        return train_model(state, batch, key, hp, hp["world_model"]["lr"])[:2]

    def no_code(batch):
        return jnp.zeros((batch.task_id.shape[0], cfg.world_model.code_dim))

    def imagine_part(state, batch, key, hp):
        window = batch.views["start"]
        trajectory = roll_out(state.params, window, no_code(batch), key, hp)
        return state, trajectory._asdict()

    def critic_part(state, batch, key, hp):
        rows = real_transitions(batch, no_code(batch))
        num_real = cfg.sampler.batch_size - num_imagined
        cycle = jnp.arange(cfg.sampler.batch_size) % num_real
        rows = jax.tree.map(lambda x: x[:, cycle].reshape(-1, *x.shape[2:]), rows)
        return agent.update(state, rows, key, hp["agent"][name])

    def export(state):
        return {
            "world_model": state.params["world_model"],
            "actor": state.extra["actor"],
            "critic": state.params["critic"],
        }

    def infer(params, context, task, key):
        context = whiten_view(jax.tree.map(lambda x: x[0], context))  # of one window
        noise = world_model.draw_encode_noise(key, context.valid.shape, cfg)
        return Adaptation(world_model.encode_task(params["world_model"], context, noise, cfg))

    def predict(params, window, action, code, key):
        key_start, key_step = jax.random.split(key)
        model, horizon = params["world_model"], action.shape[0]
        noise = dynamics.draw_start_noise(key_start, (), window.reward.shape[0], spec.obs_dim, cfg)
        begin = dynamics.start(model, whiten_view(window), code, noise, cfg)
        steps = dynamics.draw_step_noise(key_step, (horizon,), spec.obs_dim, cfg)
        step_fn = dynamics.make_step_fn(model, cfg)
        recorded = ImagineNoise(steps, action)
        path = imagine(step_fn, lambda obs, action: action, *begin, recorded, horizon)
        return unwhiten(path.next_obs), path.reward

    def expected_next_obs(params, obs, action, code):
        own = params["world_model"][model_loss.TASK_LOSSES]["reconstruction"]
        return unwhiten(reconstruction.expected_next_obs(own, whiten(obs), action, code, cfg, spec))

    def expected_reward(params, obs, action, next_obs, code):
        own = params["world_model"][model_loss.TASK_LOSSES]["reconstruction"]
        seen = whiten(obs), action, whiten(next_obs)
        return reconstruction.expected_reward(own, *seen, code, cfg)

    tolerance = TOLERANCE * max(spec.reward_std, 1e-6)
    task_model = TaskModel(expected_next_obs, expected_reward, tolerance)

    return Method(
        init=init,
        phases=(
            Phase("pretrain", cfg.train.pretrain_updates, sample_model, pretrain, validate),
            Phase("joint", cfg.train.updates, sample_joint, joint),
        ),
        export=export,
        infer=infer,
        policy=agent.policy,
        context=Context(cfg.world_model.context_len),
        predict=predict,
        task_model=task_model if "reconstruction" in task_losses else None,
        value=agent.value,
        parts={"world_model": world_model_part, "imagine": imagine_part, "critic": critic_part},
    )


def weights_of(hp: dict) -> model_loss.Weights:
    """The world model's part of the traced numbers."""
    own = hp["world_model"]
    return model_loss.Weights(
        recon=own["recon_weight"],
        dyn=own["dyn_weight"],
        rep=own["rep_weight"],
        free_bits=own["free_bits"],
        task_losses=hp["task_losses"],
    )
