"""Is what makes Cheetah-Vel's model predict better for other families? `experiments/recipes.py`.

    metastar sweep experiments/sweeps/recipes.py:cheetah_vel_sparse

Each family as its recipe was, and with Cheetah-Vel's changes. Six training tasks are withheld and
take the place of the test tasks, but for Cheetah-Dir, which has two tasks alone.
"""

from ml_collections import ConfigDict
from sweeps.hour import STAYS
from sweeps.pays import EARLIER, GOOD

SHORT = {  # of the hour of Cheetah-Vel
    **EARLIER,
    "train.pretrain_updates": 4_000,
    "sampler.pretrain_batch": 8,
    "train.updates": 6_000,
    "train.eval_every": 6_000,
    "train.checkpoint_every": 6_000,
}
WINDY = {
    "world_model.recon_weight": 20.0,
    "world_model.latent_init": "precise",
    "world_model.context_len": 30,
}
WITHHELD = {"data.validation_tasks": 6}
CONSERVATIVE = {  # the agent of Cheetah-Dir until it had that of the families that walk
    "agent.name": "conservative",
    "agent.conservative.hidden": (256, 256),
    "agent.conservative.gamma": 0.97,
    "agent.conservative.tau": 0.01,
    "agent.conservative.actor_lr": 1e-3,
    "agent.conservative.critic_lr": 1e-3,
    "agent.conservative.actor_average": 0.995,
    "agent.conservative.alpha": 0.02,
    "agent.conservative.cloning": 3.0,
    "agent.conservative.penalty": "reward_uncertainty",
    "agent.conservative.num_actions": 2,
    "agent.conservative.cql_states": 16,
}
ENCODER = {"inference.choice": "encoder", "inference.fit": 0.5}
FAMILIES = {  # preset, number of seeds, fields of all arms and of the oracle alike
    "cheetah_vel_sparse": ("", 1, {**SHORT, **ENCODER, **WITHHELD}),
    "cheetah_dir": ("", 1, {**SHORT, **ENCODER, **CONSERVATIVE, "sampler.pretrain_batch": 0}),
    "point_robot_wind": ("quick", 3, {**EARLIER, **WINDY, **WITHHELD}),
}
BOUND = ("data.", "agent.", "train.updates")  # fields that concern the oracle
OF_THE_ORACLE = {"point_robot_wind": {"oracle.context_len": 30}}  # beside them
ARMS = {
    "as it was": {},
    "good model": GOOD,
    "good model, it stays": {**GOOD, **STAYS},
}
# Dense rewards have no penalty on values in any arm.
NO_PENALTY = {"agent.conservative.penalty": "reward_uncertainty", "imagine.penalty": 1.0}
MORE = {
    "cheetah_vel_sparse": {
        "good model, it stays, no penalty on values": {**GOOD, **STAYS, **NO_PENALTY}
    },
    "point_robot_wind": {"as it was, contexts of an episode": {"world_model.context_len": 25}},
}


def arms_of(family: str) -> dict[str, dict]:
    """Fields of each arm, by its title."""
    return ARMS | MORE.get(family, {})


def label_of(family: str) -> str:
    return f"recipes_{family}"


def variant(title: str) -> str:
    """Name of a cell in files and folders."""
    return title.replace(",", "").replace(" ", "_")


def words(fields: dict) -> tuple[str, ...]:
    """Fields as a sweep file has them."""
    return tuple(f"{path}={value}" for path, value in fields.items())


def get_config(family: str = "cheetah_vel_sparse") -> ConfigDict:
    preset, num_seeds, common = FAMILIES[family]
    shared = {
        "families": (family,),
        "presets": (preset,),
        "seeds": tuple(range(num_seeds)),
        "runs_per_program": num_seeds,
    }
    bound = {path: x for path, x in common.items() if path.startswith(BOUND)}
    bound |= OF_THE_ORACLE.get(family, {})
    arms = {variant(title): words({**common, **own}) for title, own in arms_of(family).items()}
    return ConfigDict(
        {
            "results": f"experiments/results/{label_of(family)}",
            "runs": f"runs/{label_of(family)}",
            "memory_gb": 10.0,  # of an audit
            "grids": (
                {"methods": ("oracle",), "overrides": {"": words(bound)}, **shared},
                {"methods": ("metastar",), "overrides": arms, "then": ("audit",), **shared},
            ),
        }
    )
