"""The method `contextual` on a block of recorded numbers: its batch, noise and state as stored."""

import jax
import jax.numpy as jnp
import optax

from golden_npz import Recorded
from metastar import config
from metastar.methods import contextual
from metastar.methods.contextual import ENCODER, NET, OPPONENTS, TASK_LOSSES
from metastar.models.acting import AGENT
from metastar.types import Agent, DataSpec, Learner
from model_helpers import random_view

KEY = jax.random.key(0)


class ContextualRecord(Recorded):
    """A block, with whole updates of the method in place of the original's."""

    def __init__(self, block, bits):
        super().__init__("baselines_step.npz", f"{block}/", bits)
        cfg = {k.removeprefix("cfg/"): x for k, x in self.source.items() if k.startswith("cfg/")}
        self.cfg = {k: float(x) for k, x in cfg.items() if x.ndim == 0}
        self.hidden = {k: tuple(int(w) for w in x) for k, x in cfg.items() if x.ndim}
        self.obs_dim, self.action_dim, self.code_dim = (int(cfg[name]) for name in ("S", "A", "d"))
        zeros = (0.0,) * self.obs_dim
        num_tasks = int(cfg.get("n_train_tasks", 9))
        self.spec = DataSpec(
            "fake", self.obs_dim, self.action_dim, 1, num_tasks, 10, zeros, zeros, 1.0
        )

    def view(self, prefix, order=lambda x: x):
        """A view of arrays of the file; `order` puts the axis over tasks first."""
        at = {k.removeprefix(prefix): order(x) for k, x in self.source.items() if prefix in k}
        shape = at["obs"].shape[:2]
        view = random_view(KEY, *shape)._replace(obs=at["obs"], action=at["actions"])
        reward = at.get("rewards", jnp.zeros((*shape, 1)))[..., 0].astype(at["obs"].dtype)
        done = at.get("terminals", jnp.zeros((*shape, 1)))[..., 0] > 0.5
        return view._replace(
            reward=reward,
            prev_reward=0 * reward,
            next_obs=at.get("next_obs", at["obs"]),
            done=done,
        )

    def bind(self, **values):
        """A system whose encoder has the block's sizes, under an agent that learns nothing."""
        values = {path.replace("__", "."): x for path, x in values.items()}
        cfg = config.build(
            {
                "method": "contextual",
                "encoder.mean_mlp.hidden": self.hidden["encoder_hidden"],
                "encoder.mean_mlp.code_dim": self.code_dim,
                "contextual.encoder_lr": self.cfg.get("context_lr", self.cfg.get("lr")),
                "sampler.windows": 1,
                **values,
            }
        )
        config.validate(cfg)
        hp = jax.tree.map(jnp.asarray, config.swept(cfg))
        system = contextual.bind(config.scope(cfg, "contextual", contextual), self.spec)
        watcher = Agent(None, lambda learner, rows, *rest: (learner, {}), None, None)
        return system._replace(agent=watcher), hp

    def state(self, system, net, networks, opponents):
        """The first state, of parameters that are given."""
        params = {NET: net, TASK_LOSSES: networks}
        state = {
            ENCODER: Learner(params, opt_state=system.optimizer.init(params)),
            AGENT: Learner({}),
        }
        if opponents is not None:
            state[OPPONENTS] = opponents
        return state


def gradient(learner):
    """The gradient of the first step, from Adam's first moment."""
    moment = optax.tree_utils.tree_get(learner.opt_state, "mu")
    return jax.tree.map(lambda m: m / (1 - 0.9), moment)
