"""An adversary that reads the source off the code, *given the task*."""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from metastar.losses.sources import expect_sources, source_of
from metastar.models.nets.mlp import MLP
from metastar.types import DataSpec, TaskLoss

DEFAULTS = {}
READS = ("world_model",)


def make(cfg: Any, spec: DataSpec) -> TaskLoss:
    """`KL(q(b | m) || q(b | z, m))`: what the code adds to the task m in telling the source b.

    Two classifiers of the window's (policy, stage) are trained by cross-entropy on stopped codes,
    one that sees code and task and one that sees the task alone. The code is trained against both,
    with their parameters stopped, to add nothing. Zero for every code that is independent of the
    source given the task, whatever the shares of the sources in a task, so that only
    information about the source is removed and none about the task. After Ganin et al. 2016
    (JMLR 17); conditioning as in Zhao et al. 2017 (ICML, "Learning sleep stages from radio
    signals"). `adversary_information` = difference of the two cross-entropies, an estimate of
    I(b; Z | M) in nats that the adversary's fit bounds from below.

    Raises `UserError` if the data have one source only.
    """
    num = expect_sources(spec, "task_losses.adversary")
    width = cfg.world_model.width
    sizes = {"task": spec.num_tasks, "code": spec.num_tasks + cfg.world_model.code_dim}
    nets = {name: MLP((width, width), num) for name in sizes}
    stop = jax.lax.stop_gradient

    def init(key):
        keys = jax.random.split(key, len(nets))
        return {
            name: net.init(k, jnp.zeros((1, sizes[name])))["params"]
            for k, (name, net) in zip(keys, nets.items())
        }

    def loss(params, codes, batch, noise):
        code = jnp.concatenate(list(codes.values()))
        task = jnp.concatenate([jax.nn.one_hot(batch.task_id, spec.num_tasks)] * len(codes))
        source = jnp.concatenate([source_of(batch.views[name], spec) for name in codes])

        def logits(name, params, *inputs):
            return nets[name].apply({"params": params[name]}, jnp.concatenate(inputs, -1))

        def cross_entropy(x):
            return optax.softmax_cross_entropy_with_integer_labels(x, source).mean()

        prior = logits("task", params, task)
        with_code = cross_entropy(logits("code", params, task, stop(code)))
        without = cross_entropy(prior)
        seen = jax.nn.log_softmax(logits("code", stop(params), task, code))
        expected = jax.nn.softmax(stop(prior))
        divergence = jnp.sum(expected * (jnp.log(expected + 1e-8) - seen), -1).mean()
        metrics = {"adversary_kl": divergence, "adversary_information": without - with_code}
        return divergence + with_code + without, metrics

    return TaskLoss(views=("context",), loss=loss, init=init)
