"""Does imagination pay? By what is imagined, and how: what `experiments/imagination.py` shows.

    metastar sweep experiments/sweeps/imagination.py

All cells have the data and the pretraining of the default of `invariance.py`, whose sweep therefore
comes first; those whose world model differs have that of the first such cell. `:20` after the
file's name withholds the last twenty training tasks, which then take the place of the test tasks:
choices are made so.
"""

from ml_collections import ConfigDict

# The data of `invariance.py`.
MIXED = {
    "collect.behavior": "mixture",
    "collect.cross_task_episodes": 10,
    "data.ood_tasks": 5,
    "data.dir": "data/invariance_point_robot",
}
# The reference's penalty, which is on values, with as many actions as the tables were made with.
CQL = {
    "agent.conservative.penalty": "cql",
    "imagine.penalty": 0.0,
    "agent.conservative.num_actions": 4,
}
# What families with dense rewards have instead, as MOPO: what the model doubts is taken off
# imagined rewards.
MOPO = {"agent.conservative.penalty": "reward_uncertainty", "imagine.penalty": 1.0}
BATCH = 64  # transitions of a task in an update, real and imagined together
UPDATES = {"train.pretrain_updates": 6_000, "train.updates": 2_000, "train.eval_every": 400}
REAL = {"imagine.start": "real"}
FIVE = {"world_model.ensemble": 5}
DOUBT = {"imagine.penalty": 1.0}


def cell(horizon: int, real_share: float, **fields) -> dict:
    """Overrides for a share of real transitions; rollouts are whole, and at least one.

    The penalty is on values unless `fields` say otherwise.
    """
    rollouts = max(1, round((1 - real_share) * BATCH / horizon))
    return {**CQL, "imagine.horizon": horizon, "imagine.num_rollouts": rollouts, **fields}


CELLS = {
    "hardly any": cell(1, 1.0),
    "horizon 1": cell(1, 0.75),
    "horizon 2": cell(2, 0.75),
    "horizon 4": cell(4, 0.75),
    "horizon 8": cell(8, 0.75),
    "real share 0.95": cell(1, 0.95),
    "real share 0.5": cell(1, 0.5),
    "real start": cell(1, 0.75, **REAL),
    "real start, horizon 4": cell(4, 0.75, **REAL),
    "real start, horizon 8": cell(8, 0.75, **REAL),
    "conditioned on the code": cell(4, 0.75, **REAL, **{"world_model.condition": "concat"}),
    "free bits per element": cell(4, 0.75, **REAL, **{"world_model.free_bits_per": "element"}),
    "disagreement": cell(
        4, 0.75, **REAL, **FIVE, **DOUBT, **{"imagine.uncertainty": "disagreement"}
    ),
    "combo": cell(4, 0.75, **REAL, **{"agent.conservative.penalty": "combo"}),
    "reward uncertainty": cell(4, 0.75, **REAL, **FIVE, **MOPO),
    "reward uncertainty, one decoder": cell(4, 0.75, **REAL, **MOPO),
    "reward uncertainty, hardly any": cell(1, 1.0, **REAL, **MOPO),
}


def variant(cell: str) -> str:
    """The name of a cell as part of a file's."""
    return "_".join("".join(c for c in cell if c.isalnum() or c in " ._-").split())


def label_of(study: str, withheld: str) -> str:
    return f"{study}_point_robot" + f"_validation{withheld}" * bool(withheld)


def pretrained(withheld: str) -> dict[str, str]:
    """The workdir with the pretraining of each cell; none of the first with its world model."""
    of_system = "{name}_point_robot_quick_0-2"
    default = of_system.format(name="metastar-default")
    first, found = {(): f"runs/{label_of('invariance', withheld)}/{default}"}, {}
    for name, fields in CELLS.items():
        model = tuple(item for item in sorted(fields.items()) if item[0].startswith("world_model."))
        found[name] = first.get(model)
        own = of_system.format(name=f"metastar-{variant(name)}")
        first.setdefault(model, f"runs/{label_of('imagination', withheld)}/{own}")
    return {name: {"train.pretrained": path} if path else {} for name, path in found.items()}


def get_config(withheld: str = "") -> ConfigDict:
    label, base = label_of("imagination", withheld), pretrained(withheld)
    shared = {
        **MIXED,
        **UPDATES,
        "sampler.batch_size": BATCH,
        "data.validation_tasks": withheld or 0,
        "train.keep_checkpoints": 9,  # that of the pretraining's end among them
    }
    fields = {name: {**shared, **own, **base[name]} for name, own in CELLS.items()}
    overrides = {
        variant(name): tuple(f"{path}={value}" for path, value in own.items())
        for name, own in fields.items()
    }
    grid = {
        "methods": ("metastar",),
        "families": ("point_robot",),
        "presets": ("quick",),
        "overrides": overrides,
        "seeds": (0, 1, 2),
        "runs_per_program": 3,
        "then": ("audit",),
    }
    return ConfigDict(
        {
            "results": f"experiments/results/{label}",
            "runs": f"runs/{label}",
            "memory_gb": 8.0,
            "grids": (grid,),
        }
    )
