"""Task encoders that read a window in time order with one of the cores of the world model."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from metastar.config.fields import COUNT, Field
from metastar.errors import UserError
from metastar.types import Array, Codes, DataSpec, Encoder, View

INPUTS = {  # beside the action, in this order
    "previous": ("obs", "prev_reward"),
    "reward": ("obs", "reward"),
    "dynamics": ("obs", "reward", "next_obs"),
}
BOUNDS = {
    "none": lambda code: code,
    "tanh": jnp.tanh,
    "sphere": lambda code: code * jax.lax.rsqrt(jnp.mean(code**2, axis=-1, keepdims=True) + 1e-6),
}
SETTINGS = {
    "width": Field(128, COUNT, "H, of tokens and states; MetaSTAR, Meta-DT 128"),
    "num_layers": Field(1, COUNT, "layers of the core; Meta-DT 1, MetaSTAR 2"),
    "code_dim": Field(5, COUNT, "Z"),
    "inputs": Field(
        "reward",
        tuple(INPUTS),
        "what a step shows: (s, a, r); with s' too, where tasks differ in dynamics; or (s, a) with "
        "the reward before it (MetaSTAR)",
    ),
    "bound": Field("tanh", tuple(BOUNDS), 'of the code; "sphere": unit mean square'),
    "context": Field("window", ("window", "bag"), "it must be steps in time order"),
    "context_len": Field(30, COUNT, "L, steps of it; MetaSTAR 30"),
}


def expect_window(cfg: Any, name: str) -> None:
    """Raises `UserError` unless the settings of encoder `name` ask for windows."""
    if cfg.context != "window":
        raise UserError(
            f"encoder {name!r} reads steps in time order, and the transitions of a bag have none; "
            f"set encoder.{name}.context='window', or encoder.name='mean_mlp'"
        )


def make(core: nn.Module, cfg: Any, spec: DataSpec) -> Encoder:
    """The encoder whose code [..., Z] is `core.task_code` of the window's steps.

    Args:
        core: its `task_code(inputs [..., L, n], action [..., L, A], valid [..., L])` -> [..., Z].
        cfg: settings as `SETTINGS`.
        spec: sizes.
    """
    sizes = {"obs": spec.obs_dim, "prev_reward": 1, "reward": 1, "next_obs": spec.obs_dim}
    columns = INPUTS[cfg.inputs]
    bound: Callable = BOUNDS[cfg.bound]

    def init(key: Array) -> Any:
        inputs = jnp.zeros((1, sum(sizes[name] for name in columns)))
        action, valid = jnp.zeros((1, spec.action_dim)), jnp.ones(1, bool)
        return core.init(key, inputs, action, valid, method="task_code")["params"]

    def encode(params: Any, view: View, noise: Any) -> Codes:
        del noise
        found = (getattr(view, name) for name in columns)
        rows = [x if x.ndim == view.obs.ndim else x[..., None] for x in found]
        # Padding may hold anything: it is seen by no other step, but must not make a NaN of itself.
        inputs = jnp.where(view.valid[..., None], jnp.concatenate(rows, -1), 0)
        action = jnp.where(view.valid[..., None], view.action, 0)
        code = core.apply({"params": params}, inputs, action, view.valid, method="task_code")
        return Codes(bound(code))

    return Encoder(init, encode)
