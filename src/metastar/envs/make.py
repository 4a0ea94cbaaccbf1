"""Which simulator runs a family, and with which sizes: the one door to `envs/`."""

from ml_collections import ConfigDict

from metastar import registry
from metastar.config.fields import NOT_NEGATIVE, Field
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
        "of the C engine; 0 is one per core; the numbers do not depend on it",
        before=0,
    ),
}


def make_env(cfg: ConfigDict) -> Env:
    """Builds the simulator of `cfg.family`.

    A family with a `BODY` is a simulated robot and runs on `cfg.simulator.backend`, "c" (MuJoCo's
    C engine, for CPUs) or "mjx" (MuJoCo in JAX, for accelerators); the others are point robots.

    Args:
        cfg: the config; `family`, `env` and `simulator` are used.

    Raises:
        UserError: the family or the profile is unknown, or a model file is missing.
    """
    family = registry.find("family", cfg.family)
    spec = spec_of(cfg.family, profile_of(cfg))
    # A back end is imported only where it is used: MJX alone takes seconds.
    if not hasattr(family, "BODY"):
        from metastar.envs.backends import point_mass as backend
    elif cfg.simulator.backend == "c":
        from metastar.envs.backends import mujoco_c as backend
    else:
        from metastar.envs.backends import mjx as backend
    return backend.make_env(family, spec, cfg)


def profile_of(cfg: ConfigDict) -> str:
    """The observation profile of a config; "default" in families that have no other."""
    return cfg.env.get("profile", "default")


def spec_of(name: str, profile: str) -> EnvSpec:
    """Sizes of a family under an observation profile.

    A family lists its profiles in `PROFILES`; one that has none has the profile "default" only.

    Raises:
        UserError: the family or the profile is unknown.
    """
    family = registry.find("family", name)
    profiles = getattr(family, "PROFILES", None) or {"default": family.SPEC}
    if profile not in profiles:
        hint = did_you_mean(profile, profiles)
        raise UserError(f"family {name!r} has no observation profile {profile!r}{hint}")
    return profiles[profile]
