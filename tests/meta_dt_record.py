"""Records of Meta-DT: its authors' numbers, and what our functions make of the same inputs."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from golden_npz import Recorded, view_of
from metastar import config
from metastar.losses import history_model as model_loss
from metastar.losses import sequence_cloning
from metastar.methods import meta_dt
from metastar.models import prompts, sequence_policy
from metastar.models.history_model import errors, histories, rows_of
from metastar.models.nets import decision_transformer
from metastar.models.nets.decision_transformer import Steps
from metastar.models.nets.transformer import layer_norm
from metastar.ops.optim import global_norm, make_optimizer
from metastar.types import DataSpec, Learner, StepIn
from reference_params import _linear, _norm, from_reference, to_reference

HEADS = {"reward": "rdec", "next_obs": "sdec"}


def encoder_names():
    names = {}
    for ours, theirs in (("obs", "state"), ("action", "action"), ("reward", "reward")):
        names |= _linear(ours, f"{theirs}_encoder.0")
    for ours, theirs in (("input", "ih"), ("state", "hh")):
        names[f"gates_{ours}/kernel"] = f"gru.weight_{theirs}_l0"
        names[f"gates_{ours}/bias"] = f"gru.bias_{theirs}_l0"
    return names | _linear("output", "context_output")


def decoder_names():
    names = _linear("obs", "state_encoder.0") | _linear("action", "action_encoder.0")
    for ours, theirs in (("hidden_0", 1), ("hidden_1", 2), ("output", 3)):
        names |= _linear(ours, f"linear{theirs}")
    return names


def transformer_names(num_layers):
    names = {
        "embed/time": "embed_timestep.weight",
        "prompt/time": "prompt_embed_timestep.weight",
        **_linear("embed/state", "state_encoder"),
        **_norm("norm", "embed_ln"),
        **_norm("last_norm", "transformer.ln_f"),
        **_linear("action", "predict_action.0"),
    }
    for ours, theirs in (("to_go", "return"), ("joined", "state"), ("action", "action")):
        names |= _linear(f"embed/{ours}", f"embed_{theirs}")
        names |= _linear(f"prompt/{ours}", f"prompt_embed_{theirs}")
    for i in range(num_layers):
        block, layer = f"blocks_{i}", f"transformer.h.{i}"
        names |= _norm(f"{block}/attention_norm", f"{layer}.ln_1")
        names |= _norm(f"{block}/feed_forward_norm", f"{layer}.ln_2")
        for ours, theirs in (
            ("project", "attn.c_attn"),
            ("out", "attn.c_proj"),
            ("expand", "mlp.c_fc"),
            ("contract", "mlp.c_proj"),
        ):
            names |= _linear(f"{block}/{ours}", f"{layer}.{theirs}")
    return names


def turned(arrays):
    """Matrices that `reference_params` would take for others, the other way round."""
    own = (".h.", "embed_timestep", "gru.weight")
    return {
        k: np.swapaxes(x, 0, 1) if np.ndim(x) == 2 and any(part in k for part in own) else x
        for k, x in arrays.items()
    }


class MetaDt(Recorded):
    """One record of the file, with a system of its sizes."""

    def __init__(self, name, bits, path):
        super().__init__("meta_dt", name, bits, path)
        source = self.source
        cfg = {k.removeprefix("cfg/"): x for k, x in source.items() if k.startswith("cfg/")}
        self.cfg = {k: x.item() for k, x in cfg.items() if x.ndim == 0}
        self.lengths = tuple(int(x) for x in cfg["ctx_windows"])
        self.T, self.K, self.k, self.h = (self.cfg[name] for name in ("T", "K", "k", "h"))
        self.scale = self.cfg["scale"]
        moments = (tuple(source[f"in/eval/state_{name}"].tolist()) for name in ("mean", "std"))
        sizes = self.cfg["S"], self.cfg["A"], 1, self.cfg["tasks"], self.T
        self.spec = DataSpec("fake", *sizes, *moments)
        self.names = {
            "enc": encoder_names(),
            **dict.fromkeys(HEADS.values(), decoder_names()),
            "dt": transformer_names(self.cfg["n_layer"]),
        }

    def system(self, predicts="reward", **values):
        cfg = self.cfg
        built = config.build(
            {
                "method": "meta_dt",
                "sampler.normalize_obs": True,
                "world_model.history": self.h,
                "world_model.code_dim": cfg["d"],
                "world_model.width": cfg["G"],
                "world_model.decoder_width": cfg["dec_hidden"],
                "world_model.predicts": predicts,
                "world_model.clip_norm": cfg["wm_clip"],
                "transformer.width": cfg["H"],
                "transformer.num_layers": cfg["n_layer"],
                "transformer.num_heads": cfg["n_head"],
                "transformer.dropout": 0.0,
                "prompt.length": self.k,
                "acting.kept": self.K - 1,
                "acting.early_codes": "zeros",
                "meta_dt.context_len": self.K,
                "meta_dt.return_scale": self.scale,
                "meta_dt.weight_decay": cfg["dt_wd"],
                "meta_dt.clip_norm": cfg["dt_clip"],
                **{path.replace("__", "."): x for path, x in values.items()},
            }
        )
        config.validate(built)
        return meta_dt.bind(config.scope(built, "meta_dt", meta_dt), self.spec)

    def ours(self, group):
        arrays = self.params(f"param/{group}/")
        return from_reference(self.names[group], turned(arrays))

    def theirs(self, kind, group, params):
        flat = turned(to_reference(self.names[group], params))
        return {f"{kind}/{group}/{name}": x for name, x in flat.items()}

    def model(self, head="reward"):
        return {"encoder": self.ours("enc"), head: self.ours(HEADS[head])}

    def view(self, block, index=(), length=None):
        """One episode, or some, of stored arrays [..., L, n]."""
        parts = (f"in/{block}{x}" for x in ("observations", "actions", "rewards"))
        obs, action, reward = (self.source[part][index] for part in parts)
        view = view_of(obs, action, reward, self.source[f"in/{block}next_observations"][index])
        number = np.broadcast_to(np.arange(view.reward.shape[-1]), view.reward.shape)
        valid = view.valid if length is None else number < length
        view = view._replace(step=number, first=number == 0, valid=valid)
        return jax.tree.map(jnp.asarray, view)

    def gate(self, rest):
        """Where there are two steps, both gradients must be clear."""
        grads = [self.expected.get(f"grad/{x}") for x in (rest, rest.replace("_ab/", "_a/"))]
        grads = [np.abs(x) for x in grads if x is not None]
        return np.minimum.reduce(grads) if grads else None


class HistoryModelRecord(MetaDt):
    """Context windows, and updates of the world model."""

    def results(self, start):
        actual = self.contexts(start["reward"]["encoder"])
        for letter, head in (("r", "reward"), ("s", "next_obs")):
            actual |= self.updates(f"wm_{letter}", head, start[head])
        return actual

    def start(self):
        return {head: self.model(head) for head in HEADS}

    def contexts(self, encoder):
        model, view, actual = self.system().model, self.view("ctx/"), {}
        ends = np.append(True, self.source["in/ctx/terminals"][:-1])
        number = np.arange(len(ends))
        episodes = {
            "term": number - np.maximum.accumulate(np.where(ends, number, 0)),
            "noterm": number,
        }
        for name, step in episodes.items():
            for i, length in enumerate(self.lengths):
                found = histories(rows_of(view), step, number, length)
                cuts = np.cumsum([self.spec.obs_dim, self.spec.action_dim])
                parts = jnp.split(found, cuts, -1)
                parts = dict(zip(("states", "actions", "rewards"), parts))
                parts["z"] = model.encode({"encoder": encoder}, found)
                parts["z_zero"] = model.encode({"encoder": encoder}, 0 * found[0])
                actual |= {f"out/ctx/{name}_w{i}/{k}": x for k, x in parts.items()}
        return actual

    def updates(self, case, head, params):
        system, actual = self.system(head), {}
        after = params, make_optimizer(self.cfg["wm_clip"]).init(params)
        for letter in "ab":  # one after the other; terms of both are also those of the start
            given = self.given(f"{case}_{letter}")
            actual |= self.step(system, head, f"{case}_{letter}", params, given)
            after = self.move(system, *after, given)
            if letter == "a":
                actual |= self.grouped(f"after/{case}_a", head, after[0])
                middle = after
        found = self.step(system, head, f"{case}_ab", middle[0], given)
        keep = (f"out/{case}_ab/loss", f"out/{case}_ab/grad_norm")
        actual |= {k: x for k, x in found.items() if k in keep or k.startswith("grad")}
        return actual | self.grouped(f"after/{case}_ab", head, after[0])

    def given(self, case):
        """The rows before each transition, the transitions, and that all of them count."""
        at = {k: self.source[f"in/{case}/{k}"] for k in ("state", "action", "reward", "next_state")}
        rows = [self.source[f"in/{case}/{k}_segment"] for k in ("state", "action", "reward")]
        view = view_of(at["state"], at["action"], at["reward"], at["next_state"])
        return np.concatenate(rows, -1), view, view.valid

    def move(self, system, params, opt_state, given):
        return system.model_step(params, opt_state, self.cfg["wm_lr"], *given, system.model)[:2]

    def step(self, system, head, case, params, given):
        (total, _), grads = jax.value_and_grad(model_loss.loss, has_aux=True)(
            params, *given, system.model
        )
        code = system.model.encode(params, given[0])
        view = given[1]
        found = system.model.predict(params, view.obs, view.action, view.next_obs, code)
        out = {"z": code, "pred": found[head], "loss": total, "grad_norm": global_norm(grads)}
        actual = {f"out/{case}/{name}": x for name, x in out.items()}
        return actual | self.grouped(f"grad/{case}", head, grads)

    def grouped(self, kind, head, params):
        group = HEADS[head]
        return self.theirs(kind, "enc", params["encoder"]) | self.theirs(kind, group, params[head])


class PromptsRecord(MetaDt):
    """Choice of segments, returns-to-go, windows and prompts, of one stream at a time."""

    def results(self, start):
        return self.segments(start) | self.windows(start) | self.asked(start) | self.own(start)

    def start(self):
        return {head: self.model(head) for head in HEADS}

    def moments(self):
        """Mean and deviation of the observations of the episodes that are cut, and the division."""
        whole = self.T * self.cfg["total_epi"]
        obs = self.view("data/").obs[:, :whole].reshape(-1, self.spec.obs_dim)
        return obs.mean(0), obs.std(0) + self.cfg["std_eps"]

    def whiten(self, obs):
        mean, std = (jnp.expand_dims(x, range(obs.ndim - 1)) for x in self.moments())
        return (obs - mean) / std

    def codes(self, params, view, step=None):
        number = np.arange(view.reward.shape[-1])
        rows = histories(rows_of(view), number if step is None else step, number, self.h)
        return self.system().model.encode(params, rows)

    def segments(self, start):
        """Block `sel`."""
        view, places = self.view("sel/"), np.arange(self.h, self.T - self.k + 1)
        allowed = prompts.starts(view, self.k, self.h, self.T)
        actual = {"starts": jnp.nonzero(allowed, size=len(places))[0]}
        white = self.system().reader.whiten(view.next_obs)
        for name, head in (("reward", "reward"), ("state", "next_obs")):
            model, params = self.system(head).model, start[head]
            actual["z"] = code = self.codes(params, view)
            found = model.predict(params, view.obs, view.action, view.next_obs, code)[head]
            error = errors(model, params, view, code, white)
            truth = view.reward[:, None] if head == "reward" else white
            actual |= {f"{name}_pred": found, f"{name}_errors": jnp.abs(found - truth)}
            for kind, tail in (("window", False), ("tail", True)):
                total = prompts.segment_errors(error, view, self.k, tail)
                label = f"{name}_{kind}"
                actual |= {
                    f"{label}_error": total[places],
                    f"{label}_probs": total[places] / total[places].sum(),
                    f"{label}_max_start": prompts.largest(total, allowed),
                    f"{label}_start": jnp.stack(
                        [prompts.draw_start(total, allowed, u) for u in self.source["in/sel/u"]]
                    ),
                }
        return {f"out/sel/{k}": x for k, x in actual.items()}

    def windows(self, start):
        """Windows, statistics and contexts of block `data`; the former run over all rows there."""
        view, T, K = self.view("data/"), self.T, self.K
        whole, params = T * self.cfg["total_epi"], start["reward"]
        codes = jax.vmap(lambda one: self.codes(params, one))(view)
        fresh = np.arange(view.reward.shape[-1]) % T
        reset = jax.vmap(lambda one: self.codes(params, one, fresh))(view)

        def episodes(x):
            return x[:, :whole].reshape(-1, T, *x.shape[2:])

        view = jax.tree.map(lambda x: x if x.ndim < 2 else episodes(x), view)
        view = view._replace(step=view.step % T, first=view.step % T == 0, episode=0 * view.step)
        view = view._replace(policy=0 * view.step[:, 0], stage=0 * view.step[:, 0])
        to_go = jax.vmap(prompts.to_go)(view)
        total = to_go[:, 0]
        code, starts = episodes(codes), np.arange(T - 1)

        def cut(view, to_go, code):
            seen = view._replace(obs=self.whiten(view.obs))
            one = lambda s, n: prompts.cut(seen, to_go / self.scale, code, s, n)  # noqa: E731
            return jax.vmap(lambda s: self.padded_left(one(s, K), one(s, K + 1), self.whiten))(
                starts
            )

        found = jax.vmap(cut)(view, to_go, code)
        found = {k: x.reshape(-1, *x.shape[2:]) for k, x in found.items()}
        found = {f"window_{k}": x for k, x in found.items()}
        found |= {"contexts": codes, "contexts_reset": reset}
        found |= dict(zip(("state_mean", "state_std"), self.moments()))
        found |= {"return_min": total.min(), "return_max": total.max(), "return_avg": total.mean()}
        return {f"out/data/{k}": x for k, x in found.items()}

    def asked(self, start):
        """Prompts of block `data`; their starts count on episodes of full length."""
        pick, u = self.source["in/data/prompt_pick"], self.source["in/data/prompt_u"]
        places = np.arange(self.h, self.T - self.k + 1)
        found = []
        for j, chosen in enumerate(pick):
            index = j // self.cfg["total_epi"], chosen
            length = self.source["in/data/prompt_len"][index]
            view = self.view("data/prompt_", index, length)
            found.append(self.prompt(start["reward"], view, places, u[j], self.whiten))
        found = jax.tree.map(lambda *x: jnp.stack(x), *found)
        return {f"out/data/prompt_{k}": x for k, x in found.items() if k != "contexts"}

    def prompt(self, params, view, places, u, whiten, tail=False):
        model = self.system().model
        error = errors(model, params, view, self.codes(params, view))
        total = prompts.segment_errors(error, view, self.k, tail)
        allowed = np.isin(np.arange(self.T), places)
        begin = prompts.draw_start(total, allowed, u)
        seen = view._replace(obs=whiten(view.obs))
        to_go = prompts.to_go(view) / self.scale
        cuts = (prompts.cut(seen, to_go, None, begin, n) for n in (self.k, self.k + 1))
        found = {"start": begin, "probs": total[places] / total[places].sum()}
        return {**self.padded_left(*cuts, whiten), **found}

    def padded_left(self, cut, longer, whiten):
        """Cuts as their windows: padding before what exists, with their fillings."""
        missing = len(cut.valid) - cut.valid.sum()
        white = whiten(jnp.zeros(self.spec.obs_dim))

        def left(x, fill):
            valid = jnp.expand_dims(cut.valid, range(1, x.ndim))
            fill = jnp.broadcast_to(jnp.asarray(fill, x.dtype), x.shape)
            return jnp.roll(jnp.where(valid, x, fill), missing, 0)

        found = {
            "states": left(cut.obs, white[None]),
            "actions": left(cut.action, self.cfg["action_pad"]),
            "timesteps": left(cut.step, 0),
            "mask": left(cut.valid.astype(float), 0.0),
            "rtg": jnp.roll(longer.to_go, missing, 0)[:, None],
        }
        return found | ({} if cut.code is None else {"contexts": left(cut.code, 0.0)})

    def own(self, start):
        """Block `evalprompt`."""
        views, source = self.view("evalprompt/"), self.source
        returns = jax.vmap(lambda r: jnp.sum(r))(views.reward)
        present = np.ones(len(views.reward), bool)
        draws = [(i + 0.5) / prompts.BEST for i in range(prompts.BEST)]
        top = jnp.stack([prompts.best_of(returns, present, u) for u in draws])
        number = top[source["in/evalprompt/pick"]]
        view = jax.tree.map(lambda x: x[number], views)
        places, params = np.arange(self.h, self.T - self.k + 1), start["reward"]
        error = errors(self.system().model, params, view, self.codes(params, view))
        total = prompts.segment_errors(error, view, self.k, tail=True)
        stored = self.system().reader.whiten
        found = self.prompt(params, view, places, source["in/evalprompt/u"], stored, tail=True)
        found["rtg"] = found["rtg"][:-1]
        found |= {
            "returns": returns,
            "top": top,
            "errors": error[:, None],
            "tail_error": total[places],
        }
        return {f"out/evalprompt/{k}": x for k, x in found.items()}


class TransformerRecord(MetaDt):
    """The Transformer: passes, updates, and acting with a cache."""

    grad_error = 1e-4

    def results(self, start):
        actual = {}
        for letter in "ab":
            actual |= self.passes(start["dt"], letter)
        actual |= self.others(start["dt"]) | self.updates(start["dt"])
        return actual | self.acting(start) | self.episodes(start) | self.norms(start["dt"])

    def start(self):
        return {"dt": self.ours("dt"), "model": self.model()}

    def steps(self, block, prefix="", last=None):
        """Stored steps; their returns-to-go may have one entry more, which is dropped."""
        at = {
            name: self.source[f"in/{block}/{prefix}{name}"]
            for name in ("states", "actions", "rtg", "timesteps")
        }
        code = self.source.get(f"in/{block}/contexts") if not prefix else None
        valid = self.source.get(f"in/{block}/{prefix}mask", np.ones(at["timesteps"].shape)) > 0
        num = at["timesteps"].shape[-1]
        to_go = at["rtg"].reshape(*at["timesteps"].shape[:-1], -1)[..., :num]
        return Steps(to_go, at["states"], code, at["actions"], at["timesteps"], valid)

    def no_prompt(self, steps):
        """A prompt for each row of which nothing is valid, as updates have it."""
        empty = sequence_policy.no_prompt(self.k, self.spec)
        shape = steps.valid.shape[:-1]
        return jax.tree.map(lambda x: jnp.broadcast_to(x, (*shape, *x.shape)), empty)

    def given(self, letter):
        steps = self.steps(f"dt_{letter}")
        return steps, self.steps("dt_b", "prompt_") if letter == "b" else None

    def passes(self, params, letter):
        net, case = self.system().net, f"dt_{letter}"
        steps, prompt = self.given(letter)

        def run(net):
            x, mask = net.inputs(steps, prompt)
            return x, net.features(x, mask), net(steps, prompt)

        x, found, action = net.apply({"params": params}, method=run)
        valid = np.repeat(steps.valid, 3, -1)
        if prompt is not None:
            valid = np.concatenate([np.repeat(prompt.valid, 3, -1), valid], -1)
        actual = {"tokens": x, "token_mask": valid.astype(float)}
        *blocks, final = found
        named = {**{f"block{i}": x for i, x in enumerate(blocks)}, "final": final}
        actual |= {k: self.where(valid, x, f"out/{case}/{k}") for k, x in named.items()}
        actual["action_preds"] = self.where(steps.valid, action, f"out/{case}/action_preds")
        return {f"out/{case}/{k}": x for k, x in actual.items()}

    def where(self, valid, x, key):
        """Rows of padding are not compared."""
        return jnp.where(valid[..., None], x, self.expected[key])

    def others(self, params):
        (steps, prompt), net = self.given("b"), self.system().net
        heads = net.clone(num_heads=self.cfg["n_head_alt"])
        found = {
            "dt_b_noprompt": net.apply({"params": params}, steps),
            "dt_heads": heads.apply({"params": params}, steps, prompt),
        }
        return {
            key: self.where(steps.valid, x, key)
            for key, x in ((f"out/{k}/action_preds", x) for k, x in found.items())
        }

    def updates(self, params):
        """One update from the start by each batch, and by both in turn."""
        system, actual = self.system(), {}
        states = tuple(system.optimizer.init(part) for part in meta_dt.divided(params))
        first = Learner(params, opt_state=states)
        after = {}
        for letter in "ab":
            after[letter] = self.update(system, first, 0, letter)
            actual |= self.reported(f"dt_{letter}", first, letter, *after[letter])
        last = self.update(system, after["a"][0], 1, "b")
        return actual | self.reported("dt_ab", after["a"][0], "b", *last)

    def update(self, system, learner, number, letter):
        steps, prompt = self.given(letter)
        rate = self.cfg["dt_lr"] * min((number + 1) / self.cfg["dt_warmup"], 1)
        prompt = self.no_prompt(steps) if prompt is None else prompt
        return meta_dt.train_net(system, learner, rate, steps, prompt, None)

    def reported(self, case, before, letter, learner, metrics):
        steps, prompt = self.given(letter)
        loss = lambda p: sequence_cloning.loss(p, steps, prompt, None, self.system().net)[0]  # noqa: E731
        grads = self.theirs(f"grad/{case}", "dt", jax.grad(loss)(before.params))
        grads = {k: x for k, x in grads.items() if letter == "b" or "prompt" not in k}
        actual = {
            f"out/{case}/loss": metrics["action_error"],
            f"out/{case}/grad_norm": metrics["grad_norm"],
        }
        return actual | grads | self.theirs(f"after/{case}", "dt", learner.params)

    def acting(self, start):
        """Actions from a whole history, without a cache."""
        net, actual = self.system().net, {}
        prompt = jax.tree.map(lambda x: x[0], self.steps("act_prompt")._replace(code=None))
        for case in ("act_short", "act_long"):
            steps = jax.tree.map(lambda x: x[-self.K :], self.steps(case))
            for name, given in (("action", None), ("action_prompt", prompt)):
                found = net.apply({"params": start["dt"]}, steps, given)
                actual[f"out/{case}/{name}"] = found[-1]
        return actual

    def episodes(self, start):
        """Whole episodes of the policy, with its cache, in a world that ignores the action."""
        system = self.system()
        params = {"agent": start["dt"], meta_dt.MODEL: start["model"]}

        encode, whiten = partial(meta_dt.encode, system), system.reader.whiten
        policy = sequence_policy.make(system.cfg, system.net, encode, whiten, self.spec)
        states, rewards = (jnp.asarray(self.source[f"in/eval/{k}"]) for k in ("states", "rewards"))
        prompt = jax.tree.map(lambda x: x[0], self.steps("eval", "prompt_"))
        none = sequence_policy.no_prompt(self.k, self.spec)
        code, target = jnp.zeros(self.cfg["d"]), self.source["in/eval/target_return"]
        actual = {}

        def step(adaptation, carry, t):
            memory, action, reward = carry
            seen = StepIn(states[t], action, reward, states[t], t == 0, t)
            action, memory = policy.act(params, adaptation, memory, seen, KEY, True)
            return (memory, action, rewards[t]), (action, memory.code, memory.to_go)

        for case, given in (("eval_zero", none), ("eval_prompt", prompt)):
            adaptation = sequence_policy.Prompted(code, given, target)
            zero = jnp.zeros(self.spec.action_dim)
            begin = policy.init(params, adaptation), zero, jnp.zeros(())
            found = jax.lax.scan(partial(step, adaptation), begin, jnp.arange(self.T))[1]
            found = dict(zip(("actions", "contexts", "rtg"), found))
            found |= {"states": whiten(states[:-1]), "timesteps": jnp.arange(self.T)}
            actual |= {f"out/{case}/{k}": x for k, x in found.items()}
        return actual

    def norms(self, params):
        x, actual = self.source["in/probe/ln_x"], {}
        norm = layer_norm(decision_transformer.EPSILON)
        named = {"norm": "embed_ln", "last_norm": "transformer.ln_f"}
        found = {theirs: params[ours] for ours, theirs in named.items()}
        for i in range(self.cfg["n_layer"]):
            block = params[f"blocks_{i}"]
            found[f"transformer.h.{i}.ln_1"] = block["attention_norm"]
            found[f"transformer.h.{i}.ln_2"] = block["feed_forward_norm"]
        for name, own in found.items():
            actual[f"out/probe/ln/{name}"] = norm.apply({"params": own}, x)
        return actual


KEY = jax.random.key(0)
