"""An adversary that predicts the source from the code, *given the task*."""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from metastar.config.fields import COUNT, RATE, Field, Like
from metastar.losses.sources import expect_sources, source_of
from metastar.models.nets.mlp import MLP
from metastar.types import DataSpec, Opponent, TaskLoss

DEFAULTS = {
    "width": Field(
        Like("world_model.width", fallback=128), COUNT, "of each classifier's two hidden layers"
    ),
    "lr": Field(
        1e-4, RATE, "learning rate of the classifiers", swept=True, decays=True, before=1e-4
    ),
    "inner_steps": Field(1, COUNT, "steps of the opponent in an update", before=1),
}


def make(cfg: Any, spec: DataSpec, code_dim: int) -> TaskLoss:
    """`KL(q(b | m) || q(b | z, m))`: what the code z adds to the task m in predicting the source b.

    The opponent is two classifiers of the window's source (policy, stage), trained by
    cross-entropy: one sees code and task, one the task alone. The code is trained against both, to
    add nothing. The loss is zero for every code that is independent of the source given the task,
    whatever the shares of the sources in a task, so that only information about the source is
    removed and none about the task. After Ganin et al. 2016 (JMLR 17); conditioning as in Zhao et
    al. 2017 (ICML, "Learning sleep stages from radio signals"). `adversary_information` is the
    difference of the two cross-entropies: an estimate of I(b; Z | M) in nats, as good as the
    classifiers fit.

    Raises `UserError` if the data have one source only.
    """
    num = expect_sources(spec, "task_losses.adversary")
    sizes = {"task": spec.num_tasks, "code": spec.num_tasks + code_dim}
    nets = {name: MLP((cfg.width,) * 2, num) for name in sizes}

    def init(key):
        keys = jax.random.split(key, len(nets))
        return {
            name: net.init(k, jnp.zeros((1, sizes[name])))["params"]
            for k, (name, net) in zip(keys, nets.items())
        }

    def logits(params, codes, batch):
        """Logits [V M, sources] of every window, given the task alone and given code and task."""
        code = jnp.concatenate([code.task for code in codes.values()])
        task = jnp.concatenate([jax.nn.one_hot(batch.task_id, spec.num_tasks)] * len(codes))
        seen = {"task": task, "code": jnp.concatenate([task, code], -1)}
        return tuple(nets[name].apply({"params": params[name]}, seen[name]) for name in nets)

    def fit(params, codes, batch, noise):
        source = jnp.concatenate([source_of(batch.views[name], spec) for name in codes])
        without, with_code = (
            optax.softmax_cross_entropy_with_integer_labels(x, source).mean()
            for x in logits(params, codes, batch)
        )
        return with_code + without, {"adversary_information": without - with_code}

    def loss(params, codes, batch, noise, hp):
        prior, seen = map(jax.nn.log_softmax, logits(params, codes, batch))
        expected = jnp.exp(prior)
        divergence = jnp.sum(expected * (jnp.log(expected + 1e-8) - seen), -1).mean()
        return divergence, {"adversary_kl": divergence}

    opponent = Opponent(init, fit, inner_steps=cfg.inner_steps)
    return TaskLoss(("context",), loss, opponent=opponent, by_source=True)
