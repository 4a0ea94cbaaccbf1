"""A method whose code is the place seen in the context, beside `leak` times the policy's index."""

import jax
import jax.numpy as jnp

from metastar.config import Field
from metastar.types import Adaptation, Context, Learner, Method

KIND = "method"
DEFAULTS = {"context_len": Field(12, "[1, inf)", "windows that it reads")}


def make(cfg, spec):
    def init(key):
        return {"encoder": Learner({"leak": jnp.zeros(()), "scale": jnp.ones(())})}

    def infer(params, view, task, key):
        context = jax.tree.map(lambda x: x[0], view)
        weight = context.valid / jnp.maximum(context.valid.sum(), 1)
        place = (context.obs * weight[:, None]).sum(0)
        code = jnp.append(place, params["leak"] * context.policy)
        return Adaptation(params["scale"] * code)

    context = Context(cfg.context_len)
    return Method(init, (), lambda state: state["encoder"].params, infer, None, context)
