"""What a config must satisfy: types, ranges, names and fields that depend on each other (F0).

Works on flat dicts {dotted name: value}, so that it needs neither JAX nor ml_collections.
"""

import importlib.util
from typing import Any

from metastar import registry
from metastar.config import sweep
from metastar.errors import UserError, did_you_mean

_SEED = "[0, 4294967295]"
_COUNT = "[1, inf)"
_RATE = "(0, 1]"
_NOT_NEGATIVE = "[0, inf)"

# Field -> interval of its value, or of each entry of a tuple. Every number has one.
INTERVALS = {
    "seed": _SEED,
    "num_seeds": _COUNT,
    "data.train_tasks": "[2, inf)",
    "data.test_tasks": _COUNT,
    "data.ood_tasks": _NOT_NEGATIVE,
    "data.task_seed": _SEED,
    "data.validation_tasks": _NOT_NEGATIVE,
    "simulator.threads": _NOT_NEGATIVE,
    "collect.seed": _SEED,
    "collect.random_episodes": _COUNT,
    "collect.random_action_scale": _RATE,
    "collect.iterations": _NOT_NEGATIVE,
    "collect.episodes_per_iteration": _COUNT,
    "collect.updates_per_iteration": _NOT_NEGATIVE,
    "collect.cross_task_episodes": _NOT_NEGATIVE,
    "collect.expert_quantile": "[0, 1]",
    "collect.batch_size": _COUNT,
    "collect.hidden": _COUNT,
    "collect.lr": _RATE,
    "collect.gamma": "[0, 1)",
    "collect.alpha": _NOT_NEGATIVE,
    "collect.tau": _RATE,
    "collect.exploration_noise": _NOT_NEGATIVE,
    "collect.smoothing_noise": _NOT_NEGATIVE,
    "collect.smoothing_clip": _NOT_NEGATIVE,
    "collect.policy_delay": _COUNT,
    "world_model.latent_dim": _COUNT,
    "world_model.width": _COUNT,
    "world_model.num_layers": _COUNT,
    "world_model.num_heads": _COUNT,
    "world_model.context_len": "[2, inf)",
    "world_model.code_dim": _COUNT,
    "world_model.attention_dropout": "[0, 1)",
    "world_model.pretrain_lr": _RATE,
    "world_model.lr": _RATE,
    "world_model.clip_norm": "(0, inf)",
    "world_model.ensemble": _COUNT,
    "world_model.free_bits": _NOT_NEGATIVE,
    "world_model.recon_weight": _NOT_NEGATIVE,
    "world_model.dyn_weight": _NOT_NEGATIVE,
    "world_model.rep_weight": _NOT_NEGATIVE,
    "infonce.temperature": "(0, inf)",
    "reconstruction.variance_power": "[0, 1]",
    "sampler.meta_batch": "[2, inf)",
    "sampler.pretrain_batch": _NOT_NEGATIVE,
    "sampler.hold_updates": _COUNT,
    "sampler.windows": "[1, 2]",
    "sampler.batch_size": "[2, inf)",
    "imagine.num_rollouts": _COUNT,
    "imagine.context_len": _COUNT,
    "imagine.horizon": _COUNT,
    "imagine.penalty": _NOT_NEGATIVE,
    "agent.hidden": _COUNT,
    "agent.gamma": "[0, 1)",
    "agent.alpha": _NOT_NEGATIVE,
    "agent.tau": _RATE,
    "agent.beta": _NOT_NEGATIVE,
    "agent.cloning": _NOT_NEGATIVE,
    "agent.num_actions": _COUNT,
    "agent.conservative_states": _NOT_NEGATIVE,
    "agent.tile_states": _NOT_NEGATIVE,
    "agent.gradient_actions": _COUNT,
    "agent.actor_lr": _RATE,
    "agent.critic_lr": _RATE,
    "agent.actor_average": "[0, 1)",
    "train.pretrain_updates": _NOT_NEGATIVE,
    "train.updates": _NOT_NEGATIVE,
    "train.chunk": _COUNT,
    "train.validate_every": _COUNT,
    "train.eval_every": _COUNT,
    "train.checkpoint_every": _COUNT,
    "train.keep_checkpoints": _COUNT,
    "eval.windows": _COUNT,
    "eval.episodes": _COUNT,
    "eval.zero_shot_streams": _COUNT,
    "eval.reinfer_every": _COUNT,
    "eval.curve_windows": _COUNT,
}

