"""The world model as a simulator: its predictions, and its rollouts step by step.

MetaSTAR (arXiv 2606.00780), imagination. Decoded states are never encoded again: the next token is
the predicted latent.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from metastar.config.fields import COUNT, NOT_NEGATIVE, Field
from metastar.errors import UserError
from metastar.models import world_model
from metastar.models.world_model import Token
from metastar.ops import gaussian
from metastar.ops.uncertainty import largest_disagreement, largest_spread
from metastar.types import Array, StepOut, View

DEFAULTS = {
    "context_len": Field(8, COUNT, "K, real steps before a rollout"),
    "start": Field(
        "predicted",
        ("predicted", "real"),
        "first state: the model's prediction after the real steps, or the data's own next state",
        before="predicted",
    ),
    "penalty": Field(
        0.0,
        NOT_NEGATIVE,
        "weight of the model's uncertainty, which is subtracted from imagined rewards",
        swept=True,
        before=0.0,
    ),
    "uncertainty": Field(
        "spread",
        ("spread", "rms_spread", "disagreement"),
        "how it is measured: the decoders' largest spread, a norm over all outputs; the same "
        "divided by the root of their number; or the largest disagreement of means",
        before="spread",
    ),
}


class StepNoise(NamedTuple):
    """Draws of one predicted step, standard normal except `member`."""

    prior: Array  # [..., D]
    decoder: Array  # [..., O+1]
    member: Array | None = None  # [...] int: which decoder of an ensemble; None: there is only one


class StartNoise(NamedTuple):
    """Draws of the start of one rollout from K real steps."""

    posterior: Array  # [K, D] standard normal
    step: StepNoise  # for the state after the last real step; a real start needs `prior` only


class Prediction(NamedTuple):
    """What the model expects after a token."""

    feats: Array  # [..., H]
    prior_mean: Array  # [..., D]
    prior_logvar: Array  # [..., D]
    latent: Array  # [..., D]
    mean: Array  # [..., O+1] of (obs, reward), by the decoder that was drawn
    logvar: Array  # [..., O+1]
    uncertainty: Array  # [...] over all decoders, as `imagine.uncertainty` says
    obs: Array  # [..., O] drawn, not the mean
    reward: Array  # [...]
    done_logit: Array  # [...]


class Carry(NamedTuple):
    """State of one rollout."""

    cache: Any  # of the core
    obs: Array  # [O]
    latent: Array  # [D]
    code: Array  # [Z] of the rollout's task


def predict(params: Any, token: Token, code: Array, noise: StepNoise, cfg: Any) -> Prediction:
    """Draws the latent after a token [..., ...], then observation and reward, given the code."""
    prior_mean, prior_logvar = world_model.prior(params, token, code, cfg)
    latent = gaussian.sample(prior_mean, prior_logvar, noise.prior)
    means, logvars = world_model.decode(params, latent, code, cfg)
    mean, logvar = _member(means, noise.member), _member(logvars, noise.member)
    drawn = gaussian.sample(mean, logvar, noise.decoder)
    return Prediction(
        feats=token.feats,
        prior_mean=prior_mean,
        prior_logvar=prior_logvar,
        latent=latent,
        mean=mean,
        logvar=logvar,
        uncertainty=_uncertainty(means, logvars, cfg),
        obs=drawn[..., :-1],
        reward=drawn[..., -1],
        done_logit=world_model.done_logit(params, token.feats, code, cfg),
    )


def advance(
    params: Any, carry: Carry, action: Array, noise: StepNoise, cfg: Any
) -> tuple[Prediction, Carry]:
    """Feeds the token (predicted latent, action [A]) of ONE rollout and predicts what follows."""
    token, cache = world_model.extend(params, carry.cache, carry.latent, action, cfg)
    prediction = predict(params, token, carry.code, noise, cfg)
    return prediction, Carry(cache, prediction.obs, prediction.latent, carry.code)


def start(params: Any, view: View, code: Array, noise: StartNoise, cfg: Any) -> tuple[Array, Carry]:
    """Starts ONE rollout at the state the model expects after K real steps.

    Args:
        params: parameters of `world_model.init`.
        view: leaves [K, ...], all valid.
        code: [Z] the task; without `world_model.condition` it has no effect.
        noise: draws.
        cfg: the config.

    Returns:
        Predicted observation [O] and the carry of `make_step_fn`. The rollout has room for
        `context_len - K` steps.

    Raises:
        UserError: if K is larger than the position table.
    """
    tokens, cache = world_model.prefill(params, view, code, noise.posterior, cfg)
    last = jax.tree.map(lambda x: x[-1], tokens)
    prediction = predict(params, last, code, noise.step, cfg)
    return prediction.obs, Carry(cache, prediction.obs, prediction.latent, code)


def start_real(
    params: Any, view: View, code: Array, noise: StartNoise, cfg: Any
) -> tuple[Array, Carry]:
    """Starts ONE rollout at the state that K real steps led to; otherwise as `start`.

    The latent is the posterior's draw at (next_obs, reward) of the last step, as the encoder would
    see the next step of the window; its noise is `noise.step.prior`.
    """
    _, cache = world_model.prefill(params, view, code, noise.posterior, cfg)
    obs = view.next_obs[-1]
    embedding = world_model.embed(params, obs, view.reward[-1], cfg)
    mean, logvar = world_model.posterior(params, embedding, cfg)
    return obs, Carry(cache, obs, gaussian.sample(mean, logvar, noise.step.prior), code)


def make_step_fn(
    params: Any, cfg: Any, penalty: Array | float = 0.0, reward_fn: Callable | None = None
) -> Callable:
    """Makes `step_fn(carry, action [A], noise: StepNoise) -> (StepOut, carry)` of ONE rollout.

    A step is terminal where the logit is above zero. Rewards are `reward - penalty * uncertainty`:
    the penalised world of MOPO, Yu et al. 2020 (arXiv 2005.13239), section 4.2. With
    `reward_fn(obs [O], action [A], next_obs [O], code [Z]) -> []` it tells the reward in place of
    the decoder.
    """

    def step_fn(carry: Carry, action: Array, noise: StepNoise) -> tuple[StepOut, Carry]:
        prediction, after = advance(params, carry, action, noise, cfg)
        reward = prediction.reward
        if reward_fn is not None:
            reward = reward_fn(carry.obs, action, prediction.obs, carry.code)
        reward -= penalty * prediction.uncertainty
        return StepOut(prediction.obs, reward, prediction.done_logit > 0), after

    return step_fn


def expect_room(context_len: int, horizon: int, cfg: Any) -> None:
    """Raises `UserError` unless the position table has a row for every step of a rollout.

    Args:
        context_len: K, real steps before it.
        horizon: H, imagined steps.
        cfg: the config.
    """
    steps, table = context_len + horizon, cfg.world_model.context_len
    if steps > table:
        raise UserError(
            f"imagine.context_len + imagine.horizon is {steps} but the position table has "
            f"world_model.context_len = {table} rows; lower one of the two"
        )


def draw_step_noise(key: Array, shape: tuple[int, ...], obs_dim: int, cfg: Any) -> StepNoise:
    """Noise of predicted steps, with leading axes `shape`."""
    key_prior, key_decoder = jax.random.split(key)
    prior_noise = jax.random.normal(key_prior, (*shape, cfg.world_model.latent_dim))
    noise = StepNoise(prior_noise, jax.random.normal(key_decoder, (*shape, obs_dim + 1)))
    if cfg.world_model.ensemble == 1:
        return noise
    key_member = jax.random.fold_in(key_decoder, 1)
    return noise._replace(member=jax.random.randint(key_member, shape, 0, cfg.world_model.ensemble))


def draw_start_noise(
    key: Array, shape: tuple[int, ...], context_len: int, obs_dim: int, cfg: Any
) -> StartNoise:
    """Noise of the starts of rollouts, with leading axes `shape`."""
    key_posterior, key_step = jax.random.split(key)
    encode_noise = world_model.draw_encode_noise(key_posterior, (*shape, context_len), cfg)
    return StartNoise(encode_noise.posterior, draw_step_noise(key_step, shape, obs_dim, cfg))


def _member(members: Array, index: Array | None) -> Array:
    """Takes [..., n] out of [E, ..., n] by index [...]."""
    if index is None:
        return members[0]
    return jnp.take_along_axis(members, index[None, ..., None], axis=0)[0]


def _uncertainty(means: Array, logvars: Array, cfg: Any) -> Array:
    """[E, ..., O+1] -> [...]."""
    if cfg.imagine.uncertainty == "disagreement":
        return largest_disagreement(means)
    spread = largest_spread(logvars)
    if cfg.imagine.uncertainty == "spread":
        return spread
    return spread / math.sqrt(logvars.shape[-1])
