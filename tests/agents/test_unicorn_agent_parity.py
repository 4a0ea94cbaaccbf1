"""The pieces of BRAC and SAC, put together as UNICORN's agent on Ant-Dir, against its numbers.

Its divergence is a constant in the critics' targets, in place of the entropy. The house has no such
agent; the losses, targets and steps are those that its agents are made of.
"""

from functools import partial

import jax
import numpy as np
import pytest

import reference_params
from golden_npz import PRECISIONS, Recorded, file_of, gradient, traced
from metastar.losses import actor as actor_loss
from metastar.losses import brac
from metastar.losses import critic as critic_loss
from metastar.models.nets.actor_critic import Actor, Critic, sample_action, twin_q
from metastar.ops.optim import descend, gradient_step, make_optimizer
from metastar.ops.td import polyak, soft_target

pytestmark = pytest.mark.parity("baselines")


class UnicornAgent(Recorded):
    """The part `rl` of the block, put together from our losses."""

    def __init__(self, bits, path):
        super().__init__("baselines", "unicorn_agent", bits, path)
        cfg = {k.removeprefix("cfg/"): x for k, x in self.source.items() if k.startswith("cfg/")}
        self.cfg = {k: float(x) for k, x in cfg.items() if x.ndim == 0}
        hidden = tuple(int(x) for x in cfg["net_hidden"])
        self.action_dim, self.num = int(cfg["A"]), len(hidden)
        self.actor, self.critic = Actor(hidden, self.action_dim), Critic(hidden)

    def rows(self, k):
        """obs_code, action, reward, next_obs_code and terminal of a batch, flattened task first."""
        at = lambda name: self.source[f"in/rl_batch{k}/{name}"]  # noqa: E731
        z = self.source["in/rl_z"][:, None]
        z = np.broadcast_to(z, (*at("obs").shape[:2], z.shape[-1]))
        joined = [np.concatenate([at(name), z], -1) for name in ("obs", "next_obs")]
        arrays = joined[0], at("actions"), at("rewards"), joined[1], at("terminals") > 0.5
        obs, action, reward, after, done = (x.reshape(-1, x.shape[-1]) for x in arrays)
        return obs, action, reward[:, 0], after, done[:, 0]

    def names(self, net):
        find = reference_params.actor_names if net == "policy" else reference_params.critic_names
        return find(self.num)

    def ours(self, net):
        dim = None if net == "policy" else self.action_dim
        arrays = self.params(f"param/{net}/")
        return reference_params.from_reference(self.names(net), arrays, dim)

    def theirs(self, head, net, params):
        flat = reference_params.to_reference(self.names(net), params)
        return {f"{head}/{net}/{name}": x for name, x in flat.items()}

    def start(self):
        stack = lambda *names: jax.tree.map(lambda *x: np.stack(x), *map(self.ours, names))  # noqa: E731
        return {
            "policy": self.ours("policy"),
            "c": self.ours("c"),
            "q": stack("q1", "q2"),
            "q_target": stack("q1_target", "q2_target"),
        }

    def results(self):
        num = int(self.cfg["c_iter"])
        rows = jax.tree.map(lambda *x: np.stack(x), *(self.rows(k) for k in range(num)))
        return traced(self.computed, self.start(), rows)

    def computed(self, old, rows):
        noise = lambda name: self.source[f"noise/{name}"]  # noqa: E731
        act = partial(sample_action, self.actor, old["policy"])
        dual_fn = lambda params, *args: self.critic.apply({"params": params}, *args)  # noqa: E731
        optimizer, out, actual = make_optimizer(), {}, {}
        obs, action, reward, after, done = (x[0] for x in rows)
        paid = brac.divergence(
            partial(dual_fn, old["c"]), obs, action, act(obs, noise("policy0"))[0]
        )

        def dual_step(moving, rows_and_noise):
            (at, data, *_), policy, mix = rows_and_noise
            places = brac.Places(at, data, act(at, policy)[0], mix)
            loss = partial(brac.dual_loss, penalty="value", dual_fn=dual_fn)
            args = places, self.cfg["penalty_weight"]
            (value, parts), grad = jax.value_and_grad(loss, has_aux=True)(moving[0], *args)
            seen = {"loss": value, "penalty": parts["gradient_penalty"]}
            seen["div"] = brac.divergence(partial(dual_fn, moving[0]), *places[:3])
            return descend(optimizer, *moving, self.cfg["c_lr"], grad), (seen, grad)

        steps = range(int(self.cfg["c_iter"]))
        drawn = [np.stack([noise(f"{name}{k}") for k in steps]) for name in ("policy", "penalty")]
        start = old["c"], optimizer.init(old["c"])
        (c, _), found = jax.lax.scan(dual_step, start, (rows, *drawn))
        for k in steps:
            seen, grad = jax.tree.map(lambda x, k=k: x[k], found)
            out |= {f"c_{name}{k}": x for name, x in seen.items()}
            flat = reference_params.to_reference(self.names("c"), grad)
            actual |= {f"grad/rl/c_step{k}/{name}": x for name, x in flat.items()}

        next_action, _ = act(after, noise("next_action"))
        next_q = twin_q(self.critic, old["q_target"], after, next_action).min(0)
        price = self.cfg["divergence_weight"]
        y = soft_target(reward, done, self.cfg["discount"], next_q, price, paid)
        batch = critic_loss.CriticBatch(obs, action, y, done)
        parts = critic_loss.terms(old["q"], batch, 0.0, self.critic)
        step = gradient_step(partial(critic_loss.loss, critic=self.critic), optimizer)
        q, moved, _ = step(old["q"], optimizer.init(old["q"]), self.cfg["lr"], batch, 0.0)
        of_q, target = gradient(moved), polyak(q, old["q_target"], self.cfg["tau"])

        rest = obs, noise("actor"), 1.0, self.actor, partial(twin_q, self.critic, q)
        policy, moved, found = gradient_step(actor_loss.loss, optimizer)(
            old["policy"], optimizer.init(old["policy"]), self.cfg["lr"], *rest
        )
        of_policy = gradient(moved)
        drawn, log_prob = act(obs, noise("actor"))
        out |= {
            "div": paid,
            "next_action": next_action,
            "q_target": y,
            "q1_pred": parts.q[0],
            "q2_pred": parts.q[1],
            "q1_loss": parts.td[0],
            "q2_loss": parts.td[1],
            "actor_action": drawn,
            "actor_log_prob": log_prob,
            "policy_loss": found["actor_loss"] + price * paid.mean(),
        }
        actual |= {f"out/rl/{name}": x for name, x in out.items()}
        one = lambda tree, i: jax.tree.map(lambda x: x[i], tree)  # noqa: E731
        for i in (0, 1):
            actual |= self.theirs("grad/rl", f"q{i + 1}", one(of_q, i))
            actual |= self.theirs("after/rl", f"q{i + 1}", one(q, i))
            actual |= self.theirs("after/rl", f"q{i + 1}_target", one(target, i))
        actual |= self.theirs("grad/rl", "policy", of_policy)
        return actual | self.theirs("after/rl", "policy", policy) | self.theirs("after/rl", "c", c)


@pytest.fixture(scope="module", params=PRECISIONS)
def recorded(request):
    with jax.enable_x64(request.param == 64):
        yield UnicornAgent(request.param, file_of("baselines", request.config))


def test_every_recorded_number(recorded):
    assert not recorded.misses(recorded.results())
