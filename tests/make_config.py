"""Configs for tests: the presets of `configs/`, and the defaults of every field."""

from pathlib import Path

from ml_collections import ConfigDict

from metastar import config, registry
from metastar.config import schema

CONFIGS = Path(__file__).parents[1] / "configs"


def preset(method: str, family: str, name: str = "") -> ConfigDict:
    """Of the file named after the method; `contextual` has several, of which it is FOCAL's."""
    file = CONFIGS / f"{'focal' if method == 'contextual' else method}.py"
    return config.load_preset(f"{file}:{family},{name}")


def recipes() -> list[str]:
    """Families with recipes of their own, and two that take another's but for MetaSTAR's agent."""
    own = [n for n in registry.names("family") if not hasattr(registry.find("family", n), "LIKE")]
    return [*own, "hopper_mass", "walker_param_sparse"]


def base(**values) -> ConfigDict:
    """The defaults, MetaSTAR's with a task loss, and `values` such as `world_model__width=8`."""
    values = {path.replace("__", "."): value for path, value in values.items()}
    if values.get("method", "metastar") == "metastar":
        values = {"task_losses.distance": 1.0, "task_losses.infonce": 0.0, **values}
    return config.build(values)


def schema_of(values: dict) -> dict:
    """The fields of the config that `base` makes of `values`."""
    return schema.of(values).fields


def swept(cfg: ConfigDict, values: dict) -> ConfigDict:
    """`cfg` with sweeps of fields: values by path."""
    sweeps = {f"sweep.{path}": value for path, value in values.items()}
    return ConfigDict(config.nest({**config.flatten(cfg), **sweeps}))


def outside(path: str, family: str, **values) -> ConfigDict:
    """The debug data and evaluation of a method of a file outside the package."""
    small = {"train.chunk": 4, "train.eval_every": 8, "train.checkpoint_every": 4}
    small |= {"eval.windows": 3, "eval.zero_shot_streams": 2, "eval.curve_windows": 2}
    method = {"imports": (path,), "method": path.rpartition(".")[2]}
    return config.build({"family": family, "data.preset": "debug", **method, **small, **values})
