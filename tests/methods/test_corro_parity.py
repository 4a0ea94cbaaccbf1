"""CORRO's generator, contrast, pooling and agent against its authors' numbers."""

from functools import partial

import jax
import numpy as np
import pytest

import reference_params
from golden_npz import PRECISIONS, Recorded, file_of, gradient, traced, view_of
from metastar import config
from metastar.agents import sac
from metastar.data.rows import flatten, real_transitions
from metastar.losses import critic as critic_loss
from metastar.losses import transition_contrast as losses
from metastar.methods import corro
from metastar.methods.corro import AGENT, ENCODER, POOLING
from metastar.models.nets.actor_critic import Actor, Critic, greedy_action, sample_action
from metastar.ops import gaussian
from metastar.ops.contrastive import negatives_infonce, unit_length
from metastar.ops.optim import descend, make_optimizer
from metastar.types import Agent, Batch, DataSpec, Learner

pytestmark = pytest.mark.parity("baselines")
POOLING_NAMES = {"score/kernel": "score_func.weight", "score/bias": "score_func.bias"}
CRITICS = ("q1", "q2")


class Corro(Recorded):
    """The block, with our parts and the method's update of the agent in its place."""

    def __init__(self, bits, path):
        super().__init__("baselines", "corro", bits, path)
        cfg = {k.removeprefix("cfg/"): x for k, x in self.source.items() if k.startswith("cfg/")}
        self.cfg = {k: float(x) for k, x in cfg.items() if x.ndim == 0}
        self.hidden = {k: tuple(int(w) for w in x) for k, x in cfg.items() if x.ndim}
        # A softmax ignores its bias: what the file has is rounding.
        self.rounding = self.expected.pop("grad/rl/aggregator/score_func.bias")
        obs_dim, action_dim, code_dim = (int(cfg[name]) for name in ("S", "A", "d"))
        zeros = (0.0,) * obs_dim
        spec = DataSpec("fake", obs_dim, action_dim, 1, 9, 10, zeros, zeros)
        values = {
            "method": "corro",
            "encoder.mean_mlp.hidden": self.hidden["encoder_hidden"],
            "encoder.mean_mlp.code_dim": code_dim,
            "encoder.mean_mlp.inputs": "dynamics",
            "encoder.mean_mlp.bound": "none",
            "generator.hidden": self.hidden["cvae_hidden"],
            "generator.latent_dim": int(cfg["cvae_latent"]),
            "corro.temperature": self.cfg["temperature"],
            "corro.noise_std": self.cfg["reward_noise_std"],
            "corro.kl_weight": self.cfg["kl_weight"],
            **{f"corro.{part}_lr": self.cfg["lr"] for part in ("encoder", "generator", "pooling")},
            "agent.name": "sac",
            "agent.sac.hidden": self.hidden["net_hidden"],
            "agent.sac.lr": self.cfg["lr"],
            "agent.sac.gamma": self.cfg["discount"],
            "agent.sac.alpha": self.cfg["entropy_weight"],
            "agent.sac.tau": self.cfg["tau"],
        }
        built = config.build(values)
        config.validate(built)
        self.hp = jax.tree.map(np.asarray, config.swept(built))
        net = self.hidden["net_hidden"]
        self.nets = sac.Nets(Actor(net, action_dim), Critic(net))
        system = corro.bind(config.scope(built, "corro", corro), spec)
        self.system = system._replace(agent=self.agent())
        self.action_dim = action_dim

    def gate(self, rest):
        known = super().gate(rest)
        return self.rounding if known is None and rest.endswith("score_func.bias") else known

    def agent(self):
        """SAC under the recorded noise."""
        noise = sac.Noise(self.source["noise/next_action"], self.source["noise/actor"])

        def given(fn):
            return lambda learner, rows, key, hp, step: fn(learner, rows, noise, hp, self.nets)

        return Agent(None, given(sac.update), None, None, code_loss=given(sac.code_loss))

    def view(self, prefix, order=lambda x: x):
        at = {k.removeprefix(prefix): order(x) for k, x in self.source.items() if prefix in k}
        done = at.get("terminals")
        return view_of(at["obs"], at["actions"], at["rewards"], at["next_obs"], done)

    def names(self, net):
        if net == "aggregator":
            return POOLING_NAMES
        find = reference_params.actor_names if net == "policy" else reference_params.critic_names
        sizes = {"encoder": "encoder_hidden", "cvae": "cvae_hidden"}
        return find(len(self.hidden[sizes.get(net.split("_")[0], "net_hidden")]))

    def ours(self, net):
        dim = self.action_dim if net.startswith("q") else None
        return reference_params.from_reference(self.names(net), self.params(f"param/{net}/"), dim)

    def theirs(self, head, net, params):
        flat = reference_params.to_reference(self.names(net), params)
        return {f"{head}/{net}/{name}": x for name, x in flat.items()}

    def start(self):
        stack = lambda *names: jax.tree.map(lambda *x: np.stack(x), *map(self.ours, names))  # noqa: E731
        return {
            "encoder": self.ours("encoder"),
            "generator": {k: self.ours(f"cvae_{k}") for k in ("encoder", "decoder")},
            "aggregator": self.ours("aggregator"),
            "policy": self.ours("policy"),
            "q": stack(*CRITICS),
            "q_target": stack("q1_target", "q2_target"),
        }

    def results(self):
        def run(start):
            return {
                **self.of_generator(start["generator"]),
                **self.of_contrast("generative", start),
                **self.of_contrast("reward_randomize", start),
                **self.of_agent(start),
                **self.of_probe(start["policy"]),
            }

        return traced(run, self.start())

    def moved(self, params, grads):
        optimizer = make_optimizer()
        return descend(optimizer, params, optimizer.init(params), self.cfg["lr"], grads)[0]

    def of_generator(self, params):
        view, noise, model = self.view("in/cvae_"), self.source["noise/cvae"], self.system.generator
        weight = self.cfg["kl_weight"]
        (total, parts), grads = jax.value_and_grad(losses.generator_loss, has_aux=True)(
            params, view, noise, weight, model
        )
        mean, logvar = model.encode(params, view.obs, view.action, view.reward, view.next_obs)
        sample = gaussian.sample(mean, logvar, noise)
        reward, next_obs = model.decode(params, view.obs, view.action, sample)
        out = {
            **{"mean": mean, "logvar": logvar, "sample": sample},
            **{"reward": reward, "next_obs": next_obs, "loss_total": total},
            "kl_each": gaussian.kl(mean, logvar, 0 * mean, 0 * mean),
            "kl": parts["generator_kl"],
            "loss_next_obs": parts["generator_next_obs"],
            "loss_reward": parts["generator_reward"],
        }
        actual = {f"out/cvae/{name}": x for name, x in out.items()}
        after = self.moved(params, grads)
        for kind, tree in (("grad", grads), ("after", after)):
            for net in ("encoder", "decoder"):
                actual |= self.theirs(kind, f"cvae_{net}", tree[net])
        return actual

    def of_contrast(self, case, start):
        query, key = self.view("in/query_"), self.view("in/key_")
        num = int(self.cfg["negatives"])
        if case == "generative":
            noise = self.source["noise/negatives"].reshape(len(query.reward), num, -1)
            negative = losses.generated(start["generator"], query, noise, self.system.generator)
        else:
            noise = self.source["noise/reward"][..., 0]
            negative = losses.noised(query, noise, self.cfg["reward_noise_std"])
        pair = jax.tree.map(lambda a, b: np.stack([a, b], 1) if a.ndim else a, query, key)
        encode = lambda params, view: corro.each_of(self.system, params, view, None)  # noqa: E731
        loss = partial(losses.contrast, encode=encode)
        (value, _), grads = jax.value_and_grad(loss, has_aux=True)(
            start["encoder"], pair, negative, self.cfg["temperature"]
        )
        coded = [unit_length(encode(start["encoder"], x)) for x in (query, key, negative)]
        _, logits = negatives_infonce(*coded, self.cfg["temperature"])
        out = dict(zip(("query_code", "key_code", "negative_code"), coded))
        out |= {"negative_reward": negative.reward, "negative_next_obs": negative.next_obs}
        out |= {"logits": logits, "infonce": value}
        actual = {f"out/{case}/{name}": x for name, x in out.items()}
        actual |= self.theirs(f"grad/{case}", "encoder", grads)
        return actual | self.theirs(f"after/{case}", "encoder", self.moved(start["encoder"], grads))

    def of_agent(self, start):
        batch = Batch(
            None,
            None,
            {
                "context": self.view("in/context_", lambda x: x.swapaxes(0, 1)),
                "real": self.view("in/batch/"),
            },
        )
        params = {"actor": start["policy"], "critic": start["q"]}
        optimizer, pooling = make_optimizer(), start["aggregator"]
        opt_state = {name: optimizer.init(own) for name, own in params.items()}
        state = {
            ENCODER: Learner(start["encoder"]),
            POOLING: Learner(pooling, opt_state=optimizer.init(pooling)),
            AGENT: Learner(params, {"critic": start["q_target"]}, opt_state),
        }
        end, metrics = corro.learn(self.system, state, batch, jax.random.key(0), self.hp, 0)
        of_q = gradient(end[AGENT].opt_state["critic"])
        actual = self.inside(state, batch)
        actual["out/rl/policy_loss"] = metrics["actor_loss"]
        one = lambda tree, i: jax.tree.map(lambda x: x[i], tree)  # noqa: E731
        after = end[AGENT]
        for i, net in enumerate(CRITICS):
            actual |= self.theirs("grad/rl", net, one(of_q, i))
            actual |= self.theirs("after/rl", net, one(after.params["critic"], i))
            actual |= self.theirs("after/rl", f"{net}_target", one(after.target["critic"], i))
        for kind, policy, pooled in (
            ("grad/rl", gradient(after.opt_state["actor"]), gradient(end[POOLING].opt_state)),
            ("after/rl", after.params["actor"], end[POOLING].params),
        ):
            actual |= self.theirs(kind, "policy", policy)
            actual |= self.theirs(kind, "aggregator", pooled)
        return actual

    def inside(self, state, batch):
        """What the update computes on its way."""
        system, agent, context = self.system, state[AGENT], batch.views["context"]
        each = corro.encode(system, state[ENCODER].params, context, None)
        pooling = {"params": state[POOLING].params}
        code, attention = system.pooling.apply(pooling, each, context.valid)
        noise = sac.Noise(self.source["noise/next_action"], self.source["noise/actor"])
        own = self.hp["agent"]["sac"]

        def terms(code):
            rows = flatten(real_transitions(batch, code))
            rated = sac.rated(agent, rows, noise, own, self.nets)
            rated = rated._replace(target=jax.lax.stop_gradient(rated.target))
            return critic_loss.terms(agent.params["critic"], rated, 0.0, self.nets.critic), rated

        found, rated = terms(code)
        of_code = jax.jacrev(lambda code: terms(code)[0].td)(code)
        rows = flatten(real_transitions(batch, code))
        act = partial(sample_action, self.nets.actor, agent.params["actor"])
        _, log_std = self.nets.actor.apply({"params": agent.params["actor"]}, rows.obs_code)
        next_action, next_log_prob = act(rows.next_obs_code, noise.next_action)
        action, log_prob = act(rows.obs_code, noise.action)
        out = {
            **{"context_code": each, "attention": attention, "z": code},
            **{"next_action": next_action, "next_log_prob": next_log_prob},
            **{"actor_action": action, "actor_log_prob": log_prob, "actor_log_std": log_std},
            "q_target": rated.target,
            **{f"{net}_pred": found.q[i] for i, net in enumerate(CRITICS)},
            **{f"{net}_loss": found.td[i] for i, net in enumerate(CRITICS)},
        }
        actual = {f"out/rl/{name}": x for name, x in out.items()}
        return actual | {f"grad/rl/z_from_{net}": of_code[i] for i, net in enumerate(CRITICS)}

    def of_probe(self, policy):
        obs = self.source["in/probe_obs"]
        mean, log_std = self.nets.actor.apply({"params": policy}, obs)
        out = {"mean": mean, "log_std": log_std}
        out["action_deterministic"] = greedy_action(self.nets.actor, policy, obs)
        return {f"out/probe/{name}": x for name, x in out.items()}


@pytest.fixture(scope="module", params=PRECISIONS)
def recorded(request):
    with jax.enable_x64(request.param == 64):
        yield Corro(request.param, file_of("baselines", request.config))


def test_every_recorded_number(recorded):
    actual = recorded.results()
    for bias in (actual.pop("grad/rl/aggregator/score_func.bias"), recorded.rounding):
        assert np.abs(bias).max() < 1e-6
    assert not recorded.misses(actual)
