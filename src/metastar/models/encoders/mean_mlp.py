"""FOCAL's encoder: a network of single transitions, whose bounded outputs are averaged.

FOCAL (Li et al. 2021, arXiv 2010.01112), after PEARL (Rakelly et al. 2019, arXiv 1903.08254). The
order of the transitions has no effect. CSRO, ER-TRL, IDAQ and SPC use it too.
"""

from typing import Any

import jax
import jax.numpy as jnp

from metastar.config.fields import COUNT, Field
from metastar.models.nets.mlp import LAYERS, MLP
from metastar.models.task_codes import mean_of_valid
from metastar.types import Array, Codes, DataSpec, Encoder, View

_LEAST = 1e-12  # length of a code of zeros
INPUTS = {  # of the network, in this order
    "reward": ("obs", "action", "reward"),
    "dynamics": ("obs", "action", "reward", "next_obs"),
    "terminal": ("obs", "action", "reward", "next_obs", "done"),
}
LOG_VARIANCE = "log_variance"  # [Z], beside the layers
VARIANCES = 0.1, 10.0  # UNICORN's bounds
DEFAULTS = {
    "hidden": Field(
        (128, 128), COUNT, "widths of the hidden layers; FOCAL 200, 200, 200, SPC 256, 256"
    ),
    "layers": Field("relu", tuple(LAYERS), "ReLU: FOCAL; LayerNorm, Mish: SPC", before="relu"),
    "code_dim": Field(5, COUNT, "Z; FOCAL 20, SPC 5"),
    "inputs": Field(
        "reward",
        tuple(INPUTS),
        "its inputs: (s, a, r) of a transition; with s', where tasks differ in dynamics (FOCAL, "
        "SPC); with the terminal too (UNICORN)",
    ),
    "bound": Field(
        "tanh", ("tanh", "none"), "of the code of a transition, before the mean; FOCAL, SPC tanh"
    ),
    "unit_length": Field(
        False,
        "",
        "codes of transitions have length 1 before the mean, without its gradient; option of SPC",
        before=False,
    ),
    "sampled": Field(
        False,
        doc="whether the network's output is the mean of a Gaussian that is drawn from, with one "
        "learned variance for all transitions; UNICORN, which draws at test time too",
        before=False,
    ),
    "context": Field(
        "bag",
        ("bag", "window"),
        "what it encodes: transitions drawn one by one (FOCAL, SPC), or steps in time order",
    ),
    "context_len": Field(
        64, COUNT, "L, transitions of it; FOCAL 64 (Cheetah-Vel 100, others up to 1024), SPC 64"
    ),
}


def make(cfg, spec: DataSpec) -> Encoder:
    """Binds the encoder to its settings; its network starts as FOCAL's, which is rlkit's `MLP`.

    `z = mean_{valid t} tanh(f(s_t, a_t, r_t))`; zero for a context without a valid transition. With
    `cfg.sampled` a draw of `N(f(.), clip(v, 0.1, 10))` takes the place of f, where log v [Z] is
    learned too.
    """
    net = MLP(cfg.hidden, cfg.code_dim, layers=cfg.layers)
    sizes = {"obs": spec.obs_dim, "action": spec.action_dim, "next_obs": spec.obs_dim}

    def init(key: Array) -> Any:
        num = sum(sizes.get(name, 1) for name in INPUTS[cfg.inputs])
        params = net.init(key, jnp.zeros(num))["params"]
        return {**params, LOG_VARIANCE: jnp.zeros(cfg.code_dim)} if cfg.sampled else params

    def draw_noise(key: Array, shape: tuple[int, ...]) -> Array | None:
        return jax.random.normal(key, (*shape, cfg.code_dim)) if cfg.sampled else None

    def encode(params: Any, view: View, noise: Any) -> Codes:
        each = net.apply({"params": params}, inputs_of(view, cfg.inputs))
        if cfg.sampled:
            std = jnp.sqrt(jnp.clip(jnp.exp(params[LOG_VARIANCE]), *VARIANCES))
            each = each + jnp.broadcast_to(std, each.shape) * noise
        if cfg.bound == "tanh":
            each = jnp.tanh(each)
        if cfg.unit_length:
            each /= jnp.linalg.norm(jax.lax.stop_gradient(each), axis=-1, keepdims=True) + _LEAST
        return Codes(mean_of_valid(each, view.valid), each)

    return Encoder(init, encode, draw_noise)


def inputs_of(view: View, inputs: str) -> Array:
    """The network's inputs [..., L, n] from a view [..., L]."""
    columns = (getattr(view, name) for name in INPUTS[inputs])
    return jnp.concatenate(
        [x if x.ndim == view.obs.ndim else x[..., None].astype(view.obs.dtype) for x in columns], -1
    )
