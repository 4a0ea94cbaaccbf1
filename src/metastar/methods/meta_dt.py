"""Meta-DT: a world model's codes and a prompt from its errors condition a Transformer.

"Meta-DT: Offline Meta-RL as Conditional Sequence Modeling with World Model Disentanglement" (Wang
et al. 2024, NeurIPS) and its released code; equations in `docs/methods.md`. Nothing learns values.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from ml_collections import FrozenConfigDict

from metastar.config.fields import COUNT, NOT_NEGATIVE, POSITIVE, RATE, Field
from metastar.data import normalize, sampler
from metastar.data.normalize import whitener
from metastar.data.sampler import draw_sequences, gather, sample_task_id
from metastar.errors import UserError
from metastar.losses import history_model as model_loss
from metastar.losses import sequence_cloning
from metastar.models import history_model, prompts, sequence_policy, sequences
from metastar.models.acting import AGENT
from metastar.models.history_model import HistoryModel, histories, rows_of
from metastar.models.nets import decision_transformer
from metastar.models.nets.decision_transformer import DecisionTransformer, Steps, draw_keep
from metastar.models.sequence_policy import Prompted
from metastar.models.sequences import Reader
from metastar.ops.optim import clip_norm, descend, global_norm, gradient_step, make_optimizer
from metastar.types import (
    Array,
    Batch,
    Context,
    DataSpec,
    Learner,
    Method,
    Phase,
    TrainState,
    View,
)

MODEL = "world_model"  # part of the state, beside the agent, which is the Transformer
PROMPT = "prompt"  # its parameters that are trained only where there are prompts
UNKNOWN = -3e38  # best return of a task of which no episode was drawn; finite, as all of a state
DEFAULTS = {
    "context_len": Field(20, COUNT, "K, steps that the Transformer sees; Meta-DT 20"),
    "lr": Field(1e-4, RATE, "rate of AdamW", swept=True, decays=True),
    "lr_warmup": Field(1, COUNT, "updates over which the rate rises to lr; Meta-DT 10 000"),
    "weight_decay": Field(1e-4, NOT_NEGATIVE, "of all parameters; Meta-DT 1e-4"),
    "clip_norm": Field(0.25, POSITIVE, "largest norm of the gradient; Meta-DT 0.25"),
    "return_scale": Field(10.0, POSITIVE, "unit of returns-to-go; Meta-DT 500, Point-Robot 10"),
    "candidates": Field(
        1,
        COUNT,
        "episodes drawn for each sequence, of which the one of the highest return is cut; Meta-DT "
        "1, on data without uniform actions",
        before=1,
    ),
    "use_model": Field(True, "", "False: no world model, all codes are 0; an ablation"),
    "target": Field(
        "train",
        ("train", "context", "given"),
        "return that is asked for: the mean over training tasks of their best; the best episode of "
        "the context, privileged where that is the test task's own data (as in Meta-DT's code, of "
        "all its data); or target_return",
    ),
    "target_return": Field(0.0, "(-inf, inf)", "with target='given'"),
}
SECTIONS = {
    "train": (
        {"pretrain_updates": Field(10_000, NOT_NEGATIVE, "updates of the world model alone")},
    ),
    "sampler": (sampler, normalize),
    "world_model": (
        history_model,
        {
            "lr": Field(1e-3, RATE, "rate of Adam; Meta-DT 1e-3", swept=True, decays=True),
            "clip_norm": Field(1.0, POSITIVE, "largest norm of its gradient; Meta-DT 1"),
            "rows": Field(1, COUNT, "steps of each drawn episode that it learns from"),
        },
    ),
    "transformer": (decision_transformer,),
    "prompt": (prompts,),
    "acting": (sequence_policy,),
}


def check(cfg) -> None:
    """Raises `UserError` for fields that do not fit together."""
    if cfg.acting.kept >= cfg.context_len:
        raise UserError(
            f"acting.kept is {cfg.acting.kept} but must be less than meta_dt.context_len, "
            f"{cfg.context_len}: a full cache must lose a step"
        )
    if not cfg.use_model and cfg.prompt.choice in prompts.BY_ERROR:
        raise UserError(
            f"prompt.choice={cfg.prompt.choice!r} goes by the errors of a world model, and "
            "meta_dt.use_model=False has none; choose 'random' or 'none'"
        )


class System(NamedTuple):
    """The constant inputs of an update."""

    cfg: FrozenConfigDict
    spec: DataSpec
    model: HistoryModel
    model_step: Callable  # of the world model, by `gradient_step`
    reader: Reader
    net: DecisionTransformer
    optimizer: optax.GradientTransformation


def make(cfg, spec: DataSpec) -> Method:
    """Binds the system to a config: a phase of the world model, then one of the Transformer."""
    system = bind(cfg, spec)
    updates = cfg.train.pretrain_updates * cfg.use_model, cfg.train.updates
    best = partial(sample, system, candidates=cfg.candidates)
    return Method(
        init=partial(init, system),
        phases=(
            Phase("pretrain", updates[0], partial(sample, system), partial(pretrain, system)),
            Phase("train", updates[1], best, partial(update, system)),
        ),
        export=partial(export, system),
        context=Context(spec.max_episode_steps),
        infer=partial(infer, system),
        policy=sequence_policy.make(
            cfg, system.net, partial(encode, system), system.reader.whiten, spec
        ),
        longest_episode=spec.max_episode_steps,
        least_steps=1 if cfg.prompt.choice == "none" else cfg.prompt.length,
    )


def bind(cfg, spec: DataSpec) -> System:
    """Builds what updates need.

    Raises `UserError` for sequences longer than episodes, or data without returns.
    """
    lengths = {"meta_dt.context_len": cfg.context_len, "prompt.length": cfg.prompt.length}
    for name, num in lengths.items():
        if num > spec.max_episode_steps:
            raise UserError(
                f"{name} is {num}, but episodes of family {spec.family!r} have "
                f"{spec.max_episode_steps} steps, and no longer sequence can be trained; lower it"
            )
    if not spec.reward_std > 0:
        raise UserError(
            "method 'meta_dt' asks for returns, and all rewards of the training data are the same; "
            "use data with rewards, or method 'bc'"
        )
    net = DecisionTransformer(
        width=cfg.transformer.width,
        num_layers=cfg.transformer.num_layers,
        num_heads=cfg.transformer.num_heads,
        max_steps=spec.max_episode_steps,
        obs_dim=spec.obs_dim,
        action_dim=spec.action_dim,
        state_dim=cfg.world_model.code_dim,
        code_dim=cfg.world_model.code_dim,
    )
    model = history_model.make(cfg.world_model, spec)
    whiten = whitener(cfg.sampler.normalize_obs, spec)
    return System(
        cfg=cfg,
        spec=spec,
        model=model,
        model_step=gradient_step(model_loss.loss, make_optimizer(cfg.world_model.clip_norm)),
        reader=Reader(cfg, model, whiten, spec.max_episode_steps),
        net=net,
        optimizer=make_optimizer(weight_decay=cfg.weight_decay),
    )


def pretrain(
    system: System, state: TrainState, batch: Batch, key: Array, hp: dict, step: Array
) -> tuple[TrainState, dict[str, Array]]:
    """One update of the world model, on `world_model.rows` steps of each drawn episode."""
    del step
    cfg, view, learner = system.cfg, batch.views["episode"], state[MODEL]
    length = view.valid.sum(-1, keepdims=True)
    u = jax.random.uniform(key, (*length.shape[:-1], cfg.world_model.rows))
    position = prompts.whole_number(u, length)  # [M, B, rows]

    def look_up(view, position):
        rows = histories(rows_of(view), view.step, position, cfg.world_model.history)
        return rows, jax.tree.map(lambda x: x[position] if x.ndim else x, view)

    rows, shown = jax.vmap(jax.vmap(look_up))(view, position)
    params, opt_state, metrics = system.model_step(
        *(learner.params, learner.opt_state, hp["world_model"]["lr"]),
        *(rows, shown, shown.valid, system.model),
    )
    return {**state, MODEL: Learner(params, opt_state=opt_state)}, metrics


def update(
    system: System, state: TrainState, batch: Batch, key: Array, hp: dict, step: Array
) -> tuple[TrainState, dict[str, Array]]:
    """One update of the Transformer; the equations are in `docs/methods.md`.

    1. Of each drawn episode K steps are cut, their start uniform, with returns-to-go and with
       codes of the world model, which is frozen.
    2. Each task's prompt is a segment of one more of its episodes, chosen by the model's errors.
    3. Squared errors of actions; one norm limits the whole gradient; AdamW, whose step for what
       embeds prompts is taken only when there are prompts.

    Args:
        system: of `bind`.
        state: the parts `world_model` and `agent`.
        batch: of `sample`.
        key: of this update.
        hp: traced numbers, by section of the config.
        step: [] int, since the phase began.
    """
    cfg, own, learner = system.cfg, hp["meta_dt"], state[AGENT]
    key_start, key_prompt, key_share, key_keep = jax.random.split(key, 4)
    view, asked = batch.views["episode"], batch.views["prompt"]
    shape = view.valid.shape[:-1]  # [M, B]

    with jax.named_scope("cut"):
        start = prompts.whole_number(jax.random.uniform(key_start, shape), view.valid.sum(-1))
        sequence = partial(sequences.sequence, system.reader, state[MODEL].params)
        steps = jax.vmap(jax.vmap(sequence))(view, start)  # [M, B, K]

    with jax.named_scope("prompt"):
        choose = partial(sequences.prompt, system.reader, state[MODEL].params, tail=False)
        prompt, _ = jax.vmap(choose)(asked, jax.random.uniform(key_prompt, shape[:1]))
        share = cfg.prompt.share * (cfg.prompt.choice != "none")
        given = jax.random.bernoulli(key_share, share, shape[:1]) & (step >= cfg.prompt.after)
        prompt = prompt._replace(valid=prompt.valid & given[:, None])
        prompt = jax.tree.map(lambda x: jnp.repeat(x[:, None], shape[1], 1), prompt)

    with jax.named_scope("transformer"):
        num = cfg.context_len + cfg.prompt.length
        keep = draw_keep(key_keep, shape, num, system.net, cfg.transformer.dropout)
        rate = own["lr"] * jnp.minimum((step + 1) / cfg.lr_warmup, 1)
        learner, metrics = train_net(system, learner, rate, steps, prompt, keep)

    returns = jnp.where(view.valid, view.reward, 0).sum(-1).max(-1)  # [M]
    best = learner.extra["best"].at[batch.task_id].max(returns)
    learner = learner._replace(extra={"best": best})
    metrics = {**metrics, "prompted": given.mean(), "target": target_of(best)}
    return {**state, AGENT: learner}, metrics


def train_net(
    system: System, learner: Learner, rate: Array, steps: Steps, prompt: Steps, keep
) -> tuple[Learner, dict[str, Array]]:
    """A step of AdamW; what embeds prompts rests, and does not count it, where there is none."""
    grads, metrics = jax.grad(sequence_cloning.loss, has_aux=True)(
        learner.params, steps, prompt, keep, system.net
    )
    norm = global_norm(grads)
    grads = clip_norm(grads, system.cfg.clip_norm)
    parts = zip(divided(learner.params), learner.opt_state, divided(grads))
    (body, own), (embeds, state) = (
        descend(system.optimizer, params, opt_state, rate, g) for params, opt_state, g in parts
    )
    rested = divided(learner.params)[1], learner.opt_state[1]
    embeds, state = jax.tree.map(
        lambda new, old: jnp.where(prompt.valid.any(), new, old), (embeds, state), rested
    )
    learner = learner._replace(params={**body, **embeds}, opt_state=(own, state))
    return learner, {**metrics, "grad_norm": norm}


def divided(params: dict) -> tuple[dict, dict]:
    """The Transformer's parameters, without those that embed prompts, and these."""
    rest = {name: x for name, x in params.items() if name != PROMPT}
    return rest, {PROMPT: params[PROMPT]}


