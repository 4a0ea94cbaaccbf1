"""The public losses lower for every kind of accelerator, on any machine."""

import jax
import jax.numpy as jnp
import pytest

from metastar import registry
from metastar.losses import critic as critic_loss
from metastar.losses import world_model as model_loss
from metastar.losses.critic import SampledActions
from metastar.models.nets.actor_critic import Critic, init_twin_critic
from metastar.ops.optim import gradient_step, make_optimizer
from model_helpers import AGENT_HP, HP, SPEC, as_codes, make_loss, random_batch, tiny_cfg

PLATFORMS = ("cpu", "cuda", "tpu")
CFG = tiny_cfg()
KEY = jax.random.key(0)


def lower(fn, *args):
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(jnp.shape(x), jnp.result_type(x)), args)
    exported = jax.export.export(jax.jit(fn), platforms=PLATFORMS)(*shapes)
    assert exported.platforms == PLATFORMS
    return exported


def test_world_model_step():
    names = ("distance", "infonce")
    task_losses = {n: make_loss(registry.find("task loss", n), CFG, SPEC) for n in names}
    params = model_loss.init(KEY, CFG, SPEC, task_losses)
    batch = random_batch(KEY, [0, 1, 1], ("context", "positive"))
    noise = model_loss.draw_noise(KEY, batch, CFG, task_losses)
    optimizer = make_optimizer(CFG.world_model.clip_norm)

    def loss(params, batch, noise, hp):
        return model_loss.loss(params, {}, batch, noise, hp, CFG, task_losses)

    step = gradient_step(loss, optimizer)
    lower(step, params, optimizer.init(params), 1e-3, batch, noise, HP)


@pytest.mark.parametrize("name", registry.names("task loss"))
def test_task_loss(name):
    spec = SPEC._replace(num_policies=2, num_behaviors=2)
    task_loss = make_loss(registry.find("task loss", name), CFG, spec)
    batch = random_batch(KEY, [0, 1, 2, 3], ("context", "positive"))
    params, noise = task_loss.init(KEY), task_loss.draw_noise(KEY, batch)
    if task_loss.opponent:
        params = params | task_loss.opponent.init(KEY)

    def loss(params, codes, batch, noise):
        return task_loss.loss(params, codes, batch, noise, {})[0]

    codes = as_codes(**{view: jnp.ones((4, 3)) for view in task_loss.views})
    lower(jax.grad(loss, argnums=(0, 1)), params, codes, batch, noise)


def test_conservative_critic_loss():
    critic = Critic((8, 8))
    params = init_twin_critic(KEY, critic, 3, 2)
    batch = critic_loss.CriticBatch(
        obs_code=jnp.ones((5, 3)),
        action=jnp.ones((5, 2)),
        target=jnp.ones(5),
        real=jnp.ones(5, bool),
        samples=SampledActions(
            obs_code=jnp.ones((5, 3)),
            action=jnp.ones((5, 6, 2)),
            log_density=jnp.ones((5, 6)),
            pick=jnp.ones((5, 2)) / 2,
        ),
    )
    loss = lambda params, batch, beta: critic_loss.loss(params, batch, beta, critic, 2)[0]  # noqa: E731
    lower(jax.grad(loss), params, batch, AGENT_HP["beta"])
