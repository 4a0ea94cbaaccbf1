"""A data set and a method with a known, cheap update, so that the trainer is tested alone."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax

import make_config
from metastar.data import layout
from metastar.data.sampler import sample_transitions
from metastar.training import workdir
from metastar.training.runs import Run
from metastar.types import Batch, Context, DataSpec, Learner, Method, Phase, TaskData


def make_data(num_tasks=3, episodes=4, steps=5, obs_dim=2, seed=0) -> TaskData:
    rng = np.random.default_rng(seed)
    shape = (num_tasks, episodes, steps)
    zeros = np.zeros((num_tasks, episodes), np.int32)
    blocks = {
        "obs": rng.normal(size=(num_tasks, episodes, steps + 1, obs_dim)).astype(np.float32),
        "action": rng.uniform(-1, 1, (*shape, 1)).astype(np.float32),
        "reward": rng.normal(size=shape).astype(np.float32),
        "done": np.zeros(shape, bool),
        "length": zeros + steps,
        "policy": zeros,
        "stage": zeros,
    }
    task = {"goal": rng.normal(size=(num_tasks, 2)).astype(np.float32)}
    return jax.tree.map(np.asarray, layout.from_blocks(blocks, task))


def make_cfg(**train):
    cfg = make_config.base()
    settings = {"chunk": 4, "validate_every": 3, "eval_every": 10, "checkpoint_every": 8}
    cfg.train.update({**settings, **train})
    return cfg


SPEC = DataSpec("point_robot", 2, 1, 2, 3, 5, (0.0, 0.0), (1.0, 1.0))


def claimed(run: Run) -> Run:
    """Writes what `fit` expects in the workdir of a run, unless it is there; returns the run."""
    with workdir.opened(run.cfg, run.workdir) as path:
        workdir.write_spec(path, SPEC)
    return run


def make_method(pretrain=10, updates=14, nan_at=None, grow=0, batch_size=8) -> Method:
    """Linear regression of the reward, with noise from the key: twice, as two phases.

    `nan_at` makes the metric "error" NaN in that update, and leaves the rest alone.
    """
    optimizer = optax.inject_hyperparams(optax.adam)(learning_rate=1e-2)

    def init(key):
        params = {"w": jax.random.normal(key, (2,)), "b": jnp.zeros(())}
        extra = {"average": params, "big": jnp.zeros(grow)} if grow else {"average": params}
        return {"line": Learner(params, params, optimizer.init(params), extra)}

    def sample(data, key, step):
        task_id = (jnp.arange(2) + step) % data.count.shape[0]
        key = jax.random.fold_in(key, step)
        view = sample_transitions(data, task_id, key, batch_size)
        task = jax.tree.map(lambda x: x[task_id], data.task)
        return Batch(task_id, task, {"real": view})

    def loss(params, batch, noise):
        view = batch.views["real"]
        error = view.obs @ params["w"] + params["b"] + 0.1 * noise - view.reward
        return (error**2).mean()

    def update(start, state, batch, key, hp, step):
        line = state["line"]
        noise = jax.random.normal(key, batch.views["real"].reward.shape)
        value, grads = jax.value_and_grad(loss)(line.params, batch, noise)
        moves, adam = optimizer.update(grads, line.opt_state, line.params)
        params = optax.apply_updates(line.params, jax.tree.map(lambda x: hp["scale"] * x, moves))
        average = jax.tree.map(lambda a, p: 0.9 * a + 0.1 * p, line.extra["average"], params)
        line = line._replace(
            params=params, opt_state=adam, extra={**line.extra, "average": average}
        )
        bad = start + step == (-2 if nan_at is None else nan_at)
        return {"line": line}, {"loss": value, "error": jnp.where(bad, jnp.nan, value)}

    def validate(state, batch, key, hp):
        del key, hp
        return loss(state["line"].params, batch, jnp.zeros(batch.views["real"].reward.shape))

    return Method(
        hp={"scale": 1.0},
        init=init,
        phases=(
            Phase("pretrain", pretrain, sample, partial(update, 0), validate),
            Phase("joint", updates, sample, partial(update, pretrain)),
        ),
        export=lambda state: state["line"].params,
        context=Context(1),
        infer=None,
        policy=None,
    )
