"""SPC's parts and its update in place of those of its authors, whose numbers are recorded."""

from functools import cached_property, partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import FrozenConfigDict

import make_config
import reference_params
from golden_npz import Recorded, gradient, traced, view_of
from metastar import config
from metastar.agents import iql as agent
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

KEY = jax.random.key(0)
MODEL_PARTS = {"encoder": "enc", "dynamics": "dyn", "reward": "rew"}
AGENT_PARTS = {"value": "v", "critic": "q", "actor": "pi"}
LOSSES = {"value": "v", "critic": "q", "actor": "pi"}  # of the metrics, and of the file
FULL = ("continuous_mse", "simnorm_mse")  # kinds with a whole recorded step


class Probe(nn.Module):
    """One hidden layer."""

    @nn.compact
    def __call__(self, x):
        return hidden_layers(x, (x.shape[-1],), "norm_mish")


class Spc(Recorded):
    """A record: "step" is all that the update and its parts give, a kind of world model another."""

    grad_error, after_error = 2e-4, 1e-6

    def __init__(self, name, bits, path):
        super().__init__("spc", name, bits, path)
        self.name = name
        self.gates = self.params("gate/")
        self.cfg = {name: x.tolist() for name, x in self.params("cfg/").items()}
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
        keys = (rest, f"grad/{rest}", f"grad/{kind}_full/{inner}")
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
            return jax.tree.map(lambda *x: np.stack(x), *made)
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
            make_config.preset("spc", "point_robot_sparse", "paper"),
            {"spc.repeated": repeated, "encoder.mean_mlp.code_dim": self.cfg["z"]},
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

    def groups(self, head="param"):
        """Our parameters, by their names of groups; `head` is of the world model's."""
        of_model = {name: head for name in (*MODEL_PARTS.values(), "enc_target")}
        names = (*of_model, "ctx", *AGENT_PARTS.values(), "q_target")
        return {name: self.start(name, of_model.get(name, "param")) for name in names}

    def state(self, start):
        """The first state, of parameters by group."""
        world = {name: start[group] for name, group in MODEL_PARTS.items()}
        net, target = {"net": start["ctx"], "task_losses": {}}, {"encoder": start["enc_target"]}
        params = {name: start[group] for name, group in AGENT_PARTS.items()}
        adam, adamw = make_optimizer(), make_optimizer(weight_decay=1.0)
        memory = {"memory": jnp.asarray(self.source["in/step/memory"])}
        return {
            "world_model": Learner(world, target, adamw.init(world)),
            "encoder": Learner(net, (), adam.init(net), memory),
            "agent": Learner(
                params,
                {"critic": start["q_target"]},
                {name: adam.init(params[name]) for name in params},
                {"actor": params["actor"]},
            ),
        }

    def context(self):
        names = ("obs", "act", "rew", "next_obs")
        return view_of(*(self.source[f"in/step/ctx_{name}"] for name in names))

    def sequence(self):
        names = ("obs", "act", "rew", "next_obs", "done")
        return view_of(*(self.source[f"in/step/{name}"] for name in names))

    def batch(self, ids="task_ids"):
        views = {"context": self.context(), "sequence": self.sequence()}
        return Batch(self.source[f"in/step/{ids}"], None, views)

    def noise(self, name):
        """Recorded as [H, M * B, G, K]."""
        x = self.source[f"noise/{name}"]
        return np.moveaxis(x.reshape(x.shape[0], self.cfg["M"], self.cfg["B"], *x.shape[2:]), 0, 2)

    # Blocks: {key of the file: our array}.

    def of_context(self, params, alternative):
        view, weight = self.context(), self.source["in/ctx/w"]
        encode = self.encoder().encode
        codes = encode(params, view, None)
        none = encode(params, view._replace(valid=view.valid & False), None)
        names = ("obs", "act", "rew", "next_obs")
        few = view_of(*(self.source[f"in/grow/{name}"].swapaxes(0, 1) for name in names))
        first = np.tril(np.ones((few.valid.shape[1],) * 2, bool))  # [K, L]: the first k + 1 steps
        grown = jax.vmap(lambda valid: encode(params, few._replace(valid=few.valid & valid), None))
        inputs = "reward" if self.cfg["next_obs_in_context"] else "dynamics"

        def long(params):
            code = self.encoder(unit_length=True).encode(params, view, None).task
            return (weight * code).sum(), code

        grad, z_l2 = jax.grad(long, has_aux=True)(params)
        return {
            "out/ctx/per_transition": codes.each,
            "out/ctx/z": codes.task,
            "out/ctx/z_rows": jnp.repeat(codes.task, self.cfg["B"], 0),
            "out/ctx/z_prior": none.task,
            "out/ctx/z_l2": z_l2,
            "out/ctx_alt/z": self.encoder(inputs=inputs).encode(alternative, view, None).task,
            "out/grow/z": grown(first[:, None]).task,
            **self.named("grad/ctx_l2", "ctx", grad),
        }

    def of_parts(self, encoder, actor):
        """Quantiser, one layer, policy."""
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
        mean, log_std = self.actor(actor, at)
        each = (v[..., None] for v in (mean, log_std, source["in/policy/act"]))
        out |= {
            "out/policy/mean": mean,
            "out/policy/log_std": log_std,
            "out/policy/log_prob": normal_log_prob(*each),
        }
        model, obs = self.model(), source["in/act/obs"]
        latent = model.encode(encoder, obs)
        mean, log_std = self.actor(actor, jnp.concatenate([latent, source["in/act/z"]], -1))
        noise = source["noise/act/normal"]
        return out | {
            "out/act/latent": latent,
            "out/act/idx": model.target(encoder, obs),
            "out/act/mean": mean,
            "out/act/log_std": log_std,
            "out/act/greedy": normal_draw(mean, log_std, 0 * noise),
            "out/act/sampled": normal_draw(mean, log_std, noise),
        }

    def of_contrasts(self):
        """InfoNCE with a memory, and FOCAL, on given codes."""
        out, at = {}, lambda name: self.source[f"in/nce/{name}"]
        tau, radius = self.cfg["infonce_tau"], self.cfg["infonce_radius"]
        for case, name, repeated in (
            ("a", "a", "mean"),
            ("b", "b_last", "last"),
            ("b", "b_mean", "mean"),
            ("c", "c", "mean"),
        ):
            code, ids, memory = at(f"{case}_z"), at(f"{case}_ids"), at(f"{case}_memory")
            (loss, new), grad = jax.value_and_grad(memory_infonce.infonce, has_aux=True)(
                code, ids, memory, tau, radius, repeated
            )
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

    def losses_of(self, model, params, follower, code, noise, **weights):
        """Gradients of the world model's loss and its metrics, its weights changed."""
        hp, sequence = {**self.hp["world_model"], **weights}, self.sequence()
        target = model.target(follower, sequence.next_obs)
        return jax.grad(model_loss.loss, (0, 1), has_aux=True)(
            params, code, target, sequence, noise, hp, model, True
        )

    def of_kind(self):
        """A world model of another kind: one rollout, its losses and gradients."""
        return traced(self.kind_results, self.groups("param/cont"), self.batch("task_ids_distinct"))

    def kind_results(self, start, batch):
        kind, state = self.name, self.state(start)
        system, learner = self.system(kind), state["world_model"]
        model, params, follower = system.model, learner.params, learner.target["encoder"]
        codes, pull = self.coded(start["ctx"])
        code = codes["context"].task
        (grads, of_code), found = self.losses_of(model, params, follower, code, None)
        latents, _ = rollouts(model, params, code, self.sequence(), None)
        out = {
            f"out/{kind}/latents": by_time(latents),
            f"out/{kind}/target": by_time(model.target(follower, self.sequence().next_obs)),
            f"out/{kind}/loss_tc": found["consistency_loss"],
            f"out/{kind}/loss_rew": found["reward_loss"],
            f"grad/{kind}/z": of_code,
        }
        for name, group in MODEL_PARTS.items():
            out |= self.named(f"grad/{kind}", group, grads[name])
        if kind not in FULL:
            return out
        new, _ = spc.represent(system, state, codes, pull, batch, KEY, self.hp)
        of_net = gradient(new["encoder"].opt_state)["net"]
        return {
            **out,
            **self.after_model(f"after/{kind}", new),
            **self.named(f"after/{kind}", "ctx", new["encoder"].params["net"]),
            **self.named(f"grad/{kind}_full", "ctx", of_net),
        }

    def coded(self, net):
        """The codes of the contexts, by view, and the pull of a gradient in them."""
        return jax.vjp(
            lambda net: {"context": self.encoder().encode(net, self.context(), None)}, net
        )

    def by_objective(self, code, ids, objective):
        """The gradient in the codes of a weighted objective, "last" or "focal", and the objective.

        InfoNCE comes with its new memory.
        """
        own = self.hp["spc"]
        if objective == "focal":
            grad, value = jax.grad(focal, has_aux=True)(code, ids)
            return self.cfg["focal_weight"] * grad, value
        memory = self.source["in/step/memory"], own["infonce_tau"], own["infonce_radius"]
        found, grad = jax.value_and_grad(memory_infonce.infonce, has_aux=True)(
            code, ids, *memory, objective
        )
        return own["infonce_weight"] * grad, found

    @cached_property
    def update(self):
        """The update that training makes, with its codes and the agent's rows.

        (state, batch, noise, step) -> (state, metrics, out/..., grad/... and after/...).
        """

        def update(state, batch, noise, step):
            code = self.coded(state["encoder"].params["net"])[0]["context"].task
            system = self.system(noise=noise)
            new, found = spc.update(system, state, batch, KEY, self.hp, step)
            rows = spc.latent_rows(system, new["world_model"].params, batch, code)
            order = lambda x: x.reshape(-1, self.cfg["H"], x.shape[-1]).swapaxes(0, 1)  # noqa: E731
            out = {
                "z": code,
                "iql_latent": order(rows.obs_code[:, : self.size]),
                "iql_next_latent": order(rows.next_obs_code[:, : self.size]),
                "iql_z": order(rows.obs_code[:, self.size :]),
                **{f"loss_{part}": found[f"{name}_loss"] for name, part in LOSSES.items()},
            }
            of_model = gradient(new["world_model"].opt_state)
            grads = {group: of_model[name] for name, group in MODEL_PARTS.items()}
            for name, group in AGENT_PARTS.items():
                grads[group] = gradient(new["agent"].opt_state[name])
            grads["ctx"] = gradient(new["encoder"].opt_state)["net"]
            after = self.after_model("after", new) | self.after_agent("after", new)
            after |= self.named("after", "ctx", new["encoder"].params["net"])
            for group, grad in grads.items():
                after |= self.named("grad", group, grad)
            return new, found, out, after

        return jax.jit(update)

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

    def of_step(self, params, follower, net):
        """Rollout, losses and their separate gradients, and the step with the last codes."""
        model, view, noise = self.model(), self.sequence(), self.noise("step/gumbel")
        ids, hp, own = self.source["in/step/task_ids"], self.hp["world_model"], self.hp["spc"]
        codes, pull = self.coded(net)
        code = codes["context"].task
        latents, logits = rollouts(model, params, code, view, noise)
        target = model.target(follower, view.next_obs)

        def losses(consistency, reward):
            weights = {"consistency_weight": consistency, "reward_weight": reward}
            return self.losses_of(model, params, follower, code, noise, **weights)

        one = np.eye(2, dtype=code.dtype)
        (grads, (of_tc, of_rew)), found = jax.vmap(losses)(*one)
        weights = hp["consistency_weight"], hp["reward_weight"]
        loss_tc, loss_rew = found["consistency_loss"][0], found["reward_loss"][0]
        whole = weights[0] * of_tc + weights[1] * of_rew
        by_last, (infonce, memory) = self.by_objective(code, ids, "last")
        by_focal, value = self.by_objective(code, ids, "focal")
        of_code = {"tc": of_tc, "rew": of_rew, "last": whole + by_last, "focal": whole + by_focal}
        zero = jax.tree.map(jnp.zeros_like, codes["context"])
        of_codes = {name: {"context": zero._replace(task=grad)} for name, grad in of_code.items()}
        pulled = {name: pull(grad)[0] for name, grad in of_codes.items()}
        optimizer = make_optimizer()
        moved, _ = descend(optimizer, net, optimizer.init(net), own["encoder_lr"], pulled["last"])
        out = {
            "codes": by_time(latents),
            "idx0": by_time(model.target(params["encoder"], view.obs))[0],
            "logits": by_time(logits),
            "target_idx": by_time(target),
            "online_next_idx": by_time(model.target(params["encoder"], view.next_obs)),
            "ce": by_time(model.error(logits, target)),
            "r_pred": by_time(
                model.reward(params, latents[:, :, :-1], view.action, code[:, None, None])
            ),
            "loss_tc": loss_tc,
            "loss_rew": loss_rew,
            "loss_wm": weights[0] * loss_tc + weights[1] * loss_rew,
            "focal": value,
            "infonce_last": infonce,
            "memory_last": memory,
        }
        actual = {f"out/step/{name}": x for name, x in out.items()}
        actual |= {"grad/step/tc_z": of_tc, "grad/step/rew_z": of_rew}
        for i, head in enumerate(("step_tc", "step_rew")):
            for part, group in MODEL_PARTS.items():
                if (head, part) != ("step_tc", "reward"):
                    of_part = jax.tree.map(lambda x, i=i: x[i], grads[part])
                    actual |= self.named(f"grad/{head}", group, of_part)
        for name in pulled:
            actual |= self.named(f"grad/step_{name}", "ctx", pulled[name])
        return actual | self.named("after/step_last", "ctx", moved)

    def of_update(self):
        """One whole update, with the mean of the codes of a task that is there twice."""
        args = self.first, self.batch(), self.noise("step/gumbel"), 0
        state, found, out, after = jax.device_get(self.update(*args))
        out["infonce_mean"] = found["memory_infonce"] / 2  # the period is 2
        out["memory_mean"] = state["encoder"].extra["memory"]
        actual = {f"out/step/{name}": x for name, x in out.items()}
        for key, x in after.items():
            kind, rest = key.split("/", 1)
            head = "step_mean" if rest.startswith("ctx/") else "step"
            actual[f"{kind}/{head}/{rest}"] = x
        return actual

    def of_sequence(self):
        """Three updates: both parts, the agent alone, both parts."""
        actual, state, batch = {}, self.first, self.batch("task_ids_distinct")
        gumbel = {1: self.noise("seq/gumbel1"), 3: self.noise("seq/gumbel3")}
        for i in (1, 2, 3):
            state, found, out, after = self.update(state, batch, gumbel.get(i, gumbel[1]), i - 1)
            own = {"z": out["z"], "memory": state["encoder"].extra["memory"]}
            own |= {f"loss_{part}": out[f"loss_{part}"] for part in LOSSES.values()}
            if i != 2:
                own["loss_tc"] = np.asarray(found["consistency_loss"]) / 2
                own["loss_rew"] = np.asarray(found["reward_loss"]) / 2
                own["infonce"] = np.asarray(found["memory_infonce"]) / 2
            actual |= {f"out/seq/{i}_{name}": x for name, x in own.items()}
        moved = {key: x for key, x in after.items() if key.startswith("after/")}
        return actual | {key.replace("after/", "after/seq/", 1): x for key, x in moved.items()}

    @cached_property
    def first(self):
        """The state before an update."""
        return jax.jit(self.state)(self.groups())

    def results(self):
        """All but the other kinds of world models."""

        def alone(start, alternative):
            params = {name: start[group] for name, group in MODEL_PARTS.items()}
            return {
                **self.of_context(start["ctx"], alternative),
                **self.of_parts(start["enc"], start["pi"]),
                **self.of_contrasts(),
                **self.of_step(params, start["enc_target"], start["ctx"]),
            }

        alternative = self.start("ctx_alt", names=self.names["ctx"])
        found = traced(alone, self.groups(), alternative)
        return {**found, **self.of_update(), **self.of_sequence()}


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
