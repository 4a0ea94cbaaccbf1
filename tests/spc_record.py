"""SPC's parts and its update in place of those of its authors, whose numbers are recorded."""

from copy import copy
from functools import cached_property, partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import FrozenConfigDict

import make_config
import reference_params
from golden_npz import Recorded
from metastar import config
from metastar.agents import iql as agent
from metastar.losses import iql
from metastar.losses import latent_dynamics as model_loss
from metastar.methods import spc
from metastar.models import latent_dynamics
from metastar.models.encoders import mean_mlp
from metastar.models.nets.actor_critic import Critic, twin_q
from metastar.models.nets.actor_forms import GaussianActor, normal_draw, normal_log_prob
from metastar.models.nets.mlp import MLP, hidden_layers, mish
from metastar.ops import memory_infonce
from metastar.ops.contrastive import distance_terms
from metastar.ops.optim import descend, make_optimizer
from metastar.ops.quantize import codebook, fsq
from metastar.types import Agent, Batch, Context, DataSpec, Learner
from model_helpers import random_view

KEY = jax.random.key(0)
MODEL_PARTS = {"encoder": "enc", "dynamics": "dyn", "reward": "rew"}
AGENT_PARTS = {"value": "v", "critic": "q", "actor": "pi"}
FULL = ("continuous_mse", "simnorm_mse")  # kinds with a whole recorded step


class Probe(nn.Module):
    """One hidden layer."""

    @nn.compact
    def __call__(self, x):
        return hidden_layers(x, (x.shape[-1],), "norm_mish")


