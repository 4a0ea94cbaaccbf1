import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metastar.errors import UserError
from metastar.losses import world_model as model_loss
from metastar.models import dynamics, rollouts, world_model
from metastar.models.imagine import ImagineNoise, imagine
from metastar.types import Batch
from model_helpers import HP, LENGTH, OBS, SPEC, random_view, scrambled, tiny_cfg

CFG = tiny_cfg()
PREDICTING = tiny_cfg(skip=True, prior="change")  # what a model of a robot needs
KEY = jax.random.key(0)
PARAMS = scrambled(world_model.init, KEY, CFG, SPEC)
VIEW = random_view(jax.random.key(1), 2, LENGTH)
NOISE = world_model.draw_encode_noise(jax.random.key(2), (2, LENGTH), CFG)
CODE = jnp.zeros(3)
NOISE_OF_ONE = jax.tree.map(lambda x: x[0], NOISE)
encode = jax.jit(lambda *args: world_model.encode(*args, CFG))
encode_task = jax.jit(lambda *args: world_model.encode_task(*args, CFG))


def row(tree, i):
    return jax.tree.map(lambda x: x[i], tree)


def test_parameters_are_plain_dicts_and_depend_on_the_key():
    assert type(PARAMS) is dict
    init = jax.jit(lambda key: world_model.init(key, CFG, SPEC))
    one, two = (init(jax.random.key(i)) for i in range(2))
    assert jax.tree.structure(one) == jax.tree.structure(two)
    kernel = one["encoder"]["hidden_0"]["kernel"]
    assert (kernel != two["encoder"]["hidden_0"]["kernel"]).all()


def test_shapes_and_leading_axes():
    encoded = encode(PARAMS, VIEW, NOISE)
    assert encoded.feats.shape == (2, LENGTH, 8)
    assert encoded.task_code.shape == (2, 3)
    for name, actual, expected in zip(
        encoded._fields, encode(PARAMS, row(VIEW, 1), row(NOISE, 1)), row(encoded, 1)
    ):
        np.testing.assert_allclose(actual, expected, atol=1e-5, err_msg=name)


def test_encode_task_equals_encode():
    np.testing.assert_allclose(
        encode_task(PARAMS, VIEW, NOISE), encode(PARAMS, VIEW, NOISE).task_code, atol=1e-5
    )


def test_precise_latents_tell_observations_apart_from_the_start():
    def signal_to_noise(**fields):
        cfg = tiny_cfg(width=64, latent_dim=8, **fields)

        @jax.jit
        def measure(view):
            params = world_model.init(KEY, cfg, SPEC)
            embedding = world_model.embed(params, view.obs, view.prev_reward, cfg)
            mean, logvar = world_model.posterior(params, embedding, cfg)
            return (mean.std((0, 1)) / jnp.exp(0.5 * logvar).mean((0, 1))).mean()

        return measure(random_view(jax.random.key(3), 64, LENGTH))

    assert signal_to_noise() < 0.01
    assert signal_to_noise(latent_init="precise") > 0.1


def test_sphere_bounds_the_code_and_keeps_its_direction():
    code = encode(PARAMS, VIEW, NOISE).task_code
    bound = world_model.encode_task(PARAMS, VIEW, NOISE, tiny_cfg(code_bound="sphere"))
    np.testing.assert_allclose(np.mean(bound**2, axis=-1), 1, rtol=1e-4)
    ratio = bound / code
    np.testing.assert_allclose(ratio, np.broadcast_to(ratio[:, :1], ratio.shape), rtol=1e-4)


def test_code_reads_what_the_task_shows_and_only_valid_steps():
    def code(obs, prev_reward, action, valid):
        view = VIEW._replace(obs=obs, prev_reward=prev_reward, action=action, valid=valid)
        return world_model.encode_task(PARAMS, view, NOISE, CFG).sum()

    valid = jnp.broadcast_to(jnp.arange(LENGTH) < 4, (2, LENGTH))
    grad_fn = jax.jit(jax.grad(code, argnums=(0, 1, 2)))
    for grad in grad_fn(VIEW.obs, VIEW.prev_reward, VIEW.action, valid):
        influence = np.abs(grad).reshape(2, LENGTH, -1).sum(-1)
        assert ((influence > 0) == valid).all()


