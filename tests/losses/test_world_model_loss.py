from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metastar.losses import world_model as model_loss
from metastar.losses.task import distance, infonce
from metastar.models import world_model
from metastar.ops import gaussian
from model_helpers import HP, LENGTH, SPEC, make_loss, random_batch, scrambled, tiny_cfg

CFG = tiny_cfg()
KEY = jax.random.key(0)
PARAMS = scrambled(world_model.init, KEY, CFG, SPEC)
BATCH = random_batch(jax.random.key(1), [0, 0, 1])
VIEW = BATCH.views["context"]
TASK_LOSSES = {"distance": make_loss(distance, CFG, SPEC)}
NOISE = model_loss.draw_noise(KEY, BATCH, CFG, TASK_LOSSES)
CODE = jnp.zeros((3, 3))
FREE_BITS = HP["world_model"]["free_bits"]


@partial(jax.jit, static_argnames="masked")
def terms(view, params=PARAMS, free_bits=FREE_BITS, masked=True):
    cfg = tiny_cfg(mask_episode_boundaries=masked)
    encoded = world_model.encode(params, view, NOISE.encode, cfg)
    return model_loss.terms(params, view, encoded, encoded.task_code, free_bits, cfg)


@jax.jit
def loss(params, batch, noise):
    return model_loss.loss(params, {}, batch, noise, HP, CFG, TASK_LOSSES)


def constant(bias):
    return {"kernel": jnp.zeros((8, 4)), "bias": jnp.full(4, bias)}


FLAT_PRIOR = PARAMS | {"prior": {"mean": constant(0.0), "logvar": constant(1.0)}}


def made_up_encoding():
    """Posterior N(1, 1); against the flat prior N(0, e): KL = D/2 [1 + 2/e - 1] per step."""
    ones, feats = jnp.ones((3, LENGTH, 4)), jnp.ones((3, LENGTH, 8))
    return world_model.Encoded(
        embedding=ones,
        post_mean=ones,
        post_logvar=0 * ones,
        latent=ones,
        feats=feats,
        task_code=jnp.ones((3, 3)),
    )


@jax.jit
def terms_of(encoded, view=VIEW):
    return model_loss.terms(PARAMS, view, encoded, CODE, FREE_BITS, CFG)


def check_kl():
    parts = model_loss.terms(FLAT_PRIOR, VIEW, made_up_encoding(), CODE, FREE_BITS, CFG)
    np.testing.assert_allclose(parts.kl_raw, 4 / np.e, rtol=1e-5)


def test_kl_by_hand():
    check_kl()


def test_kl_the_other_way_round_is_found(monkeypatch):
    right = gaussian.kl_elements
    monkeypatch.setattr(gaussian, "kl_elements", lambda mp, vp, mq, vq: right(mq, vq, mp, vp))
    with pytest.raises(AssertionError):
        check_kl()


def test_prior_at_t_meets_the_posterior_at_t_plus_1():
    encoded = made_up_encoding()
    late = jnp.arange(LENGTH)[None, :, None] == LENGTH - 1  # only the last prior differs
    changed = encoded._replace(feats=encoded.feats + 5 * late)
    np.testing.assert_array_equal(terms_of(changed).kl_raw, terms_of(encoded).kl_raw)
    early = encoded._replace(feats=encoded.feats + 5 * late[:, ::-1])
    assert terms_of(early).kl_raw != terms_of(encoded).kl_raw


def test_free_bits_apply_to_the_mean():
    few = terms(VIEW, free_bits=0.0)
    many = terms(VIEW, free_bits=1e3)
    assert few.kl_dyn == few.kl_rep == few.kl_raw == many.kl_raw
    assert many.kl_dyn == many.kl_rep == 1e3


def test_each_kl_moves_its_own_side():
    encoded = made_up_encoding()

    def kl(name, post_mean, feats):
        moved = encoded._replace(post_mean=post_mean, feats=feats)
        return getattr(model_loss.terms(PARAMS, VIEW, moved, CODE, FREE_BITS, CFG), name)

    for name, post_moves in (("kl_dyn", False), ("kl_rep", True)):
        grad = jax.grad(partial(kl, name), argnums=(0, 1))
        post, prior = grad(encoded.post_mean, encoded.feats)
        assert post.any() == post_moves
        assert prior.any() != post_moves


