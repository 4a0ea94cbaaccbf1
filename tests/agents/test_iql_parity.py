"""One update of implicit Q-learning against numbers recorded from SPC's authors' code.

Its networks are layers with LayerNorm and Mish, which enter the update that training calls as
functions of their parameters.
"""

from functools import partial

import jax
import jax.numpy as jnp
import pytest

from golden_npz import Recorded
from metastar.agents import iql as agent
from metastar.data.rows import Transitions
from metastar.losses import iql
from metastar.models.nets.actor_forms import bounded, normal_log_prob
from metastar.ops.optim import make_optimizer
from metastar.types import Learner

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

    def __init__(self, bits):
        super().__init__("spc_step.npz", "", bits)
        self.expected = {k: x for k, x in self.expected.items() if "/iql/" in k}
        self.cfg = {k.removeprefix("cfg/"): x for k, x in self.source.items() if "cfg/" in k}
        latent, next_latent, action, reward, done, z = (
            self.source[f"in/iql/{name}"]
            for name in ("latent", "next_latent", "act", "rew", "done", "z")
        )
        self.num = latent.shape[-1]
        self.rows = Transitions(
            obs_code=jnp.concatenate([latent, z], -1),
            action=action,
            reward=reward[:, 0],
            next_obs_code=jnp.concatenate([next_latent, z], -1),
            done=done[:, 0] > 0.5,
            real=done[:, 0] >= 0,
        )
        self.nets = agent.Nets(self.v_fn, self.q_fn, self.log_prob)
        params = {name: self.params(f"param/{group}/") for name, group in GROUPS.items()}
        optimizer = make_optimizer()
        self.learner = Learner(
            params=params,
            target={"critic": self.params("param/q_target/")},
            opt_state={name: optimizer.init(params[name]) for name in params},
            extra={"actor": params["actor"]},
        )
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

    def results(self, advantage_value="previous"):
        return jax.jit(partial(self.computed, advantage_value=advantage_value))(self.learner)

    def computed(self, old, advantage_value):
        rows, hp, start = self.rows, self.hp, old.params
        at = rows.obs_code, rows.action
        learner, metrics = agent.update(old, rows, hp, self.nets, advantage_value)
        q_target = self.q_fn(old.target["critic"], *at)
        q = q_target.min(0)
        v, next_v = (
            self.v_fn(start["value"], at[0]),
            self.v_fn(learner.params["value"], rows.next_obs_code),
        )
        target = iql.critic_target(rows.reward, rows.done, hp["gamma"], next_v)
        weight = iql.advantage_weight(q - v, hp["inverse_temperature"], hp["clip"])
        mean, log_std = self.actor(start["actor"], at[0])
        grads = {
            "value": jax.grad(iql.value_loss, has_aux=True)(
                start["value"], at[0], q, hp["expectile"], self.v_fn
            ),
            "critic": jax.grad(iql.critic_loss, has_aux=True)(
                start["critic"], *at, target, self.q_fn
            ),
            "actor": jax.grad(iql.actor_loss, has_aux=True)(
                start["actor"], *at, weight, self.log_prob
            ),
        }
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
            grad, _ = grads[name]
            actual |= {f"grad/iql/{group}/{k}": x for k, x in grad.items()}
            actual |= {f"after/iql/{group}/{k}": x for k, x in learner.params[name].items()}
        moved = learner.target["critic"]
        return actual | {f"after/iql/q_target/{k}": x for k, x in moved.items()}


FLOATS = [
    pytest.param(32, id="float32", marks=pytest.mark.slow),
    pytest.param(64, id="float64"),
]


@pytest.fixture(scope="module", params=FLOATS)
def spc(request):
    with jax.enable_x64(request.param == 64):
        yield Spc(request.param)


def test_every_recorded_number(spc):
    assert not spc.misses(spc.results(), grad_error=2e-4)


def test_an_advantage_under_the_updated_value_is_found(spc):
    wrong = spc.misses(spc.results("updated"), grad_error=2e-4)
    assert any("loss_pi" in line for line in wrong)
    assert not any("/v/" in line or "/q/" in line for line in wrong)