CHOICES = {
    "agent.penalty": ("cql", "combo", "reward_uncertainty"),
    "agent.conservative_gradient": ("exact", "sampled"),
    "simulator.backend": ("c", "mjx"),
    "sampler.positive": ("any", "other_behavior"),
    "world_model.core": ("transformer", "gru", "mlp"),
    "world_model.latent_init": ("reference", "precise"),
    "world_model.condition": ("none", "concat", "add", "film", "token"),
    "world_model.code_bound": ("none", "sphere"),
    "world_model.free_bits_per": ("batch", "element"),
    "imagine.start": ("predicted", "real"),
    "imagine.uncertainty": ("spread", "disagreement"),
    "train.lr_decay": ("none", "cosine"),
    "train.precision": ("float32", "tensorfloat32", "bfloat16"),
}

# Field -> kind of extension it names.
_NAMES = {"method": "method", "family": "family", "collect.behavior": "behavior"}


def check(flat: dict[str, Any], defaults: dict[str, Any]) -> None:
    """Raises `UserError` about the first field of `flat` that a config may not hold.

    `defaults` tells which fields there are and their types. Two sections are open: the fields of
    `task_losses` are names of task losses, those of `sweep` what `sweep.field` knows.
    """
    fields = [name for name in defaults if not name.startswith(sweep.LOSS)]
    for name, value in flat.items():
        if name.startswith(sweep.LOSS):
            _check_name("task loss", name.removeprefix(sweep.LOSS))
            _check_type(name, value, 0.0)
            _check_interval(name, value, _NOT_NEGATIVE)
        elif name.startswith(sweep.PREFIX):
            _check_sweep(name, value)
        elif name not in fields:
            raise UserError(f"unknown config field {name!r}{did_you_mean(name, fields)}")
    for name in fields:
        if name not in flat:
            raise UserError(f"config field {name!r} is missing; start from metastar.config.base()")
        value = flat[name]
        _check_type(name, value, defaults[name])
        if name in INTERVALS:
            _check_interval(name, value, INTERVALS[name])
        if name in CHOICES and value not in CHOICES[name]:
            raise UserError(f"{name} is {value!r}{did_you_mean(value, CHOICES[name])}")
        if name in _NAMES:
            _check_name(_NAMES[name], value)
    last = flat["seed"] + flat["num_seeds"] - 1
    _check_interval("seed of the last run", last, _SEED)
    if (num := sweep.num_runs(flat)) > sweep.MOST_RUNS:
        raise UserError(
            f"num_seeds and sweep ask for {num} runs in one program, but {sweep.MOST_RUNS} are the "
            "most; start several with other seeds"
        )
    for changes in sweep.changes(flat):
        _check_together({**flat, **changes})


def _check_sweep(name: str, values: Any) -> None:
    field = sweep.field(name.removeprefix(sweep.PREFIX))
    if not (isinstance(values, tuple) and values and all(type(x) in (int, float) for x in values)):
        raise UserError(f"{name} is {values!r} but must be numbers, for instance 0.5,1,5")
    _check_interval(name, values, INTERVALS.get(field, _NOT_NEGATIVE))
    if sweep.is_switch(field) and 0 in values:
        raise UserError(
            f"{name} is {values!r} but 0 leaves {field} out of the program that all its runs "
            "share; sweep values above 0"
        )
    if len(set(values)) < len(values):
        raise UserError(f"{name} is {values!r} but holds a value twice; give each once")


def _check_type(name: str, value: Any, default: Any) -> None:
    ok = type(value) is type(default)
    if ok and isinstance(value, tuple):
        ok = len(value) > 0 and all(type(entry) is int for entry in value)
    if not ok:
        kind = "tuple of ints" if isinstance(default, tuple) else type(default).__name__
        raise UserError(f"{name} is {value!r} but must be of type {kind}")


def _check_interval(name: str, value: Any, interval: str) -> None:
    low, high = map(float, interval[1:-1].split(","))
    for x in value if isinstance(value, tuple) else (value,):
        above = x >= low if interval[0] == "[" else x > low
        below = x <= high if interval[-1] == "]" else x < high
        if not (above and below):  # also true of NaN
            raise UserError(f"{name} is {value!r} but must lie in {interval}")


