"""Defaults, presets, validation and JSON of experiment configs (floor F0: imports no JAX)."""

import importlib.util
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from metastar.config import constraints
from metastar.errors import UserError, did_you_mean


def base() -> ConfigDict:
    """Every field a config has, with the reference's hyper-parameters for Point-Robot.

    Source of the numbers: MetaSTAR (arXiv 2606.00780) and its released code. What only our default
    uses is neutral here (no averaging, no bound, no normalisation).
    """
    return ConfigDict(
        {
            "method": "metastar",
            "family": "point_robot_sparse",
            "preset": "",
            "seed": 0,
            "num_seeds": 1,  # runs of one program: seed, seed + 1, ...
            # Rates and weights whose values are runs of one program, too, by their names in
            # `types.HyperParams`: sweep.beta=0.5,1,5. Runs are the product of seeds and values.
            "sweep": {},
            "deterministic": False,  # accelerators: ask XLA for bitwise reproducible kernels
            "data": {
                "dir": "",  # "" is data/<family>_<preset>
                "train_tasks": 30,
                "test_tasks": 10,
                # Held-out tasks of each kind out of distribution; above 0 the training tasks
                # leave gaps for them where the family's law has none.
                "ood_tasks": 0,
                "task_seed": 0,
                # Behaviour policies and stages to draw from, separated by commas; "" is all of
                # them but cross-task episodes.
                "policies": "",
                "stages": "",
                # The last k training tasks are withheld and take the place of the test tasks:
                # settings are chosen with k > 0, results are reported with k = 0.
                "validation_tasks": 0,
            },
            "env": {
                "profile": "default",  # what a simulated robot observes: docs/families.md
                "terminal_at_goal": False,  # point robots only
            },
            "simulator": {
                "backend": "c",  # of simulated robots: "c" (CPU) | "mjx" (accelerator)
                "threads": 0,  # of the C engine; 0 is one per core; the numbers do not depend on it
            },
            "collect": {
                "behavior": "sac",
                "mixture": "sac,td3",  # what behavior "mixture" runs, one after the other
                "seed": 0,
                "random_episodes": 50,
                "random_action_scale": 1.0,
                "iterations": 300,
                "episodes_per_iteration": 2,
                "updates_per_iteration": 500,
                "shared_learner": False,  # one learner that is told the task, instead of one each
                # Episodes per task that learners of other tasks act in once they have learned.
                "cross_task_episodes": 0,
                # Share of a learner's episodes, from the lowest return, that is stage "medium".
                "expert_quantile": 0.5,
                "batch_size": 256,
                "hidden": (32, 32),
                "lr": 3e-4,
                "gamma": 0.9,
                "alpha": 0.01,  # sac
                "tau": 0.005,
                "exploration_noise": 0.1,  # td3: standard deviation
                "smoothing_noise": 0.2,  # td3: standard deviation, of the target's action
                "smoothing_clip": 0.5,  # td3
                "policy_delay": 2,  # td3: critic updates per actor update
            },
            "world_model": {
                "core": "transformer",  # "transformer" | "gru" | "mlp" (no memory)
                # How the task code enters prior, decoder and termination:
                # "none" | "concat" | "add" | "film"; "token": it enters the core instead.
                "condition": "none",
                # Latents at the start: "reference" (means within thousandths of zero under noise of
                # standard deviation one) | "precise" (means of tenths, deviation e^-2).
                "latent_init": "reference",
                "latent_dim": 16,
                "width": 128,
                "num_layers": 2,
                "num_heads": 4,
                "context_len": 30,  # also the number of rows of the position table
                "code_dim": 5,
                "code_bound": "none",  # "none" | "sphere" (unit mean square, as a LayerNorm)
                "attention_dropout": 0.0,
                "mask_joints": True,  # no reconstruction or KL across the joint of two episodes
                "pretrain_lr": 1e-4,
                "lr": 1e-4,
                "clip_norm": 1000.0,
                "ensemble": 1,  # decoders; a step of a rollout is decoded by one of them
                "free_bits": 1.0,
                # Where they apply: to the KL of the "batch", its mean, or of every "element".
                "free_bits_per": "batch",
                "recon_weight": 1.0,
                "dyn_weight": 1.0,
                "rep_weight": 0.1,
            },
            "task_losses": {"distance": 1.0, "infonce": 0.0},
            "infonce": {"temperature": 0.1},
            "reconstruction": {"variance_power": 0.0},  # 0 likelihood, 1 squared errors: beta-NLL
            "sampler": {
                "meta_batch": 16,
                "pretrain_batch": 0,  # tasks of a pretraining update; 0 is all of them
                "with_replacement": False,
                "hold_updates": 1,  # updates that share one list of tasks
                "windows": 1,  # 2 adds the "positive" view: a second window of the same task
                # Where that comes from: "any" behaviour | "other_behavior" than the first window's.
                "positive": "any",
                "batch_size": 256,  # per task, real and imagined together
            },
            "imagine": {
                "num_rollouts": 8,
                "context_len": 8,
                "horizon": 1,
                # First state: the model's prediction after the window | the data's own next state.
                "start": "predicted",  # "predicted" | "real"
                "restart": False,  # after an imagined terminal: at the rollout's first state again
                "penalty": 0.0,  # of the model's uncertainty, taken off imagined rewards
                # What that is: the decoders' largest "spread" | largest "disagreement" of means.
                "uncertainty": "spread",
            },
            "agent": {
                "hidden": (128, 128),
                "gamma": 0.9,
                "alpha": 0.01,
                "tau": 0.005,
                # "cql" (soft maximum over actions) | "combo" (the policy's mean, imagined states) |
                # "reward_uncertainty" (none on values: see imagine.penalty).
                "penalty": "cql",
                "beta": 0.5,
                "cloning": 0.0,  # weight of the actor's squared distance to the data's actions
                "num_actions": 10,  # per source of the conservative term: three sources
                "conservative_states": 0,  # per task; 0 is the whole batch
                "tile_states": 0,  # states of that term at a time; 0 is all: changes only speed
                # "exact" | "sampled": through gradient_actions of the sampled actions, unbiased.
                "conservative_gradient": "exact",
                "gradient_actions": 2,
                "actor_lr": 3e-4,
                "critic_lr": 3e-4,
                "actor_average": 0.0,
                "normalize_obs": False,
            },
            "train": {
                "pretrain_updates": 10_000,
                # Workdir of the same runs, whose pretraining is taken over ("": none).
                "pretrained": "",
                "updates": 200_000,
                "chunk": 200,  # updates per jitted call, row of metrics and progress line
                "validate_every": 50,  # pretraining updates between two validation losses
                "eval_every": 10_000,
                "checkpoint_every": 10_000,
                "keep_checkpoints": 3,
                # Of matrix products: "float32" | "tensorfloat32" | "bfloat16".
                "precision": "float32",
                "lr_decay": "none",  # "none" | "cosine": per phase, warmed up, then to zero
            },
            "eval": {
                "windows": 20,  # contexts per task and kind of context
                "episodes": 1,  # per context
                "zero_shot_streams": 8,  # independent two-episode histories per task
                "reinfer_every": 1,  # steps between two inferences of the zero-shot protocol
                "curve_windows": 4,  # contexts per task in the evaluations during training
                "oracle": "",  # workdir of an oracle run whose return is the upper bound
            },
        }
    )


