"""Does a good world model pay on a robot? Acting and little data: `experiments/pays.py`.

    metastar sweep experiments/sweeps/pays.py

Cheetah-Vel, the data of `quick`. The last six training tasks are withheld and take the place of the
test tasks, since choices are made so. Models have all of `CHANGES` and heads that see the code, but
those of the arms "as it is". Arms with one model and the same data share its pretraining; agents
have fewer updates than `quick`. Codes of other tasks are in `experiments/likelihood.py`.
"""

from ml_collections import ConfigDict

LABEL = "pays_cheetah_vel_validation6"
EARLIER = {  # what MetaSTAR's presets of Cheetah-Vel had before their models predicted
    "inference.nats": 10.0,
    "inference.between": 0,
    "inference.neighbours": 0,
    "world_model.recon_weight": 1.0,
    "world_model.latent_init": "reference",
    "world_model.prior": "linear",
    "world_model.skip": False,
    "world_model.variance_power": 0.0,
    "world_model.condition": "none",
    "world_model.every": 1,
    "imagine.start": "predicted",
    "imagine.uncertainty": "spread",
}
EARLIER_QUICK = {
    **EARLIER,
    "world_model.latent_dim": 16,
    "sampler.pretrain_batch": 0,
    "train.pretrain_updates": 2_000,
}
SEEDS, MORE_SEEDS = (0, 1, 2), (3, 4)
BATCH = 128  # transitions of a task in an update, real and imagined together
# Of the last six training tasks of Cheetah-Vel: 1.22 to 1.95 m/s, where the others have 0.01 to
# 2.84; two are faster than all of these, 2.95 and 2.99 m/s.
WITHIN = (0, 1, 4, 5)
SHARED = {
    **EARLIER_QUICK,
    "data.validation_tasks": 6,
    "sampler.batch_size": BATCH,
    "train.pretrain_updates": 6_000,
    "sampler.pretrain_batch": 8,
    "train.updates": 3_000,
    "train.eval_every": 3_000,
    "train.checkpoint_every": 3_000,
    "train.keep_checkpoints": 9,  # that of the pretraining's end among them
}
# What made the model predict, each with its name in `experiments/model_error.py`.
CHANGES = {
    "weight": {"world_model.recon_weight": 18.0},
    "precise": {"world_model.latent_init": "precise"},
    "prior": {"world_model.prior": "change"},
    "paths": {"world_model.skip": True, "world_model.latent_dim": 32},
    "power": {"world_model.variance_power": 0.5},
}
ALL = {path: value for change in CHANGES.values() for path, value in change.items()}
GOOD = {
    **ALL,
    "world_model.condition": "concat",
    "imagine.start": "real",
    "imagine.uncertainty": "rms_spread",
}


def imagined(horizon: int, share: float, **fields) -> dict:
    """A share of the rows is of rollouts, which are whole, and at least one."""
    rollouts = max(1, round(share * BATCH / horizon))
    return {"imagine.horizon": horizon, "imagine.num_rollouts": rollouts, **fields}


ACTING = {
    "hardly any": imagined(1, 0.0),
    "horizon 1": imagined(1, 0.5),
    "horizon 4": imagined(4, 0.5),
    "horizon 8": imagined(8, 0.5),
}
TENTH = "A tenth of the episodes"
PARTS = {  # title: fields of all its arms, arms
    "Acting": ({}, ACTING),
    TENTH: ({"data.fraction": 0.1}, ACTING),
}
ARMS = {  # (part, title): fields
    (part, title): {**SHARED, **common, **own}
    for part, (common, arms) in PARTS.items()
    for title, own in {"as it is": {}, **{n: {**GOOD, **arm} for n, arm in arms.items()}}.items()
}
AUDITED = tuple(("Acting", title) for title in ("as it is", "hardly any", "horizon 1"))
# What won something back, what it is measured against, and what was lost: two seeds more of each.
CONFIRMED = (("Acting", "hardly any"), (TENTH, "hardly any"), (TENTH, "horizon 1"))


def variant(part: str, title: str) -> str:
    """Name of a cell in files and folders."""
    return f"{part} {title}".replace(",", "").replace(" ", "_").lower()


def words_of(arms: tuple[tuple[str, str], ...], seeds: tuple[int, ...]) -> dict[str, tuple]:
    """The fields of arms, as words by the variant; those of one model share its pretraining."""
    first, found = {}, {}
    for arm in arms:
        fields = ARMS[arm]
        model = tuple(x for x in fields.items() if x[0].startswith(("world_model.", "data.")))
        words = [f"{path}={value}" for path, value in fields.items()]
        if model in first:
            words.append(f"train.pretrained={first[model]}")
        name = variant(*arm)
        run = f"runs/{LABEL}/metastar-{name}_cheetah_vel_quick_{seeds[0]}-{seeds[-1]}"
        first.setdefault(model, run)
        found[name] = tuple(words)
    return found


def get_config() -> ConfigDict:
    overrides = {True: {}, False: {}}  # whether an arm is audited: its words
    audited = [variant(*arm) for arm in AUDITED]
    for name, words in words_of(tuple(ARMS), SEEDS).items():
        overrides[name in audited][name] = words
    shared = {"families": ("cheetah_vel",), "presets": ("quick",)}
    screened = {"seeds": SEEDS, "runs_per_program": len(SEEDS), **shared}
    more = {"seeds": MORE_SEEDS, "runs_per_program": len(MORE_SEEDS), **shared}
    agents = {"methods": ("metastar",), **screened}
    return ConfigDict(
        {
            "results": f"experiments/results/{LABEL}",
            "runs": f"runs/{LABEL}",
            "memory_gb": 10.0,  # of an audit
            "grids": (
                {
                    "methods": ("oracle",),
                    "overrides": {"last": ("data.validation_tasks=6",)},
                    **screened,
                },
                {"overrides": overrides[True], "then": ("audit",), **agents},
                {"overrides": overrides[False], **agents},
                {
                    "methods": ("metastar",),
                    "overrides": words_of(CONFIRMED, MORE_SEEDS),
                    **more,
                },
            ),
        }
    )
