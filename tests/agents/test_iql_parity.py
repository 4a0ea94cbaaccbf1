"""One update of implicit Q-learning against numbers recorded from SPC's authors' code.

Its networks are layers with LayerNorm and Mish, which enter the update that training calls as
functions of their parameters.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from golden_npz import PRECISIONS, Recorded, file_of, gradient, traced
from metastar.agents import iql as agent
from metastar.data.rows import Transitions
from metastar.losses import iql
from metastar.models.nets.actor_forms import bounded, normal_log_prob
from metastar.ops.optim import make_optimizer
from metastar.types import Learner

pytestmark = pytest.mark.parity("spc")
GROUPS = {"value": "v", "critic": "q", "actor": "pi"}


def net(params, x):
    """Linear, LayerNorm, Mish; the last layer linear alone. Parameters of one member."""
    last = max(int(name.split(".")[0]) for name in params)
    for i in range(last + 1):
        x = x @ params[f"{i}.weight"].T + jnp.expand_dims(params[f"{i}.bias"], range(x.ndim - 1))
        if i < last:
            x = (x - x.mean(-1, keepdims=True)) / jnp.sqrt(x.var(-1, keepdims=True) + 1e-5)
            x = x * params[f"{i}.ln.weight"][None] + params[f"{i}.ln.bias"][None]
            x = x * jnp.tanh(jax.nn.softplus(x))
    return x


class Spc(Recorded):
    """The block, with our update in its place."""

    grad_error = 2e-4

    def __init__(self, bits, path):
        super().__init__("spc", "iql", bits, path)
        self.cfg = {k.removeprefix("cfg/"): x for k, x in self.source.items() if "cfg/" in k}
        latent, next_latent, action, reward, done, z = (
            self.source[f"in/iql/{name}"]
            for name in ("latent", "next_latent", "act", "rew", "done", "z")
        )
        self.num = latent.shape[-1]
        self.rows = Transitions(
            obs_code=np.concatenate([latent, z], -1),
            action=action,
            reward=reward[:, 0],
            next_obs_code=np.concatenate([next_latent, z], -1),
            done=done[:, 0] > 0.5,
            real=done[:, 0] >= 0,
        )
        self.nets = agent.Nets(self.v_fn, self.q_fn, self.log_prob)
        groups = {**GROUPS, "target": "q_target"}
        self.start = {name: self.params(f"param/{group}/") for name, group in groups.items()}
        rates = {"value": "critic_lr", "critic": "critic_lr", "actor": "actor_lr"}
        self.hp = {
            "gamma": self.cfg["discount"],
            "expectile": self.cfg["expectile"],
            "inverse_temperature": self.cfg["temperature"],
            "clip": self.cfg["exp_clip"],
            "tau": self.cfg["tau"],
            "actor_average": 0.0,
            **{f"{name}_lr": self.cfg[rate] for name, rate in rates.items()},
        }

    def v_fn(self, params, obs_code):
        return net(params, obs_code)[..., 0]

    def q_fn(self, params, obs_code, action):
        latent, z = obs_code[:, : self.num], obs_code[:, self.num :]
        joined = jnp.concatenate([latent, action, z], -1)
        return jax.vmap(net, (0, None))(params, joined)[..., 0]

    def actor(self, params, obs_code):
        head = jnp.split(net(params, obs_code), 2, -1)
        return bounded(*head, self.cfg["log_std_min"], self.cfg["log_std_max"])

    def log_prob(self, params, obs_code, action):
        return normal_log_prob(*self.actor(params, obs_code), action)

    def learner(self, start):
        """The first state, of parameters that are given."""
        params, init = {name: start[name] for name in GROUPS}, make_optimizer().init
        opt_state = {name: init(own) for name, own in params.items()}
        return Learner(params, {"critic": start["target"]}, opt_state, {"actor": params["actor"]})

    def results(self):
        return traced(self.computed, self.start, self.rows)

    def computed(self, start, rows):
        old, hp, at = self.learner(start), self.hp, (rows.obs_code, rows.action)
        learner, metrics = agent.update(old, rows, hp, self.nets, "previous")
        q_target = self.q_fn(old.target["critic"], *at)
        q = q_target.min(0)
        v, next_v = (
            self.v_fn(start["value"], at[0]),
            self.v_fn(learner.params["value"], rows.next_obs_code),
        )
        target = iql.critic_target(rows.reward, rows.done, hp["gamma"], next_v)
        weight = iql.advantage_weight(q - v, hp["inverse_temperature"], hp["clip"])
        mean, log_std = self.actor(start["actor"], at[0])
        out = {
            "actor_head": net(start["actor"], at[0]),
            "log_prob": self.log_prob(start["actor"], *at),
            "log_std": log_std,
            "mean": mean,
            "loss_pi": metrics["actor_loss"],
            "loss_q": metrics["critic_loss"],
            "loss_v": metrics["value_loss"],
            "next_v": next_v,
            "q": self.q_fn(start["critic"], *at),
            "q_backup": target,
            "q_min": q,
            "q_target_net": q_target,
            "v": v,
            "weight": weight,
            "weight_raw": iql.advantage_weight(q - v, hp["inverse_temperature"], jnp.inf),
        }
        actual = {f"out/iql/{name}": x for name, x in out.items()}
        for name, group in GROUPS.items():
            grad = gradient(learner.opt_state[name])
            actual |= {f"grad/iql/{group}/{k}": x for k, x in grad.items()}
            actual |= {f"after/iql/{group}/{k}": x for k, x in learner.params[name].items()}
        moved = learner.target["critic"]
        return actual | {f"after/iql/q_target/{k}": x for k, x in moved.items()}


@pytest.fixture(scope="module", params=PRECISIONS)
def spc(request):
    with jax.enable_x64(request.param == 64):
        yield Spc(request.param, file_of("spc", request.config))


def test_every_recorded_number(spc):
    assert not spc.misses(spc.results())


def test_an_advantage_under_the_updated_value_is_found(spc):
    def loss(start, rows):
        _, found = agent.update(spc.learner(start), rows, spc.hp, spc.nets, "updated")
        return {name: found[f"{name}_loss"] for name in GROUPS}

    found, recorded = traced(loss, spc.start, spc.rows), spc.expected
    miss = {k: abs(x - recorded[f"out/iql/loss_{GROUPS[k]}"]) for k, x in found.items()}
    assert miss["actor"] > 1e-3 and max(miss["value"], miss["critic"]) < 1e-5
