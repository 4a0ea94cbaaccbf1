"""The runs a config stands for, seeds and swept values (floor F0: imports no JAX).

Works on flat dicts {dotted name: value}, as `constraints` does. Only what enters an update as a
traced number may differ among the runs of one program: the seed, and the members of
`types.HyperParams`.
"""

import itertools
import math
from typing import Any

from metastar import registry
from metastar.errors import UserError, did_you_mean

PREFIX = "sweep."
LOSS = "task_losses."

MOST_RUNS = 256  # of one program: each has files of its own open, and many systems allow 1,024

# Member of `types.HyperParams` -> its config field; the weights of `task_losses` come besides.
FIELDS = {
    "lr_pretrain": "world_model.pretrain_lr",
    "lr_world_model": "world_model.lr",
    "lr_actor": "agent.actor_lr",
    "lr_critic": "agent.critic_lr",
    "alpha": "agent.alpha",
    "beta": "agent.beta",
    "gamma": "agent.gamma",
    "tau": "agent.tau",
    "actor_average": "agent.actor_average",
    "recon_weight": "world_model.recon_weight",
    "dyn_weight": "world_model.dyn_weight",
    "rep_weight": "world_model.rep_weight",
    "free_bits": "world_model.free_bits",
    "cloning": "agent.cloning",
    "uncertainty": "imagine.penalty",
}
# 0 leaves these terms out of the program, so that no other value could share it.
_SWITCHES = ("agent.cloning",)


def field(name: str) -> str:
    """Returns the config field that `sweep.<name>` varies.

    `name` is a member of `types.HyperParams`, or a task loss. Raises `UserError` if it is neither:
    everything else is structure, which a program is compiled for.
    """
    losses = registry.names("task loss")
    if name in FIELDS:
        return FIELDS[name]
    if name in losses or "/" in name:
        return LOSS + name
    by_field = {field: name for name, field in FIELDS.items()} | {LOSS + x: x for x in losses}
    hint = did_you_mean(by_field.get(name, name), by_field.values())
    raise UserError(
        f"{PREFIX}{name} names nothing that can be swept, which are rates and weights, but not "
        f"what a program is compiled for{hint}"
    )


def values(flat: dict[str, Any]) -> dict[str, float]:
    """Returns what could be swept of a config, by the names that `sweep` has for it."""
    weights = {k.removeprefix(LOSS): x for k, x in flat.items() if k.startswith(LOSS)}
    return {name: flat[field] for name, field in FIELDS.items()} | weights


def is_switch(field: str) -> bool:
    """Whether 0 in this config field makes another program than any other value."""
    return field in _SWITCHES or field.startswith(LOSS)


def is_many(flat: dict[str, Any]) -> bool:
    """Whether a config stands for an axis of runs, each in a folder of its own."""
    return flat["num_seeds"] > 1 or any(name.startswith(PREFIX) for name in flat)


def num_runs(flat: dict[str, Any]) -> int:
    """How many runs a flat config stands for."""
    swept = [len(values) for name, values in flat.items() if name.startswith(PREFIX)]
    return flat["num_seeds"] * math.prod(swept)


def changes(flat: dict[str, Any]) -> list[dict[str, Any]]:
    """Returns what each run changes in a flat config: the product of swept values and seeds.

    The seed varies fastest: run k has the seed `flat["seed"] + k % flat["num_seeds"]`.
    """
    swept = {
        field(name.removeprefix(PREFIX)): values
        for name, values in flat.items()
        if name.startswith(PREFIX)
    }
    return [
        {**dict(zip(swept, map(float, values))), "seed": flat["seed"] + k}
        for values in itertools.product(*swept.values())
        for k in range(flat["num_seeds"])
    ]
