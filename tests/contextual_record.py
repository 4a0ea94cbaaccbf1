"""The method `contextual` on a block of recorded numbers: its batch, noise and state as stored."""

import jax
import numpy as np

from golden_npz import Recorded, view_of
from metastar import config
from metastar.methods import contextual
from metastar.methods.contextual import ENCODER, NET, OPPONENTS, TASK_LOSSES
from metastar.models.acting import AGENT
from metastar.ops.optim import make_optimizer
from metastar.types import Agent, DataSpec, Learner

KEY = jax.random.key(0)


class ContextualRecord(Recorded):
    """A block, with whole updates of the method in place of the original's."""

    def __init__(self, name, bits, path):
        super().__init__("baselines", name, bits, path)
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
        rewards = at.get("rewards", np.zeros_like(at["obs"][..., :1]))
        done = at.get("terminals")
        return view_of(at["obs"], at["actions"], rewards, at.get("next_obs"), done)

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
        hp = jax.tree.map(np.asarray, config.swept(cfg))
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


def opponents_of(params, apart=False):
    """A learner of opponents before their first step; networks `apart` have their own optimiser."""
    init = make_optimizer().init
    states = {
        name: {net: init(own[net]) for net in own} if apart else init(own)
        for name, own in params.items()
    }
    return Learner(params, opt_state=states)
