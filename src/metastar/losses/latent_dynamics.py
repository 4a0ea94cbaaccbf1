"""How the latent world model learns: consistency with the codes that follow, and rewards.

SPC (arXiv 2603.02935): equations in `docs/methods.md`.
"""

from typing import Any

import jax
import jax.numpy as jnp

from metastar.config.fields import COUNT, NOT_NEGATIVE, RATE, Field
from metastar.errors import UserError
from metastar.models.latent_dynamics import LatentModel, rollout
from metastar.types import Array, View

DEFAULTS = {
    "horizon": Field(5, COUNT, "H, steps of a sequence within one episode; SPC 5"),
    "lr": Field(1e-4, RATE, "rate of the world model; SPC", swept=True, decays=True),
    "weight_decay": Field(0.01, NOT_NEGATIVE, "AdamW's, of all parameters; SPC 0.01"),
    "tau": Field(0.005, RATE, "Polyak rate of the target encoder; SPC", swept=True),
    "consistency_weight": Field(1.0, NOT_NEGATIVE, "of the predicted codes; SPC 1", swept=True),
    "reward_weight": Field(1.0, NOT_NEGATIVE, "of the predicted rewards; SPC 1", swept=True),
    "rho": Field(
        0.99, "[0, 1]", "step t of a sequence weighs rho^t; SPC 0.99, DC-MPC 0.9", swept=True
    ),
    "mask_terminals": Field(
        False,
        "",
        "whether steps into a true terminal count for nothing, as in SPC's code: no reward there is"
        " learned, and discrete_ce learns no such state",
    ),
}
READS = ("sampler",)


def check(cfg: Any) -> None:
    """Raises `UserError` if the rows of an update hold no whole sequence."""
    if cfg.sampler.batch_size < cfg.horizon:
        raise UserError(
            f"sampler.batch_size is {cfg.sampler.batch_size} rows of a task but must hold a whole "
            f"sequence of world_model.horizon = {cfg.horizon} steps; raise it"
        )


def loss(
    params: Any,
    code: Array,
    target: Array,
    view: View,
    noise: Any,
    hp: dict[str, Array],
    model: LatentModel,
    mask_terminals: bool = False,
) -> tuple[Array, dict[str, Array]]:
    """`a L_TC + b L_R` of sequences, rolled out from their first observation under their actions.

        L_TC = 1/H sum_t rho^t mean_rows E(prediction_t, target_t)
        L_R  = 1/H sum_t rho^t mean_rows (R(c_t, a_t, z) - r_t)^2

    with E the error of the model's kind and c_t the predicted latents. Terminals that are masked
    stay in the denominators, as in the authors' code; padding does not.

    Args:
        params: of the model.
        code: [M, Z], differentiated too.
        target: of `model.target` at the next observations, [M, B, H, ...]; data.
        view: sequences [M, B, H].
        noise: of `model.draw_noise`, [M, B, H, ...] or None.
        hp: the swept numbers of this file.
        model: of `latent_dynamics.make`.
        mask_terminals: the setting of that name.

    Returns:
        Scalar and metrics.
    """

    def one(code, obs, action, noise):
        return rollout(model, params, obs, action, code, noise)

    each = jax.vmap(jax.vmap(one, (None, 0, 0, 0)))
    latents, predictions = each(code, view.obs[:, :, 0], view.action, noise)
    predicted = model.reward(params, latents[:, :, :-1], view.action, code[:, None, None])

    not_terminal = ~view.done if mask_terminals else jnp.ones_like(view.done)
    counted = not_terminal if model.classifies else jnp.ones_like(view.done)

    def mean(error, counted):
        decay = hp["rho"] ** jnp.arange(error.shape[-1])
        total = jnp.sum(jnp.where(view.valid & counted, error, 0), (0, 1))
        return jnp.mean(decay * total / jnp.maximum(view.valid.sum((0, 1)), 1))

    consistency = mean(model.error(predictions, target), counted)
    reward = mean((predicted - view.reward) ** 2, not_terminal)
    value = hp["consistency_weight"] * consistency + hp["reward_weight"] * reward
    return value, {"consistency_loss": consistency, "reward_loss": reward}