def target_of(best: Array) -> Array:
    """The mean [] of the best returns [N] of tasks, as far as they are known; 0 if none is."""
    known = best > UNKNOWN
    return jnp.where(known, best, 0).sum() / jnp.maximum(known.sum(), 1)


def init(system: System, key: Array) -> TrainState:
    """Draws the first state."""
    cfg, spec = system.cfg, system.spec
    key_model, key_net = jax.random.split(key)
    model = system.model.init(key_model)
    prompt = sequence_policy.no_prompt(1, spec)
    steps = prompt._replace(code=jnp.zeros((1, cfg.world_model.code_dim)))
    params = system.net.init(key_net, steps, prompt)["params"]
    states = tuple(system.optimizer.init(part) for part in divided(params))
    best = jnp.full(spec.num_tasks, UNKNOWN)
    return {
        MODEL: Learner(model, opt_state=make_optimizer(cfg.world_model.clip_norm).init(model)),
        AGENT: Learner(params, opt_state=states, extra={"best": best}),
    }


def sample(system: System, data, key: Array, step: Array, candidates: int = 1) -> Batch:
    """The batch of an update: B whole episodes of each task, and one more for its prompt.

    Each of the B is the one of the highest return among so many `candidates`, drawn uniformly.
    """
    keys = jax.random.split(jax.random.fold_in(key, step), 3)
    task_id, num = sample_task_id(data, system.cfg.sampler, keys[0]), system.cfg.sampler.batch_size
    many, length = jnp.tile(task_id[:, None], (1, num * candidates)), system.spec.max_episode_steps
    views = {
        name: gather(data, draw_sequences(data, tasks, own, length))
        for name, tasks, own in zip(("episode", "prompt"), (many, task_id), keys[1:])
    }
    views["episode"] = jax.vmap(partial(best_of_each, candidates))(views["episode"])
    return Batch(task_id, jax.tree.map(lambda x: x[task_id], data.task), views)