def _check_name(kind: str, name: str) -> None:
    """Looks for the file without importing it: a method imports JAX, this must not."""
    path = name.replace("/", ".")
    if "." not in path:
        if path not in registry.names(kind):
            raise UserError(f"unknown {kind} {name!r}{did_you_mean(name, registry.names(kind))}")
        return
    try:
        found = importlib.util.find_spec(path)
    except ModuleNotFoundError:
        found = None
    if found is None:
        raise UserError(f"{kind} {name!r} is not importable; put its folder on PYTHONPATH")


def _check_together(flat: dict[str, Any]) -> None:
    def demand(holds: bool, sentence: str) -> None:
        if not holds:
            raise UserError(sentence)

    tasks = flat["data.train_tasks"] - flat["data.validation_tasks"]
    rows = flat["imagine.context_len"] + flat["imagine.horizon"]
    imagined = flat["imagine.num_rollouts"] * flat["imagine.horizon"]
    states = flat["agent.conservative_states"]
    weights = {name: value for name, value in flat.items() if name.startswith(sweep.LOSS)}
    demand(
        tasks > 1,
        f"data.validation_tasks withholds all but {tasks} of the "
        f"{flat['data.train_tasks']} training tasks but must leave at least 2",
    )
    demand(
        flat["sampler.with_replacement"] or flat["sampler.meta_batch"] <= tasks,
        f"sampler.meta_batch is {flat['sampler.meta_batch']} but only {tasks} training tasks can "
        "be drawn without replacement; lower it or set sampler.with_replacement",
    )
    demand(
        flat["sampler.pretrain_batch"] != 1 and flat["sampler.pretrain_batch"] <= tasks,
        f"sampler.pretrain_batch is {flat['sampler.pretrain_batch']} but must be 0 for all "
        f"{tasks} training tasks, or from 2 to as many",
    )
    demand(
        flat["world_model.width"] % flat["world_model.num_heads"] == 0,
        f"world_model.width is {flat['world_model.width']} but must be a multiple of "
        f"world_model.num_heads, {flat['world_model.num_heads']}",
    )
    demand(
        rows <= flat["world_model.context_len"],
        f"imagine.context_len + imagine.horizon is {rows} but the position table has "
        f"world_model.context_len = {flat['world_model.context_len']} rows; lower one of the two",
    )
    demand(
        imagined < flat["sampler.batch_size"],
        f"imagine.num_rollouts * imagine.horizon is {imagined} but must be less than "
        f"sampler.batch_size, {flat['sampler.batch_size']}, to leave room for real transitions",
    )
    demand(
        flat["world_model.condition"] != "token" or flat["world_model.core"] != "mlp",
        "world_model.condition='token' needs a core with memory, but 'mlp' sees every step alone; "
        "set world_model.core to 'transformer' or 'gru', or condition to 'concat', 'add' or 'film'",
    )
    demand(
        flat["agent.penalty"] != "reward_uncertainty"
        or flat["method"] != "metastar"
        or flat["imagine.penalty"] > 0,
        "agent.penalty='reward_uncertainty' takes nothing off imagined rewards while "
        "imagine.penalty is 0; set it above 0",
    )
    demand(
        flat["agent.penalty"] != "reward_uncertainty" or "sweep.beta" not in flat,
        "sweep.beta changes nothing while agent.penalty='reward_uncertainty' leaves values alone; "
        "set agent.penalty to 'cql' or 'combo'",
    )
    demand(
        flat["imagine.uncertainty"] == "spread" or flat["world_model.ensemble"] > 1,
        "imagine.uncertainty='disagreement' needs decoders that can disagree; set "
        "world_model.ensemble to 2 or more",
    )
    demand(
        states == 0 or flat["sampler.batch_size"] % states == 0,
        f"agent.conservative_states is {states} but must be 0 or divide "
        f"sampler.batch_size, {flat['sampler.batch_size']}",
    )
    demand(
        flat.get("task_losses.infonce", 0.0) == 0 or flat["sampler.windows"] == 2,
        "task_losses.infonce needs two windows of a task; set sampler.windows=2",
    )
    demand(
        flat["method"] != "metastar" or any(weights.values()),
        "every weight of task_losses is 0 but method 'metastar' learns its task code from them; "
        "set at least one above 0",
    )
