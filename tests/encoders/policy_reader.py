"""A method whose code is the place seen in the context, beside `leak` times the policy's index.

Its task model expects next states at the place, and is led astray by a leak.
"""

import jax
import jax.numpy as jnp

from metastar.config import Field
from metastar.types import Adaptation, Context, Learner, Method, Policy, TaskModel

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

    def next_obs(params, obs, action, code):
        return code[:, :2] + code[:, 2:]

    def reward(params, obs, action, next_obs, code):
        return jnp.zeros(len(code))

    def export(state):
        return state["encoder"].params

    model = TaskModel(next_obs, reward, likelihood_std=1.0, next_obs_std=(0.1, 0.1))
    policy = Policy(lambda params, adaptation: (), None)
    return Method(init, (), export, infer, policy, Context(cfg.context_len), task_model=model)