def load_preset(source: str) -> ConfigDict:
    """Returns the config of `path.py:preset`, as the command line's `--config` takes it.

    A config file is Python that defines `get_config(preset) -> ConfigDict`; without `:preset` it
    is called with "". Raises `UserError` if the file or the preset is missing, or the file fails.
    """
    head, _, tail = source.rpartition(":")
    path, preset = (Path(head), tail) if head else (Path(tail), "")
    if not path.is_file():
        near = [str(p) for p in Path("configs").rglob("*.py")]
        hint = did_you_mean(str(path), near) if near else "; give --config=path/to/file.py:preset"
        raise UserError(f"config file {str(path)!r} does not exist{hint}")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None:
        raise UserError(f"config file {str(path)!r} is not a Python file; its name must end in .py")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        cfg = module.get_config(preset)
    except UserError:
        raise
    except Exception as error:
        raise UserError(
            f"config file {str(path)!r} fails with {type(error).__name__}: {error}; "
            "it must define get_config(preset) that returns a ConfigDict"
        ) from error
    if not isinstance(cfg, ConfigDict):
        raise UserError(f"get_config of {str(path)!r} must return a ConfigDict, not {cfg!r}")
    return cfg


def validate(cfg: ConfigDict) -> None:
    """Checks every field's presence, type and range, and what fields must satisfy together.

    Raises `UserError` with one sentence about the first field that is wrong.
    """
    constraints.check(flatten(cfg), flatten(base()))


def flatten(cfg: ConfigDict) -> dict[str, Any]:
    """Returns the leaves of a config by dotted name, in alphabetical order."""

    def walk(node, prefix):
        for key, value in node.items():
            if isinstance(value, Mapping | ConfigDict):
                yield from walk(value, f"{prefix}{key}.")
            else:
                yield f"{prefix}{key}", value

    return dict(sorted(walk(cfg, "")))


def diff(a: ConfigDict, b: ConfigDict) -> tuple[str, Any, Any] | None:
    """Returns (name, value in a, value in b) of the first differing field, or None if equal.

    Types count: 1 differs from 1.0. A field that one side lacks has the value None there.
    """
    flat_a, flat_b = flatten(a), flatten(b)
    for name in sorted(flat_a.keys() | flat_b.keys()):
        pair = flat_a.get(name), flat_b.get(name)
        if repr(pair[0]) != repr(pair[1]):
            return (name, *pair)
    return None


def to_json(cfg: ConfigDict) -> str:
    """Returns the canonical JSON of a config: sorted keys, tuples as lists, a final newline."""
    return json.dumps(cfg.to_dict(), indent=2, sort_keys=True) + "\n"


def from_json(text: str, source: str = "config") -> ConfigDict:
    """Rebuilds a config from `to_json`'s text, against `base()`, and validates it.

    A field the text lacks keeps its default, which is neutral by design, so that a run of an older
    version still loads. Raises `UserError` naming `source` if the text is not such a config.
    """
    try:
        stored = json.loads(text)
    except ValueError as error:
        raise UserError(f"{source} is not JSON ({error}); restore it from a copy") from None
    if not isinstance(stored, dict):
        raise UserError(f"{source} must hold a JSON object with the fields of a config")
    cfg, defaults = base(), flatten(base())
    flat = {name: _restore(value, defaults.get(name)) for name, value in flatten(stored).items()}
    if "task_losses" in stored:
        cfg.task_losses = ConfigDict()
    constraints.check({**flatten(cfg), **flat}, defaults)
    for name, value in flat.items():
        section, _, field = name.rpartition(".")
        (cfg[section] if section else cfg)[field] = value
    return cfg


def _restore(value: Any, default: Any) -> Any:
    """JSON knows no tuples and writes no difference between 1 and 1.0 when edited by hand."""
    if isinstance(value, list):
        return tuple(value)
    return float(value) if isinstance(default, float) and type(value) is int else value
