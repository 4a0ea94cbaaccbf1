"""Which simulator runs a family, and with which sizes: other rooms get simulators here only."""

import importlib
from collections.abc import Mapping
from types import ModuleType

import numpy as np
from ml_collections import ConfigDict

from metastar import registry
from metastar.config.fields import NOT_NEGATIVE, Field
from metastar.envs.family import Family
from metastar.errors import UserError, did_you_mean
from metastar.types import Env, EnvSpec

DEFAULTS = {
    "backend": Field(
        "c",
        ("c", "mjx"),
        'of simulated robots: "c", MuJoCo on CPUs, or "mjx", MuJoCo in JAX, for accelerators',
        before="c",
    ),
    "threads": Field(
        0,
        NOT_NEGATIVE,
        "of the C engine; 0 is one per core that the process may use; no number depends on it",
        before=0,
    ),
}


# Files of `envs/backends/` by `simulator.backend`.
ENGINES = {"c": "mujoco_c", "mjx": "mjx"}
# Module -> the package that installs it, where their names differ.
PACKAGES = {"mujoco.mjx": "mujoco-mjx"}


def make_env(cfg: ConfigDict) -> Env:
    """Builds the simulator of `cfg.family`.

    A family that names no back end is of a simulated robot and runs on `cfg.simulator.backend`, "c"
    (MuJoCo's C engine, for CPUs) or "mjx" (MuJoCo in JAX, for accelerators).

    Args:
        cfg: the config; `family`, `env` and `simulator` are used.

    Raises:
        UserError: the family or the profile is unknown, its back end is not installed, or a model
            file is missing.
    """
    profile = profile_of(cfg)
    spec_of(cfg.family, profile)
    family = family_of(cfg.family, profile)
    return _backend(family, cfg.simulator.backend).make_env(family, profile, cfg)


def family_of(name: str, profile: str = "default") -> Family:
    """The family of a name, as it is under a profile.

    Raises `UserError` if there is none of that name, or it has no sizes.
    """
    family = registry.find("family", name).FAMILY
    specs = family.specs
    if not (isinstance(specs, Mapping) and all(isinstance(s, EnvSpec) for s in specs.values())):
        raise UserError(f"FAMILY of {name!r} must have `specs`, an EnvSpec for each profile")
    return family._replace(**family.variants.get(profile, {}))


def task_shapes(name: str, profile: str = "default") -> dict[str, tuple[int, ...]] | None:
    """The shape of each parameter of one task of a family; None of one that has no law of tasks.

    Raises `UserError` as `family_of`.
    """
    law = family_of(name, profile).law
    if not law:
        return None
    drawn = law["own"](np.random.default_rng(0), 1)
    return {key: value.shape[1:] for key, value in drawn.items()}


def profile_of(cfg: ConfigDict) -> str:
    """The profile of a config; "default" in families that have no other."""
    return cfg.env.get("profile", "default")


def spec_of(name: str, profile: str) -> EnvSpec:
    """Sizes of a family under a profile.

    Raises:
        UserError: the family or the profile is unknown.
    """
    specs = family_of(name).specs
    if profile not in specs:
        hint = did_you_mean(profile, specs)
        raise UserError(f"family {name!r} has no profile {profile!r}{hint}")
    return specs[profile]


def _backend(family: Family, engine: str) -> ModuleType:
    """The module that simulates a family, imported only where it is used: MJX takes seconds.

    Raises:
        UserError: it, or something that it imports, is not installed.
    """
    name = family.backend or ENGINES[engine]
    path = name if "." in name else f"metastar.envs.backends.{name}"
    who = f"the back end {name!r} of family {family.name!r}"
    try:
        return importlib.import_module(path)
    except ModuleNotFoundError as error:
        missing = str(error.name)
        if f"{path}.".startswith(f"{missing}."):
            raise UserError(
                f"{who} is not installed: there is no module {missing!r}; install its package, or "
                "put its folder on PYTHONPATH"
            ) from None
        package = PACKAGES.get(missing, missing.partition(".")[0])
        raise UserError(
            f"{who} needs the module {missing!r}, which is not installed; "
            f"run `pip install {package}`"
        ) from error
    except ImportError as error:
        raise UserError(f"{who} cannot be imported ({error}); install what it asks for") from error
