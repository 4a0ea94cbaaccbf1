"""Names and meanings of the fields in earlier formats of configs (floor 0).

The first format had one list of fields for all systems; in the second, networks of task losses took
their width from the world model. Runs and data sets of these formats are read through the tables
here, to which nothing is added.
"""

from pathlib import Path
from typing import Any

from metastar import registry
from metastar.config import schema
from metastar.config.schema import Schema
from metastar.errors import UserError

# Old path -> new paths; a config has those of them that its method and behaviours define.
_LEARNER = ("batch_size", "hidden", "lr", "gamma", "tau")
_AGENT = ("hidden", "gamma", "alpha", "tau", "penalty", "beta", "cloning", "num_actions")
_AGENT += ("tile_states", "gradient_actions", "actor_lr", "critic_lr", "actor_average")
_OF_TD3 = ("exploration_noise", "smoothing_noise", "smoothing_clip", "policy_delay")
RENAMED = {
    **{f"agent.{name}": (f"agent.conservative.{name}",) for name in _AGENT},
    "deterministic": ("train.deterministic",),
    "agent.hidden": ("agent.conservative.hidden", "bc.hidden"),
    "agent.actor_lr": ("agent.conservative.actor_lr", "bc.actor_lr"),
    "agent.actor_average": ("agent.conservative.actor_average", "bc.actor_average"),
    "agent.conservative_states": ("agent.conservative.cql_states",),
    "agent.conservative_gradient": ("agent.conservative.cql_gradient",),
    "agent.normalize_obs": ("sampler.normalize_obs",),
    "world_model.mask_joints": ("world_model.mask_episode_boundaries",),
    "world_model.context_len": ("world_model.context_len", "oracle.context_len"),
    "world_model.pretrain_lr": ("world_model.pretrain_lr", "bc.encoder_lr"),
    **{f"collect.{name}": (f"collect.sac.{name}", f"collect.td3.{name}") for name in _LEARNER},
    "collect.alpha": ("collect.sac.alpha",),
    "collect.mixture": ("collect.mixture.behaviors",),
    **{f"collect.{name}": (f"collect.td3.{name}",) for name in _OF_TD3},
}
# Short names that `sweep` had -> old paths of the fields.
_SWEPT = {
    "lr_pretrain": "world_model.pretrain_lr",
    "lr_world_model": "world_model.lr",
    "lr_actor": "agent.actor_lr",
    "lr_critic": "agent.critic_lr",
    "uncertainty": "imagine.penalty",
    **{name: f"agent.{name}" for name in ("alpha", "beta", "gamma", "tau", "actor_average")},
    "cloning": "agent.cloning",
    **{n: f"world_model.{n}" for n in ("recon_weight", "dyn_weight", "rep_weight", "free_bits")},
}
# What the first format had in place of fields that came with later ones.
ADDED = {
    "agent.name": "conservative",
    "data.preset": "",
    "imports": (),
}


# Task losses with networks, of the second format and before.
_OF_THE_MODELS_WIDTH = ("adversary", "club", "conditional_entropy", "reconstruction")


def with_widths(flat: dict[str, Any]) -> dict[str, Any]:
    """The leaves of a config of the second format, with the width of every task loss's networks."""
    named = [name for name in _OF_THE_MODELS_WIDTH if f"task_losses.{name}" in flat]
    return {**{f"{name}.width": flat["world_model.width"] for name in named}, **flat}


def translate(flat: dict[str, Any]) -> dict[str, Any]:
    """The leaves of a config of the first format by their new paths, those that still exist.

    A field of a system that the config does not use is left out. Raises `UserError` for a field
    that the first format did not have either.
    """
    values = {**flat, **ADDED}
    for old, paths in RENAMED.items():
        if old in flat:
            values |= dict.fromkeys(paths, flat[old])
    if "data.dir" in flat and "family" in flat:  # it was named after the preset of the training
        preset = flat.get("preset") or "default"
        values["data.dir"] = flat["data.dir"] or f"data/{flat['family']}_{preset}"
    sweeps = {path: x for path, x in flat.items() if path.startswith(f"{schema.SWEEP}.")}
    found = schema.of(values)
    for path in flat:
        if path not in found.fields and path not in RENAMED and not _existed(path):
            raise schema.explain_unknown(found, path)
    swept = {new: x for path, x in sweeps.items() for new in _swept_paths(path, found)}
    return {path: x for path, x in values.items() if path in found.fields} | swept


def renamed(path: str, found: Schema) -> UserError | None:
    """What to write in place of an old path; None if it is none."""
    new = [p for p in RENAMED.get(path, ()) if p in found.fields and p != path]
    if not new:
        return None
    return UserError(f"config field {path!r} is now {' and '.join(map(repr, new))}")


def old_config(path: Path, argument: str) -> str | None:
    """What to write in place of `configs/<method>/<family>.py`; None if it is no such path."""
    method, family = path.parent.name, path.stem
    if method not in registry.names("method") or family not in registry.names("family"):
        return None
    new = f"{path.parent.parent / method}.py:{family}" + (f",{argument}" if argument else "")
    return f"config file {str(path)!r} is gone: there is one file a method now; write {new}"


def _swept_paths(path: str, found: Schema) -> list[str]:
    """`sweep.<path>` of today for one of the first format."""
    name = path.removeprefix(f"{schema.SWEEP}.")
    old = _SWEPT.get(name, f"task_losses.{name}")
    return [f"{schema.SWEEP}.{new}" for new in RENAMED.get(old, (old,)) if new in found.fields]


def _existed(path: str) -> bool:
    """Whether the first format had a section of this name, which all systems shared."""
    return path.partition(".")[0] in _SECTIONS


_SECTIONS = (
    *("data", "env", "simulator", "collect", "world_model", "task_losses", "infonce"),
    *("reconstruction", "sampler", "imagine", "agent", "train", "eval", "sweep"),
)