def free_bits(per, free_bits, post_mean):
    """KL_rep of posteriors N(post_mean [D], 1) against the prior N(0, 1), and its gradient."""
    cfg = tiny_cfg(free_bits_per=per)
    flat = PARAMS | {"prior": {"mean": constant(0.0), "logvar": constant(0.0)}}

    def kl_rep(post_mean):
        encoded = made_up_encoding()
        mean = jnp.broadcast_to(post_mean, encoded.post_mean.shape)
        encoded = encoded._replace(post_mean=mean, post_logvar=0 * mean)
        return model_loss.terms(flat, VIEW, encoded, CODE, free_bits, cfg).kl_rep

    return jax.value_and_grad(kl_rep)(jnp.array(post_mean))


def test_free_bits_by_hand():
    post_mean = [2.0, 1.0, 0.2, 0.0]  # KLs 2, 0.5, 0.02 and 0, together 2.52
    value, grad = free_bits("batch", 2.0, post_mean)
    np.testing.assert_allclose(value, 2.52, rtol=1e-5)
    np.testing.assert_allclose(grad, post_mean, rtol=1e-5)
    value, grad = free_bits("batch", 4.0, post_mean)
    np.testing.assert_allclose([value, *grad], [4, 0, 0, 0, 0])  # all learning stops
    value, grad = free_bits("element", 4.0, post_mean)  # 2 + 1 + 1 + 1
    np.testing.assert_allclose([value, *grad], [5, 2, 0, 0, 0], rtol=1e-5)
    value, grad = free_bits("element", 1.6, post_mean)  # 2 + .5 + .4 + .4
    np.testing.assert_allclose([value, *grad], [3.3, 2, 1, 0, 0], rtol=1e-5)


def test_a_variance_power_weighs_elements_and_gets_no_gradient():
    """An element of the likelihood has the weight exp(p v), which is as given."""
    v, power, cfg = np.array([-2.0, -1.0, 0.0, 1.0]), 0.5, tiny_cfg(variance_power=0.5)
    bounds = {"max_logvar": jnp.full(4, 30.0), "min_logvar": jnp.full(4, -30.0)}
    output = {"kernel": jnp.zeros((8, 8)), "bias": jnp.array([0, 0, 0, 0, *v])}

    @jax.jit
    @jax.value_and_grad
    def recon(output):
        decoder = PARAMS["decoder"] | bounds | {"output": output}
        params = PARAMS | {"decoder": decoder}
        found = model_loss.terms(params, VIEW, made_up_encoding(), CODE, FREE_BITS, cfg)
        return found.recon_nll

    value, grad = recon(output)
    x = np.concatenate([VIEW.obs, VIEW.prev_reward[..., None]], -1)
    weight, square = np.exp(power * v), np.mean(x**2, (0, 1))
    np.testing.assert_allclose(value, np.mean(weight * (square * np.exp(-v) + v)), rtol=1e-4)
    mean, logvar = np.split(grad["bias"], 2)
    np.testing.assert_allclose(mean, -weight * x.mean((0, 1)) * np.exp(-v) / 2, rtol=1e-3)
    np.testing.assert_allclose(logvar, weight * (1 - square * np.exp(-v)) / 4, rtol=1e-3)


@cache
def gradients():
    """Of every term, by one program."""
    return jax.jit(jax.jacrev(lambda params: terms(VIEW, params)))(PARAMS)


def reached(name):
    """The networks that the gradient of one term reaches."""
    grads = getattr(gradients(), name)
    return {net for net, tree in grads.items() if any(x.any() for x in jax.tree.leaves(tree))}


def test_gradients_reach_what_they_claim():
    assert reached("recon_nll") == {"encoder", "posterior", "decoder"}
    assert reached("recon_bounds") == {"decoder"}
    assert reached("termination") == {"encoder", "posterior", "core", "termination"}
    assert reached("kl_dyn") == {"encoder", "posterior", "core", "prior"}
    assert reached("kl_rep") == {"encoder", "posterior"}


def test_only_task_losses_reach_the_task_head():
    def head_grad(task_losses):
        grads, _ = jax.jit(
            jax.grad(
                lambda p: model_loss.loss(p, {}, BATCH, NOISE, HP, CFG, task_losses), has_aux=True
            )
        )(PARAMS)
        return np.abs(grads["core"]["task_head"]["kernel"]).max()

    assert head_grad({}) == 0
    assert head_grad(TASK_LOSSES) > 0