class Spc(Recorded):
    """Everything but the block of IQL alone, which `agents/test_iql_parity.py` has."""

    after_error = 1e-6

    def __init__(self, bits, path="spc_step.npz"):
        super().__init__(path, "", bits)
        skipped = ("host/", "split/", "task/")
        self.gates = {k: x for k, x in self.source.items() if k.startswith("gate/")}
        self.source = {k: x for k, x in self.source.items() if not k.startswith(skipped)}
        self.expected = {k: x for k, x in self.expected.items() if "/iql/" not in k}
        self.cfg = {
            k.removeprefix("cfg/"): x.tolist() for k, x in self.source.items() if "cfg/" in k
        }
        cfg = self.cfg
        zeros = (0.0,) * cfg["S"]
        self.spec = DataSpec("fake", cfg["S"], cfg["A"], 1, cfg["n"], 10, zeros, zeros)
        self.names = {
            name: reference_params.norm_names(cfg[f"{depth}_hidden_depth"])
            for name, depth in {
                **{"enc": "enc", "dyn": "model", "rew": "model", "ctx": "context"},
                **{"v": "q", "q": "q", "pi": "actor", "enc_target": "enc", "q_target": "q"},
            }.items()
        }
        self.hp = {
            "spc": {
                "encoder_lr": cfg["context_enc_lr"],
                "infonce_weight": cfg["infonce_weight"],
                "infonce_tau": cfg["infonce_tau"],
                "infonce_radius": cfg["infonce_radius"],
            },
            "world_model": {
                "lr": cfg["model_lr"],
                "tau": cfg["tau"],
                "rho": cfg["rho"],
                "consistency_weight": cfg["consistency_coef"],
                "reward_weight": cfg["reward_coef"],
            },
            "agent": {
                "iql": {
                    "gamma": cfg["discount"],
                    "expectile": cfg["expectile"],
                    "inverse_temperature": cfg["temperature"],
                    "clip": cfg["exp_clip"],
                    "tau": cfg["tau"],
                    "actor_average": 0.0,
                    "actor_lr": cfg["actor_lr"],
                    "value_lr": cfg["critic_lr"],
                    "critic_lr": cfg["critic_lr"],
                }
            },
        }

    def gate(self, rest):
        kind, _, inner = rest.partition("/")
        recorded = {**self.gates, **self.expected}
        keys = (f"gate/{rest}", f"grad/{rest}", f"grad/{kind}_full/{inner}")
        return next((recorded[key] for key in keys if key in recorded), None)

    # Parameters in both layouts.

    def start(self, group, head="param", names=None):
        """Our parameters of a group of the file."""
        arrays = {k: np.asarray(x) for k, x in self.params(f"{head}/{group}/").items()}
        names = names or self.names[group]
        if group == "rew":  # an ensemble of one
            arrays = {k: x[0] for k, x in arrays.items()}
        if group == "pi":  # means, then log standard deviations
            last = f"{self.cfg['actor_hidden_depth']}"
            for kind in ("weight", "bias"):
                mean, log_std = np.split(arrays.pop(f"{last}.{kind}"), 2)
                arrays |= {f"mean.{kind}": mean, f"log_std.{kind}": log_std}
            names = self.actor_names()
        if group in ("q", "q_target"):
            made = [self.critic_from({k: x[i] for k, x in arrays.items()}, names) for i in range(2)]
            return jax.tree.map(lambda *x: jnp.stack(x), *made)
        return reference_params.from_reference(names, arrays)

    def actor_names(self):
        depth = self.cfg["actor_hidden_depth"]
        names = dict(list(reference_params.norm_names(depth).items())[2:])
        heads = ("mean", "log_std")
        return names | {
            f"{h}/{ours}": f"{h}.{theirs}"
            for h in heads
            for ours, theirs in {"kernel": "weight", "bias": "bias"}.items()
        }

    def critic_from(self, arrays, names):
        """The file joins latent, action, code; our critic latent, code, and the action apart."""
        weight, size = arrays["0.weight"], self.size
        end = size + self.cfg["A"]
        parts = weight[:, :size], weight[:, end:], weight[:, size:end]
        arrays = {**arrays, "0.weight": np.concatenate(parts, 1)}
        return reference_params.from_reference(names, arrays, self.cfg["A"])

    def named(self, head, group, params):
        """Our parameters under the names of the file."""
        if group in ("q", "q_target"):
            each = [self.critic_named(jax.tree.map(lambda x: x[i], params)) for i in range(2)]  # noqa: B023
            flat = {k: jnp.stack([one[k] for one in each]) for k in each[0]}
        elif group == "pi":
            flat = reference_params.to_reference(self.actor_names(), params)
            for kind in ("weight", "bias"):
                heads = [flat.pop(f"{h}.{kind}") for h in ("mean", "log_std")]
                flat[f"{self.cfg['actor_hidden_depth']}.{kind}"] = jnp.concatenate(heads)
        else:
            flat = reference_params.to_reference(self.names[group], params)
        return {f"{head}/{group}/{k}": x for k, x in flat.items()}

    def critic_named(self, params):
        flat = reference_params.to_reference(self.names["q"], params)
        weight, size, num = flat["0.weight"], self.size, self.cfg["A"]
        parts = weight[:, :size], weight[:, -num:], weight[:, size:-num]
        return flat | {"0.weight": jnp.concatenate(parts, 1)}

    # The system.

    @property
    def size(self):
        return self.cfg["groups"] * len(self.cfg["fsq_levels"])

    def encoder(self, **changes):
        cfg = self.cfg
        own = {name: field.value for name, field in mean_mlp.DEFAULTS.items()}
        own |= {
            "hidden": (cfg["context_hidden_dims"],) * cfg["context_hidden_depth"],
            "code_dim": cfg["z"],
            "layers": "norm_mish",
            "inputs": "dynamics" if cfg["next_obs_in_context"] else "reward",
        }
        return mean_mlp.make(FrozenConfigDict(own | changes), self.spec)

    def model_cfg(self, kind):
        cfg = self.cfg
        own = {name: field.value for name, field in latent_dynamics.DEFAULTS.items()}
        return FrozenConfigDict(
            own
            | {
                "kind": kind,
                "groups": cfg["groups"],
                "levels": tuple(cfg["fsq_levels"]),
                "matched_width": False,
                "simplex": cfg["simnorm_dim"],
                "encoder_hidden": (cfg["enc_hidden_dim"],) * cfg["enc_hidden_depth"],
                "hidden": (cfg["model_hidden_dim"],) * cfg["model_hidden_depth"],
            }
        )

    def model(self, kind="discrete_ce", noise=None):
        model = latent_dynamics.make(self.model_cfg(kind), self.spec, self.cfg["z"])
        return model._replace(draw_noise=lambda key, shape: noise)

    def nets(self):
        cfg = self.cfg
        hidden = (cfg["q_hidden_dim"],) * cfg["q_hidden_depth"]
        value, critic = MLP(hidden, 1, layers="norm_mish"), Critic(hidden, "norm_mish")

        def log_prob(params, obs_code, action):
            return normal_log_prob(*self.actor(params, obs_code), action)

        return agent.Nets(
            lambda params, x: value.apply({"params": params}, x)[..., 0],
            lambda params, x, action: twin_q(critic, params, x, action),
            log_prob,
        )

    def actor(self, params, obs_code):
        cfg = self.cfg
        hidden = (cfg["actor_hidden_dim"],) * cfg["actor_hidden_depth"]
        bounds = cfg["log_std_min"], cfg["log_std_max"]
        net = GaussianActor(hidden, cfg["A"], *bounds, layers="norm_mish")
        return net.apply({"params": params}, obs_code)

    def system(self, kind="discrete_ce", noise=None, repeated="mean"):
        cfg = config.change(
            make_config.preset("spc", "point_robot_sparse", "paper"), {"spc.repeated": repeated}
        )
        nets, identity = self.nets(), lambda x: x
        ours = Agent(
            init=None,
            update=lambda learner, rows, key, hp, step: agent.update(
                learner, rows, hp, nets, "previous"
            ),
            export=None,
            act=None,
        )
        return spc.System(
            cfg=config.scope(FrozenConfigDict(cfg), "spc", spc),
            spec=self.spec,
            encoder=self.encoder(),
            model=self.model(kind, noise),
            task_losses={},
            agent=ours,
            context=Context(self.cfg["C"], ordered=False),
            views=("context",),
            optimizer=make_optimizer(),
            model_optimizer=make_optimizer(weight_decay=self.cfg["model_weight_decay"]),
            whiten=identity,
            whiten_view=identity,
        )

    def world(self, head="param"):
        return {name: self.start(group, head) for name, group in MODEL_PARTS.items()}

    def state(self, head="param"):
        """The first state; `head` is "param" or "param/cont"."""
        world, net = self.world(head), {"net": self.start("ctx"), "task_losses": {}}
        target = {"encoder": self.start("enc_target", head)}
        params = {name: self.start(group) for name, group in AGENT_PARTS.items()}
        adam, adamw = make_optimizer(), make_optimizer(weight_decay=1.0)
        return {
            "world_model": Learner(world, target, adamw.init(world)),
            "encoder": Learner(net, (), adam.init(net), {"memory": self.source["in/step/memory"]}),
            "agent": Learner(
                params,
                {"critic": self.start("q_target")},
                {name: adam.init(params[name]) for name in params},
                {"actor": params["actor"]},
            ),
        }

    def context(self):
        at = lambda name: self.source[f"in/step/ctx_{name}"]  # noqa: E731
        template = random_view(KEY, *at("obs").shape[:2])
        return template._replace(
            obs=at("obs"), action=at("act"), reward=at("rew")[..., 0], next_obs=at("next_obs")
        )

    def sequence(self):
        at = lambda name: self.source[f"in/step/{name}"]  # noqa: E731
        shape = at("obs").shape[:3]
        template = jax.tree.map(lambda x: x[None], random_view(KEY, shape[0] * shape[1], shape[2]))
        valid = jnp.ones(shape, bool)
        return template._replace(
            obs=at("obs"),
            action=at("act"),
            reward=at("rew")[..., 0],
            next_obs=at("next_obs"),
            done=at("done")[..., 0] > 0.5,
            valid=valid,
        )

    def batch(self, ids="task_ids"):
        views = {"context": self.context(), "sequence": self.sequence()}
        return Batch(self.source[f"in/step/{ids}"], None, views)

    def noise(self, name):
        """Recorded as [H, M * B, G, K]."""
        x = self.source[f"noise/{name}"]
        return jnp.moveaxis(x.reshape(x.shape[0], self.cfg["M"], self.cfg["B"], *x.shape[2:]), 0, 2)

    # Blocks: {key of the file: our array}.

    def of_context(self):
        view, weight = self.context(), self.source["in/ctx/w"]

        def run(params, alternative):
            encode = self.encoder().encode
            codes = encode(params, view, None)
            none = encode(params, view._replace(valid=view.valid & False), None)
            at = lambda name: jnp.moveaxis(self.source[f"in/grow/{name}"], 0, 1)  # noqa: E731
            few = random_view(KEY, self.cfg["M"], at("obs").shape[1])._replace(
                obs=at("obs"), action=at("act"), reward=at("rew"), next_obs=at("next_obs")
            )
            steps = jnp.arange(at("obs").shape[1])[None]
            grown = [
                encode(params, few._replace(valid=few.valid & (steps <= k)), None).task
                for k in range(steps.size)
            ]
            inputs = "reward" if self.cfg["next_obs_in_context"] else "dynamics"
            alt = self.encoder(inputs=inputs).encode(alternative, view, None).task

            def long(params):
                code = self.encoder(unit_length=True).encode(params, view, None).task
                return (weight * code).sum(), code

            grad, z_l2 = jax.grad(long, has_aux=True)(params)
            out = {
                "out/ctx/per_transition": codes.each,
                "out/ctx/z": codes.task,
                "out/ctx/z_rows": jnp.repeat(codes.task, self.cfg["B"], 0),
                "out/ctx/z_prior": none.task,
                "out/ctx/z_l2": z_l2,
                "out/ctx_alt/z": alt,
                "out/grow/z": jnp.stack(grown),
            }
            return out, grad

        start = self.start("ctx"), self.start("ctx_alt", names=self.names["ctx"])
        out, grad = jax.jit(run)(*start)
        return out | self.named("grad/ctx_l2", "ctx", grad)

    def of_parts(self):
        """Quantiser, one layer, policy."""
        return jax.jit(self.parts)()

    def parts(self):
        out, source = {}, self.source
        for case in "abc":
            levels = tuple(source[f"in/fsq/{case}_levels"].tolist())

            def weighted(x, levels=levels, case=case):
                codes, index = fsq(x, levels)
                return (source[f"in/fsq/{case}_w"] * codes).sum(), (codes, index)

            grad, (codes, index) = jax.grad(weighted, has_aux=True)(source[f"in/fsq/{case}_x"])
            out |= {
                f"out/fsq/{case}_codes": codes,
                f"out/fsq/{case}_idx": index,
                f"out/fsq/{case}_codebook": codebook(levels),
                f"grad/fsq/{case}_x": grad,
            }
        x, points, p = source["in/probe/x"], source["in/probe/mish"], self.params("param/probe/")
        params = {
            "hidden_0": {"kernel": p["weight"].T, "bias": p["bias"]},
            "hidden_0_norm": {"scale": p["ln.weight"], "bias": p["ln.bias"]},
        }
        layer = partial(Probe().apply, {"params": params})
        out |= {
            "out/probe/y": layer(x),
            "out/probe/mish": mish(points),
            "grad/probe/x": jax.grad(lambda x: layer(x).sum())(x),
            "grad/probe/mish": jax.grad(lambda x: mish(x).sum())(points),
        }
        at = jnp.concatenate([source["in/policy/latent"], source["in/policy/z"]], -1)
        mean, log_std = self.actor(self.start("pi"), at)
        each = (v[..., None] for v in (mean, log_std, source["in/policy/act"]))
        out |= {
            "out/policy/mean": mean,
            "out/policy/log_std": log_std,
            "out/policy/log_prob": normal_log_prob(*each),
        }
        model, obs = self.model(), source["in/act/obs"]
        latent = model.encode(self.start("enc"), obs)
        mean, log_std = self.actor(
            self.start("pi"), jnp.concatenate([latent, source["in/act/z"]], -1)
        )
        noise = source["noise/act/normal"]
        return out | {
            "out/act/latent": latent,
            "out/act/idx": model.target(self.start("enc"), obs),
            "out/act/mean": mean,
            "out/act/log_std": log_std,
            "out/act/greedy": normal_draw(mean, log_std, 0 * noise),
            "out/act/sampled": normal_draw(mean, log_std, noise),
        }

    def of_contrasts(self):
        """InfoNCE with a memory, and FOCAL, on given codes."""
        return jax.jit(self.contrasts)()

    def contrasts(self):
        out, at = {}, lambda name: self.source[f"in/nce/{name}"]
        tau, radius = self.cfg["infonce_tau"], self.cfg["infonce_radius"]
        for case, name, repeated in (
            ("a", "a", "mean"),
            ("b", "b_last", "last"),
            ("b", "b_mean", "mean"),
            ("c", "c", "mean"),
        ):
            code, ids, memory = at(f"{case}_z"), at(f"{case}_ids"), at(f"{case}_memory")
            grad, new = jax.grad(memory_infonce.infonce, has_aux=True)(
                code, ids, memory, tau, radius, repeated
            )
            loss, _ = memory_infonce.infonce(code, ids, memory, tau, radius, repeated)
            current = memory_infonce.put(code, ids, memory, repeated)
            out |= {
                f"out/nce/{name}_loss": loss,
                f"out/nce/{name}_memory": new,
                f"out/nce/{name}_distance": memory_infonce.distances(current, new),
            }
            if case != "c":
                out[f"grad/nce/{name}_z"] = grad
        for case in "abc":
            code, ids = (self.source[f"in/focal/{case}_{name}"] for name in ("z", "ids"))
            grad, loss = jax.grad(focal, has_aux=True)(code, ids)
            out |= {f"out/focal/{case}_loss": loss, f"grad/focal/{case}_z": grad}
        return out

    def losses_of(self, model, params, code, head, noise, **weights):
        """Gradients of the world model's loss and its metrics, its weights changed."""
        hp, sequence = {**self.hp["world_model"], **weights}, self.sequence()
        target = model.target(self.start("enc_target", head), sequence.next_obs)
        return jax.grad(model_loss.loss, (0, 1), has_aux=True)(
            params, code, target, sequence, noise, hp, model, True
        )

    def of_kind(self, kind):
        """A world model of another kind: one rollout, its losses and gradients."""
        model, params = self.model(kind), self.world("param/cont")
        view = self.sequence()
        target = model.target(self.start("enc_target", "param/cont"), view.next_obs)

        def run(params, net):
            code, pull = self.coded(net)
            (grad, of_code), found = self.losses_of(model, params, code, "param/cont", None)
            extra = self.by_objective(code, self.source["in/step/task_ids_distinct"], "mean")
            latents, _ = rollouts(model, params, code, view, None)
            return latents, grad, of_code, found, pull(of_code + extra)[0]

        latents, grad, of_code, found, of_net = jax.jit(run)(params, self.start("ctx"))
        out = {
            f"out/{kind}/latents": by_time(latents),
            f"out/{kind}/target": by_time(target),
            f"out/{kind}/loss_tc": found["consistency_loss"],
            f"out/{kind}/loss_rew": found["reward_loss"],
            f"grad/{kind}/z": of_code,
        }
        for name, group in MODEL_PARTS.items():
            out |= self.named(f"grad/{kind}", group, grad[name])
        if kind not in FULL:
            return out
        new, _ = self.represented(kind, None, "param/cont", "task_ids_distinct")
        return {
            **out,
            **self.after_model(f"after/{kind}", new),
            **self.named(f"after/{kind}", "ctx", new["encoder"].params["net"]),
            **self.named(f"grad/{kind}_full", "ctx", of_net),
        }

    def coded(self, net):
        """The codes of the contexts, and the pull of a gradient in them."""
        return jax.vjp(lambda net: self.encoder().encode(net, self.context(), None).task, net)

    def by_objective(self, code, ids, objective):
        """The gradient in the codes of a weighted objective: "mean", "last" or "focal"."""
        own = self.hp["spc"]
        if objective == "focal":
            return self.cfg["focal_weight"] * jax.grad(focal, has_aux=True)(code, ids)[0]
        memory = self.source["in/step/memory"], own["infonce_tau"], own["infonce_radius"]
        grad, _ = jax.grad(memory_infonce.infonce, has_aux=True)(code, ids, *memory, objective)
        return own["infonce_weight"] * grad

    @cached_property
    def update(self):
        """The update that training makes: (state, batch, noise, step) -> (state, metrics)."""
        return jax.jit(
            lambda state, batch, noise, step: spc.update(
                self.system(noise=noise), state, batch, KEY, self.hp, step
            )
        )

    def represented(self, kind, noise, head, ids, repeated="mean"):
        """The state after an update in which the agent stands still."""
        system = self.system(kind, noise, repeated)
        still = lambda learner, rows, key, hp, step: (learner, {})  # noqa: E731
        system = system._replace(agent=system.agent._replace(update=still))
        state, batch = self.state(head), self.batch(ids)
        return jax.jit(lambda: spc.update(system, state, batch, KEY, self.hp, 0))()

    def after_model(self, head, state):
        out = self.named(head, "enc_target", state["world_model"].target["encoder"])
        for name, group in MODEL_PARTS.items():
            out |= self.named(head, group, state["world_model"].params[name])
        return out

    def after_agent(self, head, state):
        out = self.named(head, "q_target", state["agent"].target["critic"])
        for name, group in AGENT_PARTS.items():
            out |= self.named(head, group, state["agent"].params[name])
        return out

    def of_step(self):
        """Rollout, losses, their separate gradients, and one whole update."""
        model, view, noise = self.model(), self.sequence(), self.noise("step/gumbel")
        params, net = self.world(), self.start("ctx")
        alone, objectives = ("tc", "rew", "whole"), ("mean", "last", "focal")
        ids, hp = self.source["in/step/task_ids"], self.hp["world_model"]
        weights = jnp.array([[1, 0, hp["consistency_weight"]], [0, 1, hp["reward_weight"]]])

        def run(params, net):
            code, pull = self.coded(net)
            latents, logits = rollouts(model, params, code, view, noise)
            target = model.target(self.start("enc_target"), view.next_obs)

            def losses(consistency, reward):
                weights = {"consistency_weight": consistency, "reward_weight": reward}
                return self.losses_of(model, params, code, "param", noise, **weights)

            (grads, of_code), found = jax.vmap(losses)(*weights)
            found = jax.tree.map(lambda x: x[0], found)
            of_code = dict(zip(alone, of_code))
            extra = {name: self.by_objective(code, ids, name) for name in objectives}
            total = {name: of_code["whole"] + grad for name, grad in extra.items()}
            pulled = {name: pull(grad)[0] for name, grad in {**of_code, **total}.items()}
            joined = model.reward(params, latents[:, :, :-1], view.action, code[:, None, None])
            out = {
                "z": code,
                "codes": by_time(latents),
                "idx0": by_time(model.target(params["encoder"], view.obs))[0],
                "logits": by_time(logits),
                "target_idx": by_time(target),
                "online_next_idx": by_time(model.target(params["encoder"], view.next_obs)),
                "ce": by_time(model.error(logits, target)),
                "r_pred": by_time(joined),
                "loss_tc": found["consistency_loss"],
                "loss_rew": found["reward_loss"],
            }
            own, optimizer = self.hp["spc"], make_optimizer()
            memory = self.source["in/step/memory"], own["infonce_tau"], own["infonce_radius"]
            contrast = memory_infonce.infonce(code, ids, *memory, "last")
            rate = own["encoder_lr"]
            moved, _ = descend(optimizer, net, optimizer.init(net), rate, pulled["last"])
            return out, grads, of_code, pulled, contrast, moved

        out, grads, of_code, pulled, contrast, moved = jax.jit(run)(params, net)
        out["loss_wm"] = weights[0, 2] * out["loss_tc"] + weights[1, 2] * out["loss_rew"]
        out["focal"] = focal(out["z"], self.source["in/step/task_ids"])[1]
        actual = {f"grad/step/{name}_z": of_code[name] for name in ("tc", "rew")}
        for i, head in enumerate(("step_tc", "step_rew", "step")):
            for part, group in MODEL_PARTS.items():
                if (head, part) != ("step_tc", "reward"):
                    of_part = jax.tree.map(lambda x, i=i: x[i], grads[part])
                    actual |= self.named(f"grad/{head}", group, of_part)
        for name in ("tc", "rew", *objectives):
            actual |= self.named(f"grad/step_{name}", "ctx", pulled[name])
        state, found = self.update(self.state(), self.batch(), noise, 0)
        encoder = state["encoder"]
        by_mean = found["memory_infonce"] / 2, encoder.extra["memory"]  # the period is 2
        contrasts = {"last": contrast, "mean": by_mean}
        for repeated, net in {"last": moved, "mean": encoder.params["net"]}.items():
            out[f"infonce_{repeated}"], out[f"memory_{repeated}"] = contrasts[repeated]
            actual |= self.named(f"after/step_{repeated}", "ctx", net)
        out |= {f"loss_{part}": found[f"{name}_loss"] for name, part in
                (("value", "v"), ("critic", "q"), ("actor", "pi"))}  # fmt: skip
        rows, grads = jax.jit(self.agent_grads)(state, out["z"])
        for name, group in AGENT_PARTS.items():
            actual |= self.named("grad/step", group, grads[name][0])
        out |= {f"iql_{name}": x for name, x in rows.items()}
        actual |= {f"out/step/{name}": x for name, x in out.items()}
        return (
            actual | self.after_model("after/step", state) | self.after_agent("after/step", state)
        )

    def agent_grads(self, new, code):
        """The agent's rows, and the gradients of IQL's losses before the update to `new`."""
        rows = spc.latent_rows(self.system(), new["world_model"].params, self.batch(), code)
        nets, hp, old = self.nets(), self.hp["agent"]["iql"], self.state()["agent"]
        at, of = (rows.obs_code, rows.action), old.params
        q = nets.critic(old.target["critic"], *at).min(0)
        next_v = nets.value(new["agent"].params["value"], rows.next_obs_code)
        target = iql.critic_target(rows.reward, rows.done, hp["gamma"], next_v)
        advantage = q - nets.value(of["value"], at[0])
        weight = iql.advantage_weight(advantage, hp["inverse_temperature"], hp["clip"])
        grad = partial(jax.grad, has_aux=True)
        grads = {
            "value": grad(iql.value_loss)(of["value"], at[0], q, hp["expectile"], nets.value),
            "critic": grad(iql.critic_loss)(of["critic"], *at, target, nets.critic),
            "actor": grad(iql.actor_loss)(of["actor"], *at, weight, nets.log_prob),
        }
        order = lambda x: x.reshape(-1, self.cfg["H"], x.shape[-1]).swapaxes(0, 1)  # noqa: E731
        found = {
            "latent": order(rows.obs_code[:, : self.size]),
            "next_latent": order(rows.next_obs_code[:, : self.size]),
            "z": order(rows.obs_code[:, self.size :]),
        }
        return found, grads

    def of_sequence(self):
        """Three updates: both parts, the agent alone, both parts."""
        out, state, batch = {}, self.state(), self.batch("task_ids_distinct")
        gumbel = {1: self.noise("seq/gumbel1"), 3: self.noise("seq/gumbel3")}

        for i in (1, 2, 3):
            code = self.encoder().encode(state["encoder"].params["net"], self.context(), None).task
            state, found = self.update(state, batch, gumbel.get(i, gumbel[1]), i - 1)
            own = {"z": code, "memory": state["encoder"].extra["memory"]}
            for name, part in (("value", "v"), ("critic", "q"), ("actor", "pi")):
                own[f"loss_{part}"] = found[f"{name}_loss"]
            if i != 2:
                own["loss_tc"] = found["consistency_loss"] / 2
                own["loss_rew"] = found["reward_loss"] / 2
                own["infonce"] = found["memory_infonce"] / 2
            out |= {f"out/seq/{i}_{name}": x for name, x in own.items()}
        out |= self.named("after/seq", "ctx", state["encoder"].params["net"])
        return out | self.after_model("after/seq", state) | self.after_agent("after/seq", state)

    def results(self):
        """All but the other kinds of world models."""
        out = {**self.of_context(), **self.of_parts(), **self.of_contrasts()}
        return {**out, **self.of_step(), **self.of_sequence()}

    def only(self, kinds):
        """This record with the keys of some other kinds of world models, or of none."""
        others = latent_dynamics.KINDS[1:]
        kept = {
            key: x
            for key, x in self.expected.items()
            if next((k for k in others if key.split("/")[1] in (k, f"{k}_full")), None)
            in (kinds or (None,))
        }
        record = copy(self)
        record.expected = kept
        return record


def focal(code, task_id):
    """FOCAL's objective, which SPC has as an option: twice, for a gradient with its value."""
    pos, neg, *_ = distance_terms(code, task_id)
    return pos + neg, pos + neg


def rollouts(model, params, code, view, noise):
    """The rollouts of all sequences, as the loss makes them."""

    def one(code, obs, action, noise):
        return latent_dynamics.rollout(model, params, obs, action, code, noise)

    return jax.vmap(jax.vmap(one, (None, 0, 0, 0)))(code, view.obs[:, :, 0], view.action, noise)


def by_time(x):
    """[M, B, T, ...] as [T, M * B, ...]."""
    x = jnp.moveaxis(x, 2, 0)
    return x.reshape(x.shape[0], -1, *x.shape[3:])