def best_of_each(candidates: int, view: View) -> View:
    """Of each block of consecutive episodes [B * candidates, T] the one of the highest return."""
    returns = jnp.where(view.valid, view.reward, 0).sum(-1).reshape(-1, candidates)
    best = returns.argmax(-1) + candidates * jnp.arange(len(returns))
    return jax.tree.map(lambda x: x[best], view)


def export(system: System, state: TrainState) -> dict:
    """What inference and policy need; "target" is what `meta_dt.target` 'train' asks for."""
    target = target_of(state[AGENT].extra["best"])
    return {MODEL: state[MODEL].params, AGENT: state[AGENT].params, "target": target}


def encode(system: System, params, rows: Array) -> Array:
    """Codes [..., Z] of histories [..., h, n], of the exported world model."""
    return sequences.codes(system.reader, params[MODEL], rows)


def infer(system: System, params, view: View, task, key: Array) -> Prompted:
    """Prompt and target of a context [C, L], of which one of the best windows gives the prompt.

    Windows of a task's data may join several episodes. Without a usable step there is no prompt.
    """
    cfg = system.cfg
    keys = jax.random.split(key)
    tail = cfg.prompt.error == "tail"
    choose = partial(sequences.prompt, system.reader, params[MODEL], tail=tail)
    draws = jax.random.uniform(keys[0], view.reward.shape[:1])
    prompt, code = jax.vmap(choose)(view, draws)
    returns = jnp.where(view.valid, view.reward, 0).sum(-1)
    picked = prompts.best_of(returns, prompt.valid.any(-1), jax.random.uniform(keys[1]))
    target = params["target"]
    if cfg.target == "given":
        target = jnp.asarray(cfg.target_return)
    elif cfg.target == "context":
        target = prompts.best_return(view, system.spec.max_episode_steps, target)
    shown = view.valid[..., None]
    mean = jnp.where(shown, code, 0).sum((0, 1)) / jnp.maximum(shown.sum(), 1)
    return Prompted(mean, jax.tree.map(lambda x: x[picked], prompt), target)
