"""What the world model predicts: starts, ensembles of decoders, penalised rewards, a code token."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metastar.losses import world_model as model_loss
from metastar.models import dynamics, world_model
from metastar.models.imagine import ImagineNoise, imagine
from metastar.types import Batch
from model_helpers import HP, LENGTH, OBS, SPEC, random_view, scrambled, tiny_cfg

KEY = jax.random.key(0)
CODE = jnp.array([0.5, -1.0, 2.0])
CFG = tiny_cfg(ensemble=3, condition="token")
PARAMS = scrambled(world_model.init, KEY, CFG, SPEC)
NUM = 3  # real steps before a rollout to the end of the position table
VIEW = random_view(jax.random.key(1), LENGTH)
VIEW = VIEW._replace(  # one episode: what a step leads to is what the next one starts from
    next_obs=jnp.roll(VIEW.obs, -1, axis=0), reward=jnp.roll(VIEW.prev_reward, -1)
)
NOISE = world_model.draw_encode_noise(jax.random.key(2), (LENGTH,), CFG)
decode = jax.jit(lambda params, latent: world_model.decode(params, latent, CODE, CFG))


def first(view, num):
    return jax.tree.map(lambda x: x[:num] if x.ndim else x, view)


def told_reward(obs, action, next_obs, code):
    return obs.sum() + 2 * action.sum() + 3 * next_obs.sum() + 4 * code.sum()


@partial(jax.jit, static_argnames="reward_fn")
def real_rollout(code, penalty=0.0, reward_fn=None):
    """The recorded actions from the real state after `NUM` steps, and the encoding to there."""
    step = dynamics.draw_step_noise(KEY, (LENGTH - NUM,), OBS, CFG)
    noise = dynamics.StartNoise(NOISE.posterior[:NUM], jax.tree.map(lambda x: x[0], step))
    noise = noise._replace(step=noise.step._replace(prior=NOISE.posterior[NUM]))
    begin = dynamics.start_real(PARAMS, first(VIEW, NUM), code, noise, CFG)
    step_fn = dynamics.make_step_fn(PARAMS, CFG, penalty, reward_fn)
    noise = ImagineNoise(step, VIEW.action[NUM:])
    path = imagine(step_fn, lambda obs, action: action, *begin, noise, LENGTH - NUM)
    encoded = world_model.encode(PARAMS, first(VIEW, NUM + 1), first(NOISE, NUM + 1), CFG)
    seen = world_model.see_code(PARAMS, first(VIEW, NUM + 1), encoded, code, NOISE, CFG)
    at_start = jax.tree.map(lambda x: x[0], step)
    token = world_model.Token(seen.feats[-1], seen.latent[-1], VIEW.action[NUM])
    return path, begin[1], seen, dynamics.predict(PARAMS, token, code, at_start, CFG)


def test_a_real_start_goes_on_as_if_the_model_had_seen_one_more_step():
    path, carry, encoded, prediction = real_rollout(CODE)
    np.testing.assert_array_equal(path.obs[0], VIEW.obs[NUM])
    np.testing.assert_allclose(carry.latent, encoded.latent[-1], atol=1e-5)
    np.testing.assert_allclose(path.next_obs[0], prediction.obs, atol=1e-4)
    np.testing.assert_allclose(path.reward[0], prediction.reward, atol=1e-4)
    assert np.isfinite(path.next_obs).all() and len(path.reward) == LENGTH - NUM


def test_rewards_can_be_told_in_place_of_the_decoders():
    plain, told = (real_rollout(CODE, reward_fn=fn)[0] for fn in (None, told_reward))
    np.testing.assert_array_equal(plain.next_obs, told.next_obs)
    expected = jax.vmap(told_reward, (0, 0, 0, None))(told.obs, told.action, told.next_obs, CODE)
    np.testing.assert_allclose(told.reward, expected, rtol=1e-6)
    doubted = real_rollout(CODE, 0.5, told_reward)[0].reward
    assert (doubted < told.reward).all()


def test_a_predicted_start_is_not_the_datas_state():
    @jax.jit
    def start(view):
        noise = dynamics.draw_start_noise(KEY, (), NUM, OBS, CFG)
        return dynamics.start(PARAMS, view, CODE, noise, CFG)

    obs, _ = start(first(VIEW, NUM))
    assert np.abs(obs - VIEW.obs[NUM]).max() > 1e-3


def test_the_code_token_changes_what_is_imagined():
    path, _, encoded, _ = real_rollout(CODE)
    other, _, moved, _ = real_rollout(-CODE)
    assert (np.abs(encoded.feats - moved.feats).max(-1) > 1e-4).all()
    assert np.abs(path.next_obs - other.next_obs).max() > 1e-4
    np.testing.assert_array_equal(encoded.task_code, moved.task_code)


def test_the_loss_predicts_under_the_token_of_the_other_window():
    views = {name: random_view(jax.random.key(i), 2, LENGTH) for i, name in enumerate("ab")}
    batch = Batch(jnp.arange(2), None, {"context": views["a"], "positive": views["b"]})
    noise = model_loss.draw_noise(KEY, batch, CFG, {})

    @jax.jit
    def kl(params, cut):
        encoded, codes = model_loss.encode_views(params, batch.views, noise.encode, CFG)
        crossed = jnp.concatenate([codes["positive"].task, codes["context"].task])
        crossed = jnp.where(cut, jax.lax.stop_gradient(crossed), crossed)
        stacked = jax.tree.map(lambda *x: jnp.concatenate(x), views["a"], views["b"])
        seen = world_model.see_code(params, stacked, encoded, crossed, noise.encode, CFG)
        return model_loss.terms(params, stacked, seen, crossed, 0.0, CFG).kl_dyn

    _, metrics = jax.jit(lambda p: model_loss.loss(p, {}, batch, noise, HP, CFG, {}))(PARAMS)
    np.testing.assert_allclose(metrics["kl_dyn"], kl(PARAMS, False), rtol=1e-5)
    head = jax.jit(jax.grad(lambda p, cut: kl(p, cut)))
    reached = [np.abs(head(PARAMS, cut)["core"]["task_head"]["kernel"]).max() for cut in (0, 1)]
    assert reached[0] > 0 == reached[1]  # prediction asks for what the code tells


def test_members_start_apart_and_are_the_decoders_they_would_be_alone():
    fresh = jax.jit(lambda key: world_model.init(key, CFG, SPEC))(KEY)
    fresh = fresh["decoder"]["hidden_0"]["kernel"]
    assert fresh.shape[0] == 3 and np.abs(fresh[0] - fresh[1]).max() > 1e-3
    alone = tiny_cfg()
    latent = jax.random.normal(KEY, (5, 4))
    many = decode(PARAMS, latent)
    decode_alone = jax.jit(lambda params: world_model.decode(params, latent, CODE, alone))
    for i in range(3):
        member = {"decoder": jax.tree.map(lambda x, i=i: x[i], PARAMS["decoder"])}
        for x, one in zip(many, decode_alone(member)):
            np.testing.assert_allclose(x[i], one[0], rtol=1e-5, atol=1e-6)


def test_a_step_is_decoded_by_the_member_that_was_drawn():
    token = world_model.Token(jax.random.normal(KEY, (4, 8)), None, None)
    noise = dynamics.draw_step_noise(KEY, (4,), OBS, CFG)
    drawn = dynamics.draw_step_noise(KEY, (300,), OBS, CFG).member
    assert np.bincount(drawn).tolist() and set(np.unique(drawn)) == {0, 1, 2}
    noise = noise._replace(member=jnp.array([2, 0, 1, 2]))
    predict = jax.jit(lambda token, noise: dynamics.predict(PARAMS, token, CODE, noise, CFG))
    prediction = predict(token, noise)
    mean, _ = decode(PARAMS, prediction.latent)
    for row, member in enumerate(noise.member):
        np.testing.assert_allclose(prediction.mean[row], mean[member, row], rtol=1e-6)
    assert dynamics.draw_step_noise(KEY, (4,), OBS, tiny_cfg()).member is None


@pytest.mark.parametrize("kind", ["spread", "rms_spread", "disagreement"])
def test_uncertainty_is_of_all_members(kind):
    cfg = tiny_cfg(ensemble=3, condition="token")
    cfg.imagine.uncertainty = kind

    @jax.jit
    def predict(feats):
        noise = dynamics.draw_step_noise(KEY, (), OBS, cfg)
        token = world_model.Token(feats, None, None)
        return dynamics.predict(PARAMS, token, CODE, noise, cfg)

    prediction = predict(jnp.ones(8))
    mean, logvar = map(np.asarray, decode(PARAMS, prediction.latent))
    if kind == "spread":
        expected = max(np.sqrt(np.exp(v).sum()) for v in logvar)
    elif kind == "rms_spread":
        expected = max(np.sqrt(np.exp(v).mean()) for v in logvar)
    else:
        expected = max(np.linalg.norm(a - b) for a in mean for b in mean)
    np.testing.assert_allclose(prediction.uncertainty, expected, rtol=1e-5)


def test_the_penalty_takes_the_uncertainty_off_the_reward_and_off_nothing_else():
    path, _, _, prediction = real_rollout(CODE)
    lowered, *_ = real_rollout(CODE, 2.0)
    np.testing.assert_array_equal(path.next_obs, lowered.next_obs)
    off = path.reward - lowered.reward
    assert (off > 0).all()
    np.testing.assert_allclose(off[0], 2 * prediction.uncertainty, rtol=1e-3)