def test_window_longer_than_the_position_table_is_a_user_error():
    view = random_view(KEY, LENGTH + 1)
    noise = world_model.draw_encode_noise(KEY, (LENGTH + 1,), CFG)
    with pytest.raises(UserError, match=f"{LENGTH + 1} steps.*context_len={LENGTH}"):
        world_model.encode(PARAMS, view, noise, CFG)


def test_linear_paths_are_added_and_have_no_bias():
    x = jnp.concatenate([VIEW.obs, VIEW.prev_reward[..., None]], -1)
    latent = jax.random.normal(KEY, (5, 4))

    @jax.jit
    def outputs(key):
        """Both kernels, and embedding, decoded mean and log-variance with the paths and without."""
        params = world_model.init(key, PREDICTING, SPEC)
        rest = {name: dict(params[name]) for name in ("encoder", "decoder")}
        paths = [rest[name].pop("skip") for name in rest]
        found = []
        for own, cfg in ((params, PREDICTING), (rest, CFG)):
            mean, logvar = world_model.decode(own, latent, CODE, cfg)
            found.append((world_model.embed(own, VIEW.obs, VIEW.prev_reward, cfg), mean, logvar))
        return paths, *found

    (path_in, path_out), (embedding, mean, logvar), (plain, plain_mean, plain_logvar) = outputs(KEY)
    assert set(path_in) == set(path_out) == {"kernel"}
    np.testing.assert_allclose(embedding - plain, x @ path_in["kernel"], atol=1e-6)
    np.testing.assert_allclose(mean[0] - plain_mean[0], latent @ path_out["kernel"], atol=1e-6)
    np.testing.assert_array_equal(logvar, plain_logvar)


def test_a_changing_prior_starts_with_hardly_any_change_and_sees_the_action():
    feats, latent, action = (jax.random.normal(KEY, (5, n)) for n in (8, 4, 2))

    @jax.jit
    def start(action):
        params = world_model.init(KEY, PREDICTING, SPEC)
        token = world_model.Token(feats, latent, action)
        return world_model.prior(params, token, CODE, PREDICTING)

    mean, logvar = start(action)
    assert 0 < np.abs(mean - latent).max() < 0.1
    np.testing.assert_allclose(logvar, world_model.PRECISE_LOGVAR, atol=0.1)
    assert np.abs(start(action + 1)[0] - mean).max() > 0


@pytest.mark.parametrize("cfg", [CFG, PREDICTING], ids=["reference", "predicting"])
def test_rollout_follows_the_transformer_that_encode_trains(cfg):
    params = PARAMS if cfg is CFG else scrambled(world_model.init, KEY, cfg, SPEC)
    num, horizon = 3, 2
    view, noise = row(VIEW, 0), row(NOISE, 0)
    start_noise = dynamics.draw_start_noise(KEY, (), num, OBS, cfg)
    start_noise = start_noise._replace(posterior=noise.posterior[:num])
    step_noise = dynamics.draw_step_noise(KEY, (horizon,), OBS, cfg)

    @jax.jit
    def run(params):
        context = jax.tree.map(lambda x: x[:num], view._replace(policy=view.obs, stage=view.obs))
        obs, carry = dynamics.start(params, context, CODE, start_noise, cfg)
        policy_fn = lambda obs, noise: noise + obs[:2]  # noqa: E731
        noise = ImagineNoise(step_noise, jnp.zeros((horizon, 2)))
        step_fn = dynamics.make_step_fn(params, cfg)
        path = imagine(step_fn, policy_fn, obs, carry, noise, horizon)
        return obs, carry, path, world_model.encode(params, view, NOISE_OF_ONE, cfg)

    obs, carry, path, encoded = run(params)

    @jax.jit
    def predict(token, noise):
        return dynamics.predict(params, token, CODE, noise, cfg)

    tokens = world_model.Token(encoded.feats, encoded.latent, view.action)
    prediction = predict(row(tokens, num - 1), start_noise.step)
    np.testing.assert_allclose(obs, prediction.obs, atol=1e-5)
    np.testing.assert_allclose(carry.latent, prediction.latent, atol=1e-5)
    np.testing.assert_array_equal(path.obs[0], obs)

    # The imagined tokens through one full pass of the same network.
    latent = jnp.concatenate([encoded.latent[:num], carry.latent[None]])
    action = jnp.concatenate([view.action[:num], path.action[:1]])
    feats, _ = jax.jit(world_model._core(cfg).apply)(
        {"params": params["core"]}, latent, action, jnp.ones(num + 1, bool)
    )
    token = world_model.Token(feats[-1], latent[-1], action[-1])
    expected = predict(token, row(step_noise, 0))
    np.testing.assert_allclose(path.next_obs[0], expected.obs, atol=1e-5)
    np.testing.assert_allclose(path.reward[0], expected.reward, atol=1e-5)
    assert path.done[0] == (expected.done_logit > 0)


