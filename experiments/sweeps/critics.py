"""What a CQL penalty learns per second, by its form: what `experiments/critics.py` shows.

    metastar sweep experiments/sweeps/critics.py:point_robot_sparse

Trains the oracle, which is all critic and actor, or MetaSTAR, once for each form of the penalty,
all seeds in one program, at constant learning rates, so that a point of a curve is what a run of
that length reaches. The last six training tasks are withheld and take the place of the test tasks:
presets are chosen by these tables. Run it on an otherwise idle machine, since times are compared.
"""

from typing import NamedTuple

from ml_collections import ConfigDict
from sweeps.imagination import CQL, MOPO, variant
from sweeps.pays import EARLIER_QUICK

SHARED = {
    "data.validation_tasks": 6,
    "train.updates": 1_500,
    "train.chunk": 100,
    "train.eval_every": 100,
    "train.keep_checkpoints": 9,  # that of the pretraining's end among them
    "train.lr_decay": "none",
    "eval.windows": 2,
    "eval.zero_shot_streams": 1,
}


def form(num_actions: int, states: int, gradient: str = "exact") -> dict:
    """Actions of each of three sources at so many states of a task, 0 for all of them."""
    return {
        **CQL,
        "agent.conservative.num_actions": num_actions,
        "agent.conservative.cql_states": states,
        "agent.conservative.cql_gradient": gradient,
        "agent.conservative.tile_states": 0 if states else 64,
    }


NONE = "none on values, doubtful imagined rewards"  # an oracle imagines none
FORMS = {
    "exact, 10 actions, all states (paper)": form(10, 0),
    "sampled, 10 actions, all states": form(10, 0, "sampled"),
    "exact, 10 actions, 16 states": form(10, 16),
    "exact, 4 actions, 16 states": form(4, 16),
    "sampled, 4 actions, 16 states": form(4, 16, "sampled"),
    "exact, 2 actions, 16 states": form(2, 16),
    "exact, 4 actions, 4 states": form(4, 4),
    NONE: MOPO,
}
CHEAP = "exact, 4 actions, 16 states", "exact, 4 actions, 4 states", NONE


class Table(NamedTuple):
    """One table."""

    method: str
    family: str
    forms: tuple[str, ...] = tuple(FORMS)  # the first has the pretraining of all, if there is any
    seeds: int = 3
    changes: tuple[tuple[str, int], ...] = ()  # of all forms


TABLES = {
    "point_robot_sparse": Table("oracle", "point_robot_sparse"),
    "point_robot_sparse_8_seeds": Table("oracle", "point_robot_sparse", tuple(FORMS)[3:], 8),
    "cheetah_vel": Table(
        *("oracle", "cheetah_vel", CHEAP),
        changes=(
            ("train.updates", 10_000),
            ("train.eval_every", 1_000),
            ("eval.curve_windows", 1),
        ),
    ),
    "point_robot_sparse_metastar": Table(
        *("metastar", "point_robot_sparse", tuple(FORMS)[3:]),
        changes=(
            ("train.pretrain_updates", 3_000),
            ("train.updates", 3_000),
            ("train.eval_every", 500),
            ("eval.curve_windows", 10),
        ),
    ),
    "cheetah_vel_metastar": Table(
        *("metastar", "cheetah_vel", (NONE, *CHEAP[:2])),
        changes=(
            ("train.updates", 6_000),
            ("train.eval_every", 1_000),
            ("eval.curve_windows", 1),
            ("inference.choice", "encoder"),
            *EARLIER_QUICK.items(),
        ),
    ),
}


def label_of(name: str) -> str:
    return f"critics_{name}"


def fields_of(name: str, form: str) -> dict:
    """What one form changes in the method's `quick`."""
    table = TABLES[name]
    fields = {**SHARED, **dict(table.changes), **FORMS[form]}
    fields["train.checkpoint_every"] = fields["train.updates"]
    if table.method == "oracle":  # which imagines nothing
        fields.pop("imagine.penalty")
    elif form != table.forms[0]:
        first = f"{table.method}-{variant(table.forms[0])}_{table.family}_quick"
        fields["train.pretrained"] = f"{{runs}}/{first}_0-{table.seeds - 1}"
    return fields


def get_config(name: str = "point_robot_sparse") -> ConfigDict:
    table = TABLES[name]
    overrides = {
        variant(form): tuple(f"{path}={value}" for path, value in fields_of(name, form).items())
        for form in table.forms
    }
    grid = {
        "methods": (table.method,),
        "families": (table.family,),
        "presets": ("quick",),
        "overrides": overrides,
        "seeds": tuple(range(table.seeds)),
        "runs_per_program": table.seeds,
    }
    label = label_of(name)
    return ConfigDict(
        {
            "results": f"experiments/results/{label}",
            "runs": f"runs/{label}",
            "memory_gb": 8.0,
            "grids": (grid,),
        }
    )
