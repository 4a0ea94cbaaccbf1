"""What the ant, the hopper, the walker and the humanoid share: starts, pictures, and data sets."""

from collections.abc import Callable, Mapping

import jax
import numpy as np

from metastar.envs.bodies import half_cheetah
from metastar.envs.state import State
from metastar.types import Array

STEPS = 200  # of an episode, in every code base
UPDATES = {name: half_cheetah.UPDATES[name] for name in ("", "quick", "debug")}

# Fields of `collect` that differ from a cheetah's. Each was chosen on `quick` of the family that is
# named (docs/families.md); `default` and the other families of the robot take it over.
ANT_LEARNERS = {"updates_per_iteration": 4_000}  # ant_dir: fewer hardly move SAC
WALKER_LEARNERS = {"updates_per_iteration": 1_500, "sac.tau": 0.005}  # walker_param
HOPPER_LEARNERS = {  # hopper_mass: with plain critics the returns of SAC rise and fall
    "updates_per_iteration": 1_500,
    "sac.tau": 0.005,
    "sac.critic_layers": "norm_mish",
    "td3.tau": 0.005,
    "td3.critic_layers": "norm_mish",
}

# hopper_param, for it and the sparse families, whose episodes no fall ends either: at a cheetah's
# rate, and an actor's step for each of the critics', TD3's actor stayed in a corner of the actions.
SLOW_TD3 = {"td3.critic_layers": "relu", "td3.lr": 3e-4, "td3.policy_delay": 2}


def data(
    train: int, test: int, falls: bool = False, **learners: int | float | str
) -> dict[str, Mapping]:
    """How data sets are made: as of the cheetahs, with so many tasks; those for debugging keep 4.

    `learners` are fields of `collect` that say how the robot is learned. There is no `paper`: which
    settings made the published data is known of a few families only.

    A zero-shot stream of a robot that `falls` has 16 episodes (`evaluation.history.EARLY_ENDS`), in
    place of 2. Inferring at each of their steps took longer than training, so that ten steps lie
    between two inferences.
    """
    tasks = {
        "data.train_tasks": train,
        "data.test_tasks": test,
        "data.validation_choice": "spread",  # of tasks in the order of a grid the last lie beyond
    }
    protocol = {"eval.reinfer_every": 10} if falls else {}
    ours = {name: half_cheetah.DATA[name] for name in ("default", "quick")}
    collect = {f"collect.{name}": value for name, value in learners.items()}
    presets = {name: {**values, **tasks, **protocol, **collect} for name, values in ours.items()}
    return presets | {"debug": half_cheetah.DATA["debug"]}


def resets(num_positions: int, num_velocities: int, velocity: Callable) -> Callable:
    """`(key) -> State`: noise uniform on [-1, 1] for positions, of a law `(key, shape)` else."""

    def draw_reset(key: Array) -> State:
        key_position, key_velocity = jax.random.split(key)
        return State(
            uniform(key_position, (num_positions,)), velocity(key_velocity, (num_velocities,))
        )

    return draw_reset


def uniform(key: Array, shape: tuple[int, ...]) -> Array:
    """Uniform on [-1, 1]."""
    return jax.random.uniform(key, shape, minval=-1.0)


def starts(position_noise: float, velocity_noise: float) -> Callable:
    """A family's `start`: the model's rest state plus noise of these scales."""

    def start(xp, noise: State, rest: State, task) -> State:
        return State(
            rest.qpos + position_noise * noise.qpos, rest.qvel + velocity_noise * noise.qvel
        )

    return start


def travelled(speed: np.ndarray, dt: float) -> np.ndarray:
    """Places [T+1, ...] from recorded speeds [T+1, ...], by the trapezoid rule; 0 at first."""
    steps = dt * (speed[1:] + speed[:-1]) / 2
    return np.concatenate([np.zeros_like(speed[:1]), np.cumsum(steps, 0)])