def test_a_rollout_beyond_the_position_table_is_a_user_error():
    view = jax.tree.map(lambda x: x[:3] if x.ndim else x, row(VIEW, 0))
    action = jnp.zeros((LENGTH - 2, 2))
    with pytest.raises(UserError, match=f"is {LENGTH + 1} but the position table"):
        rollouts.replay(PARAMS, CFG, view, action, CODE, KEY)
    cfg = tiny_cfg()
    cfg.imagine.horizon = LENGTH - 2
    windows, code = jax.tree.map(lambda x: x[None, None], view), CODE[None, None]
    with pytest.raises(UserError, match=f"is {LENGTH + 1} but the position table"):
        rollouts.roll_out(PARAMS, cfg, 0.0, windows, code, None, KEY, 2)


def test_attention_dropout_is_data_with_mean_one():
    cfg = tiny_cfg(attention_dropout=0.25)
    batch = Batch(jnp.arange(2), None, {"context": VIEW, "positive": VIEW})
    noise = model_loss.draw_noise(KEY, batch, cfg, {}).encode
    assert noise.posterior.shape == (4, LENGTH, 4)
    assert noise.attention.shape == (4, 2, 2, LENGTH + 1, LENGTH + 1)
    np.testing.assert_allclose(np.unique(noise.attention), [0, 4 / 3], rtol=1e-6)
    assert abs(noise.attention.mean() - 1) < 0.1
    assert model_loss.draw_noise(KEY, batch, CFG, {}).encode.attention is None


def test_a_condition_lets_the_code_change_what_is_predicted_and_nothing_else():
    """Every network that predicts reads the code; with two windows, the code of the other one."""
    cfg = tiny_cfg(condition="film")
    other = random_view(jax.random.key(3), 2, LENGTH)
    batch = Batch(jnp.arange(2), None, {"context": VIEW, "positive": other})
    params = model_loss.init(KEY, cfg, SPEC, {})
    assert set(params["condition"]) == set(world_model.CONDITIONED)
    noise = model_loss.draw_noise(KEY, batch, cfg, {}).encode
    encode_views = jax.jit(lambda params: model_loss.encode_views(params, batch.views, noise, cfg))
    encoded, codes = encode_views(params)

    @jax.jit
    def predictions(code):
        feats, latent, action = encoded.feats[:2], encoded.latent[:2], VIEW.action
        return (
            world_model.prior(params, world_model.Token(feats, latent, action), code, cfg)[0],
            world_model.decode(params, latent, code, cfg)[0],
            world_model.done_logit(params, feats, code, cfg),
        )

    for now, other in zip(
        predictions(codes["context"].task), predictions(codes["context"].task + 1)
    ):
        assert np.abs(now - other).max() > 1e-4

    loss = jax.jit(lambda params, noise: model_loss.loss(params, {}, batch, noise, HP, cfg, {}))
    _, metrics = loss(params, model_loss.ModelNoise(noise, {}))
    terms = jax.jit(lambda *args: model_loss.terms(params, *args, 0.0, cfg))
    halves = [
        terms(batch.views[name], row(encoded, part), codes[other].task)
        for name, part, other in (
            ("context", slice(2), "positive"),
            ("positive", slice(2, 4), "context"),
        )
    ]
    for name in ("kl_raw", "termination"):
        expected = np.mean([getattr(half, name) for half in halves])
        np.testing.assert_allclose(metrics[name], expected, rtol=1e-5)
