"""An agent in one file: it imitates the actions of the data, given the code. It knows no values."""

import jax.numpy as jnp

from metastar.config import Field
from metastar.models.nets.mlp import MLP
from metastar.ops.optim import gradient_step, make_optimizer
from metastar.types import Agent, Learner, RowSpec

KIND = "agent"
DEFAULTS = {
    "hidden": Field((64, 64), "[1, inf)", "widths of the hidden layers"),
    "lr": Field(1e-3, "(0, 1]", "learning rate", swept=True, decays=True),
    "exploration_noise": Field(0.1, "[0, inf)", "of drawn actions, in units of their range"),
}


def make(cfg, rows: RowSpec) -> Agent:
    """`pi(s, z) = tanh(net(s, z))`, by squared errors."""
    net = MLP(cfg.hidden, rows.action_dim)

    def mean(params, obs_code):
        return jnp.tanh(net.apply({"params": params}, obs_code))

    def loss(params, batch):
        error = jnp.mean((mean(params, batch.obs_code) - batch.action) ** 2)
        return error, {"clone_error": error}

    optimizer = make_optimizer()
    descend = gradient_step(loss, optimizer)

    def init(key, size):
        params = net.init(key, jnp.zeros(size))["params"]
        return Learner(params, opt_state=optimizer.init(params))

    def update(learner, batch, key, hp, step):
        params, opt_state, metrics = descend(learner.params, learner.opt_state, hp["lr"], batch)
        return learner._replace(params=params, opt_state=opt_state), metrics

    def act(params, obs_code, noise, greedy):
        action = mean(params, obs_code) + cfg.exploration_noise * jnp.where(greedy, 0, noise)
        return jnp.clip(action, -1, 1)

    return Agent(init, update, export=lambda learner: learner.params, act=act)