def test_mask_of_ones_equals_no_mask():
    np.testing.assert_allclose(terms(VIEW), terms(VIEW, masked=False), rtol=1e-6)


def test_padding_counts_nowhere():
    valid = jnp.broadcast_to(jnp.arange(LENGTH) < 4, (3, LENGTH))
    padded = VIEW._replace(valid=valid)
    other = jax.tree.map(
        lambda x, y: jnp.where(valid.reshape(3, LENGTH, *[1] * (x.ndim - 2)), x, y),
        *(
            v._replace(policy=valid, stage=valid)
            for v in (padded, jax.tree.map(lambda x: x[::-1], VIEW))
        ),
    )._replace(valid=valid, policy=VIEW.policy, stage=VIEW.stage)
    np.testing.assert_allclose(terms(padded), terms(other), rtol=1e-5)


def test_an_episode_boundary_has_no_kl_but_counts_elsewhere():
    boundary = jnp.broadcast_to(jnp.arange(LENGTH) == 2, (3, LENGTH))
    jump = boundary[..., None].astype(float)

    def kl(masked):
        encoded = made_up_encoding()
        encoded = encoded._replace(post_mean=encoded.post_mean + 100 * jump)
        view, cfg = VIEW._replace(first=boundary), tiny_cfg(mask_episode_boundaries=masked)
        return model_loss.terms(FLAT_PRIOR, view, encoded, CODE, FREE_BITS, cfg).kl_raw

    np.testing.assert_allclose(kl(True), 4 / np.e, rtol=1e-5)
    assert kl(False) > 100
    np.testing.assert_allclose(
        terms(VIEW._replace(first=boundary)).recon_nll, terms(VIEW).recon_nll, rtol=1e-6
    )


def test_first_step_of_the_window_may_be_a_first_step():
    first = jnp.broadcast_to(jnp.arange(LENGTH) == 0, (3, LENGTH))
    np.testing.assert_allclose(terms(VIEW._replace(first=first)), terms(VIEW), rtol=1e-6)


def test_two_views_are_averaged():
    batch = random_batch(jax.random.key(3), [0, 1, 2], ("context", "positive"))
    noise = model_loss.draw_noise(KEY, batch, CFG, TASK_LOSSES)
    _, both = loss(PARAMS, batch, noise)
    halves = []
    for i, name in enumerate(("context", "positive")):
        part = jax.tree.map(lambda x, i=i: x[3 * i : 3 * i + 3], noise)
        halves.append(loss(PARAMS, batch._replace(views={"context": batch.views[name]}), part)[1])
    for name in ("recon", "termination", "kl_raw"):
        np.testing.assert_allclose(both[name], (halves[0][name] + halves[1][name]) / 2, rtol=1e-5)


def test_total_is_the_weighted_sum_and_codes_are_those_of_encode():
    batch = random_batch(jax.random.key(3), [0, 1, 2], ("context", "positive"))
    own = {"recon_weight": 4.0, "dyn_weight": 2.0, "rep_weight": 3.0, "free_bits": 0.0}
    hp = {"world_model": own, "task_losses": {"distance": 5.0, "infonce": 7.0}}
    task_losses = {
        "distance": make_loss(distance, CFG, SPEC),
        "infonce": make_loss(infonce, CFG, SPEC),
    }
    noise = model_loss.draw_noise(KEY, batch, CFG, task_losses)
    total, m = jax.jit(lambda p: model_loss.loss(p, {}, batch, noise, hp, CFG, task_losses))(PARAMS)
    parts = (
        4 * m["recon"] + m["termination"] + 2 * m["kl_dyn"] + 3 * m["kl_rep"]
        + 5 * m["distance"] + 7 * m["infonce"]
    )  # fmt: skip
    np.testing.assert_allclose(total, parts, rtol=1e-5)
    _, codes = model_loss.encode_views(PARAMS, batch.views, noise.encode, CFG)
    posterior = noise.encode.posterior[3:]
    alone = world_model.encode_task(
        PARAMS, batch.views["positive"], world_model.EncodeNoise(posterior), CFG
    )
    np.testing.assert_allclose(codes["positive"].task, alone, atol=1e-5)


def test_metrics_are_scalars():
    total, metrics = loss(PARAMS, BATCH, NOISE)
    assert {"recon", "termination", "kl_dyn", "kl_rep", "kl_raw", "distance"} < set(metrics)
    assert metrics["model_loss"] == total
    assert all(x.shape == () for x in metrics.values())
