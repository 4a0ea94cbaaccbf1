"""A method that compiles at once, for tests of the benchmark: one matrix product a part."""

import jax
import jax.numpy as jnp

from metastar.config import Field
from metastar.types import Adaptation, Batch, Context, Learner, Method, Phase, Policy

KIND = "method"
DEFAULTS = {
    "lr": Field(0.1, "(0, 1]", "step size", swept=True),
    "context_len": Field(12, "[1, inf)", "windows that its evaluation draws"),
}
ROWS, FEATURES = 6, 5
UPDATE_FLOPS = 2 * ROWS * FEATURES * 1  # x [6, 5] times w [5, 1]


def make(cfg, spec) -> Method:
    def init(key):
        return {"line": Learner({"w": jax.random.normal(key, (FEATURES, 1))})}

    def sample(data, key, step):
        x = jax.random.normal(jax.random.fold_in(key, step), (ROWS, FEATURES))
        return Batch(jnp.zeros(1, int), {}, {"x": x + data.obs[0, 0, 0]})

    def update(state, batch, key, hp, step):
        weight = state["line"].params["w"]
        value = (batch.views["x"] @ weight).mean() + jax.random.normal(key)
        moved = {"w": weight - hp["bench_method"]["lr"] * value}
        return {"line": Learner(moved)}, {"loss": value}

    def infer(params, view, task, key):
        return Adaptation(view.obs[0, :3].reshape(1, -1)[:, :FEATURES] @ params["w"])

    def act(params, adaptation, carry, step, key, greedy):
        return jnp.tanh(adaptation.code[0]) * jnp.ones(spec.action_dim), carry

    return Method(
        init=init,
        phases=(Phase("joint", 10, sample, update),),
        export=lambda state: state["line"].params,
        context=Context(cfg.context_len),
        infer=infer,
        policy=Policy(lambda params, adaptation: (), act),
    )
