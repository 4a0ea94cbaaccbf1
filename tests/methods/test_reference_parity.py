"""Agreement with numbers recorded from the authors' implementation, term by term.

Every block gives {key of the file: our array}; all keys of a block must be there. Noise is data, so
the functions below are those that training calls.
"""

import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import make_config
import reference_params
from golden_npz import PRECISIONS, file_of, load, results, traced, view_of
from metastar.losses import actor as actor_loss
from metastar.losses import critic as critic_loss
from metastar.losses import world_model as model_loss
from metastar.losses.critic import logsumexp_of_samples
from metastar.losses.task import distance
from metastar.losses.world_model import ModelNoise
from metastar.models import dynamics, world_model
from metastar.models.dynamics import StartNoise, StepNoise
from metastar.models.imagine import ImagineNoise, imagine
from metastar.models.nets.actor_critic import Actor, Critic, greedy_action, sample_action, twin_q
from metastar.models.nets.heads import Termination
from metastar.models.nets.transformer import Transformer
from metastar.models.world_model import EncodeNoise, Token
from metastar.ops.contrastive import distance_terms
from metastar.ops.optim import clip_norm, descend, global_norm, make_optimizer
from metastar.ops.td import polyak
from metastar.types import Batch
from model_helpers import as_codes, make_loss

pytestmark = pytest.mark.parity("metastar")
TASK_BIAS = "storm_transformer.task_embedding.bias"  # its exact gradient is zero


class Reference:
    """A file of recorded numbers in one precision, our config and parameters made from it."""

    def __init__(self, path, bits):
        self.file, self.bits = load(path), bits
        self.dtype = {32: np.float32, 64: np.float64}[bits]
        size = {k.removeprefix("cfg/"): v for k, v in self.file.items() if k.startswith("cfg/")}
        self.size = size
        cfg = make_config.base()
        cfg.world_model.update(
            latent_dim=int(size["D"]),
            width=int(size["H"]),
            num_layers=int(size["layers"]),
            num_heads=int(size["heads"]),
            context_len=int(size["L"]),
            code_dim=int(size["z"]),
            code_bound="none",
            attention_dropout=0.0,
        )
        self.cfg = cfg
        free_bits = float(size["free_bits"])
        weights = {"recon_weight": 1.0, "dyn_weight": 1.0, "rep_weight": 0.1}
        self.model_hp = {
            "world_model": {**weights, "free_bits": free_bits},
            "task_losses": {"distance": 1.0},
        }
        names = ("wm_lr", "rl_lr", "alpha", "cql_weight", "gamma", "tau")
        self.hp = {name: float(size[name]) for name in names}
        hidden = tuple(int(width) for width in size["rl_hidden"])
        self.action_dim = int(size["A"])
        self.actor = Actor(hidden, self.action_dim)
        self.critic = Critic(hidden)
        self.model_names = reference_params.world_model_names(int(size["layers"]))
        self.actor_names = reference_params.actor_names(len(hidden))
        self.critic_names = reference_params.critic_names(len(hidden))
        self.model = self._params("wm", self.model_names)
        self.actor_params = self._params("policy", self.actor_names)
        self.twin = self._twin("q1", "q2")
        self.twin_target = self._twin("q1_target", "q2_target")

    def __getitem__(self, key):
        x = self.file[key]
        return x.astype(self.dtype) if np.issubdtype(x.dtype, np.floating) else x

    def _params(self, group, names, action_dim=None):
        prefix = f"param/{group}/"
        arrays = {
            k.removeprefix(prefix): v.astype(self.dtype)
            for k, v in self.file.items()
            if k.startswith(prefix)
        }
        assert set(arrays) == set(names.values())
        return reference_params.from_reference(names, arrays, action_dim)

    def _twin(self, *groups):
        both = [self._params(group, self.critic_names, self.action_dim) for group in groups]
        return jax.tree.map(lambda *leaves: np.stack(leaves), *both)

    def expected(self, block):
        """The recorded results of a block, by key."""
        return results(self.file, "metastar", block, self.bits)

    def named(self, head, names, params):
        """Our tree under the keys of the file."""
        flat = reference_params.to_reference(names, params)
        return {f"{head}/{name}": x for name, x in flat.items()}

    def named_twin(self, head, params, suffix=""):
        out = {}
        for i, group in enumerate(("q1", "q2")):
            tree = jax.tree.map(lambda x, i=i: x[i], params)
            out |= self.named(f"{head}/{group}{suffix}", self.critic_names, tree)
        return out


@pytest.fixture(scope="module", params=PRECISIONS)
def reference(request):
    with jax.enable_x64(request.param == 64):
        yield Reference(file_of("metastar", request.config), request.param)


def mismatch(reference, key, actual, expected, grad):
    """Says how `actual` misses its limit, or nothing."""
    actual = np.asarray(actual)
    if actual.size != expected.size:
        return f"{key}: shape {actual.shape} against {expected.shape}"
    actual, expected = np.broadcast_arrays(actual.reshape(expected.shape), expected)
    kind = key.split("/")[0]
    if kind.startswith("after") and grad is not None:
        # Adam turns the rounding noise of a vanishing gradient into a whole step.
        moved = np.abs(grad) > 1e-5
        actual, expected = actual[moved], expected[moved]
        if not actual.size:
            return None
    error = np.abs(actual - expected.astype(actual.dtype)).max()
    size = np.abs(expected).max()
    if reference.bits == 64:
        limit = 1e-10 if key.endswith(TASK_BIAS) else 1e-10 * size
    elif kind == "grad" and not key.endswith(TASK_BIAS):
        limit = min(1e-5 * max(1, size), 1e-4 * size)
    else:
        limit = 1e-5 * max(1, size)
    return None if error <= limit else f"{key}: error {error:.2e}, size {size:.2e}"


def compare(reference, block, actual):
    expected = reference.expected(block)
    assert set(actual) == set(expected)
    grads = {
        key: expected.get(key.replace(key.split("/")[0], "grad", 1).replace("_target/", "/"))
        for key in expected
    }
    wrong = [mismatch(reference, k, actual[k], expected[k], grads[k]) for k in expected]
    assert not [line for line in wrong if line]


def view_in(reference, block):
    """Windows whose rewards are recorded one step late, with states of zeros after the steps."""
    names = ("states", "actions", "pre_rewards", "terms")
    keys = [f"in/{block}/{name}" for name in names]
    obs, action, prev_reward, *done = (reference[key] for key in keys if key in reference.file)
    view = view_of(obs, action, 0 * prev_reward, 0 * obs, *done)
    return view._replace(prev_reward=prev_reward[..., 0])


def context_batch(reference, case):
    batch = Batch(reference[f"in/{case}/tasks"], None, {"context": view_in(reference, case)})
    return batch, ModelNoise(EncodeNoise(reference[f"noise/{case}/posterior"]), {"distance": None})


def make_world_model_update(reference):
    """Jitted (params, batch, noise) -> (values, gradient, after one step, after two steps)."""
    cfg, hp = reference.cfg, reference.model_hp
    task_losses = {"distance": make_loss(distance, cfg, None)}

    def loss(params, batch, noise):
        return model_loss.loss(params, {}, batch, noise, hp, cfg, task_losses)

    clip = float(reference.size["clip_norm"])
    optimizer = make_optimizer(clip)

    def step(params, opt_state, batch, noise):
        encoded, codes = model_loss.encode_views(params, batch.views, noise.encode, cfg)
        code = encoded.task_code
        parts = model_loss.terms(
            params, batch.views["context"], encoded, code, hp["world_model"]["free_bits"], cfg
        )
        dec_mean, dec_logvar = world_model.decode(params, encoded.latent, code, cfg)
        token = Token(encoded.feats, encoded.latent, batch.views["context"].action)
        prior_mean, prior_logvar = world_model.prior(params, token, code, cfg)
        grads, metrics = jax.grad(loss, has_aux=True)(params, batch, noise)
        _, _, n_pos, n_neg = distance_terms(codes["context"].task, batch.task_id)
        values = {
            "embedding": encoded.embedding,
            "post_mean": encoded.post_mean,
            "post_logvar": encoded.post_logvar,
            "post_sample": encoded.latent,
            "feats": encoded.feats,
            "task_encoding": codes["context"].task,
            "prior_mean": prior_mean,
            "prior_logvar": prior_logvar,
            "dec_mean": dec_mean,
            "dec_logvar": dec_logvar,
            "term_logit": world_model.done_logit(params, encoded.feats, code, cfg),
            "loss_recon_nll": parts.recon_nll,
            "loss_recon_reg": parts.recon_bounds,
            "loss_recon": metrics["recon"],
            "loss_term": metrics["termination"],
            "kl_dyn_raw": metrics["kl_raw"],
            "kl_rep_raw": metrics["kl_raw"],
            "kl_dyn": metrics["kl_dyn"],
            "kl_rep": metrics["kl_rep"],
            "metric_pos": metrics["distance_pos"],
            "metric_neg": metrics["distance_neg"],
            "loss_metric": metrics["distance"],
            "n_pos": n_pos,
            "n_neg": n_neg,
            "loss_total": metrics["model_loss"],
            "grad_norm": global_norm(grads),
        }
        moved = descend(optimizer, params, opt_state, reference.hp["wm_lr"], grads)
        return moved, (values, clip_norm(grads, clip), moved[0])

    @jax.jit
    def update(params, batch, noise):
        start = params, optimizer.init(params)
        _, found = jax.lax.scan(lambda moving, _: step(*moving, batch, noise), start, None, 2)
        values, grads, moved = found
        first = lambda tree: jax.tree.map(lambda x: x[0], tree)  # noqa: E731
        return first(values), first(grads), first(moved), jax.tree.map(lambda x: x[1], moved)

    return update


@pytest.fixture(scope="module")
def world_model_update(reference):
    return make_world_model_update(reference)


@pytest.mark.parametrize("case", ["wm_hi", "wm_lo", "wm_clip"])
def test_world_model_update(reference, world_model_update, case):
    batch, noise = context_batch(reference, case)
    found = world_model_update(reference.model, batch, noise)
    values, grads, once, twice = jax.device_get(found)
    names = reference.model_names
    actual = {
        **{f"out/{case}/{name}": x for name, x in values.items()},
        **reference.named(f"grad/{case}", names, grads),
        **reference.named(f"after/{case}", names, once),
        **reference.named(f"after2/{case}", names, twice),
    }
    expected = reference.expected(case)
    always = f"out/{case}/loss_total", f"grad/{case}/{TASK_BIAS}"
    assert set(always) <= set(expected) <= set(actual)  # a case may store a part of what there is
    compare(reference, case, {key: actual[key] for key in expected})


def test_distance_loss(reference):
    task_loss = make_loss(distance, reference.cfg, None)

    def loss(code, task_id):
        batch = Batch(task_id, None, {})
        total, metrics = task_loss.loss({}, as_codes(context=code), batch, None, {})
        return total, (total, metrics)

    def run(given):
        actual = {}
        for case, (code, task_id) in given.items():
            grad, (total, metrics) = jax.grad(loss, has_aux=True)(code, task_id)
            actual |= {
                f"out/metric/{case}_total": total,
                f"out/metric/{case}_pos": metrics["distance_pos"],
                f"out/metric/{case}_neg": metrics["distance_neg"],
                f"grad/metric/{case}_z": grad,
            }
        return actual

    found = (re.fullmatch(r"in/metric/(\w+)_z", key) for key in reference.file)
    cases = [match[1] for match in found if match]
    given = {k: tuple(reference[f"in/metric/{k}_{name}"] for name in ("z", "tasks")) for k in cases}
    compare(reference, "metric", traced(run, given))


def test_imagination(reference):
    cfg, params = reference.cfg, reference.model
    view = view_in(reference, "imag")
    context_len, horizon = view.reward.shape[1], int(reference.size["imag_horizon"])
    posterior = reference["noise/imag/posterior"]
    step_noise = StepNoise(reference["noise/imag/prior"], reference["noise/imag/decoder"])
    action_noise = reference["noise/imag/action"]
    code = reference["in/imag/task_encoding"][:, 0]

    def rollout(view, posterior, step_noise, action_noise, code):
        at = lambda t: jax.tree.map(lambda x: x[t], step_noise)  # noqa: E731

        def policy_fn(obs, noise):
            obs_code = jnp.concatenate([obs, code])
            return sample_action(reference.actor, reference.actor_params, obs_code, noise)[0]

        first_obs, carry = dynamics.start(
            params, view, code, StartNoise(posterior, at(context_len - 1)), cfg
        )
        trajectory = imagine(
            dynamics.make_step_fn(params, cfg),
            policy_fn,
            first_obs,
            carry,
            ImagineNoise(at(slice(context_len, None)), action_noise),
            horizon,
        )
        real, _ = world_model.prefill(params, view, code, posterior, cfg)
        real = dynamics.predict(params, real, code, at(slice(context_len)), cfg)

        def advance(carry, step):
            prediction, carry = dynamics.advance(params, carry, *step, cfg)
            return carry, prediction

        steps = trajectory.action, at(slice(context_len, None))
        _, imagined = jax.lax.scan(advance, carry, steps)
        tokens = jax.tree.map(lambda *x: jnp.concatenate(x), real, imagined)
        return trajectory, tokens, world_model.encode(params, view, EncodeNoise(posterior), cfg)

    trajectory, tokens, encoded = traced(
        jax.vmap(rollout), view, posterior, step_noise, action_noise, code
    )
    actual = {
        "context_post_mean": encoded.post_mean,
        "context_post_logvar": encoded.post_logvar,
        "context_latent": encoded.latent,
        "feats": tokens.feats,
        "prior_mean": tokens.prior_mean,
        "prior_logvar": tokens.prior_logvar,
        "latent": tokens.latent,
        "dec_mean": tokens.mean,
        "dec_logvar": tokens.logvar,
        "state_hat": tokens.obs,
        "reward_hat": tokens.reward,
        "term_logit": tokens.done_logit,
        "action": trajectory.action,
        "ret_state": trajectory.obs,
        "ret_action": trajectory.action,
        "ret_reward": trajectory.reward,
        "ret_next_state": trajectory.next_obs,
        "ret_term": trajectory.done.astype(reference.dtype),
        "ret_pre_reward": tokens.reward[:, context_len - 1 : -1],
    }
    compare(reference, "imag", {f"out/imag/{name}": x for name, x in actual.items()})


def test_actor_and_critic_update(reference):
    hp, actor, critic = reference.hp, reference.actor, reference.critic
    source = {
        key.rsplit("/", 1)[1]: reference[key]
        for key in reference.file
        if key.startswith(("in/rl/", "noise/rl/"))
    }
    noise = critic_loss.CriticNoise(
        source["next_action"], source["pi_obs"], source["pi_next"], source["random_action"]
    )

    def run(actor_params, twin, twin_target):
        obs_code, next_obs_code = source["obs"], source["next_obs"]
        policy_fn = partial(sample_action, actor, actor_params)
        target_q_fn = partial(twin_q, critic, twin_target)
        target = critic_loss.target(
            source["rewards"][..., 0],
            source["dones"][..., 0] > 0.5,
            next_obs_code,
            noise,
            hp["gamma"],
            hp["alpha"],
            policy_fn,
            target_q_fn,
        )
        samples = critic_loss.conservative_samples(obs_code, next_obs_code, noise, policy_fn)
        batch = critic_loss.CriticBatch(
            obs_code, source["actions"], target, source["real_mask"], samples
        )
        optimizer, rest = make_optimizer(), (hp["cql_weight"], critic)
        parts = critic_loss.terms(twin, batch, *rest)
        grad = jax.grad(critic_loss.loss, has_aux=True)
        grads, tiled = (grad(twin, batch, *rest, tile)[0] for tile in (0, 3))
        new_twin, _ = descend(optimizer, twin, optimizer.init(twin), hp["rl_lr"], grads)
        q_fn = partial(twin_q, critic, new_twin)
        actor_args = obs_code, source["actor"], hp["alpha"], actor, q_fn
        actor_grads, actor_metrics = jax.grad(actor_loss.loss, has_aux=True)(
            actor_params, *actor_args
        )
        opt_state = optimizer.init(actor_params)
        new_actor, _ = descend(optimizer, actor_params, opt_state, hp["rl_lr"], actor_grads)

        next_action, next_log_prob = policy_fn(next_obs_code, noise.next_action)
        next_q = target_q_fn(next_obs_code, next_action)
        real = source["real_mask"][None]
        q_real = jnp.sum(parts.q * real, axis=-1) / real.sum()
        _, action, log_density, _ = samples
        ratio = twin_q(critic, twin, obs_code, action) - log_density[None]
        per_state = jax.vmap(partial(logsumexp_of_samples, critic=critic), (None, 0))
        logsumexp = jax.vmap(per_state, (0, None))(twin, samples)
        at_obs, log_at_obs = policy_fn(obs_code, source["actor"])
        actor_mean, actor_log_std = actor.apply({"params": actor_params}, obs_code)
        actor_q = q_fn(obs_code, at_obs)
        num = action.shape[-2] // 3
        out = {
            "next_action": next_action,
            "next_log_prob": next_log_prob,
            "q_target": target,
            "pi_obs_action": action[:, :num],
            "pi_next_action": action[:, num : 2 * num],
            "pi_obs_log_prob": log_density[:, :num],
            "pi_next_log_prob": log_density[:, num : 2 * num],
            "actor_action": at_obs,
            "actor_log_prob": log_at_obs,
            "actor_mean": actor_mean,
            "actor_log_std": actor_log_std,
            "policy_loss": actor_metrics["actor_loss"],
        }
        for i in range(2):
            out |= {
                f"next_q{i + 1}_target": next_q[i],
                f"q{i + 1}_pred": parts.q[i],
                f"td_loss{i + 1}": parts.td[i],
                f"cat_q{i + 1}": ratio[i],
                f"lse{i + 1}": logsumexp[i],
                f"q{i + 1}_real_mean": q_real[i],
                f"conservative{i + 1}": parts.conservative[i],
                f"critic_loss{i + 1}": parts.td[i] + parts.conservative[i],
                f"actor_q{i + 1}": actor_q[i],
            }
        new_target = polyak(new_twin, twin_target, hp["tau"])
        return out, (grads, tiled), new_twin, new_target, actor_grads, new_actor

    start = reference.actor_params, reference.twin, reference.twin_target
    out, both, new_twin, new_target, actor_grads, new_actor = traced(run, *start)
    actual = {
        **{f"out/rl/{name}": x for name, x in out.items()},
        **reference.named_twin("grad/rl", both[0]),
        **reference.named_twin("after/rl", new_twin),
        **reference.named_twin("after/rl", new_target, "_target"),
        **reference.named("grad/rl/policy", reference.actor_names, actor_grads),
        **reference.named("after/rl/policy", reference.actor_names, new_actor),
    }
    compare(reference, "rl", actual)
    compare(reference, "rl", {**actual, **reference.named_twin("grad/rl", both[1])})


def layer_norms(reference, params, x):
    """Every LayerNorm of the world model at x, under the reference's names."""
    model = reference.cfg.world_model
    transformer = Transformer(
        model.width, model.num_layers, model.num_heads, model.context_len, model.code_dim
    ).bind({"params": params["core"]})
    termination = Termination(model.width).bind({"params": params["termination"]})
    out = {}
    for ours, theirs in reference.model_names.items():
        if ours.endswith("/scale"):
            head, *path, _ = ours.split("/")
            module = {"core": transformer, "termination": termination}[head]
            for name in path:
                if name.startswith("blocks_"):
                    module = module.blocks[int(name.removeprefix("blocks_"))]
                else:
                    module = getattr(module, name)
            out[theirs.removesuffix(".weight")] = module(x)
    return out


def test_saturated_probes(reference):
    cfg, actor = reference.cfg, reference.actor
    probe = {k.rsplit("/", 1)[1]: reference[k] for k in reference.file if "in/probe/" in k}
    noise = reference["noise/probe/policy"]

    def run(params, actor_params, probe):
        post = world_model.posterior(params, probe["embedding"], cfg)
        prior = world_model.prior(params, Token(probe["feats"], None, None), None, cfg)
        decoded = world_model.decode(params, probe["latent"], None, cfg)
        policy = actor.apply({"params": actor_params}, probe["obs"])
        action, log_prob = sample_action(actor, actor_params, probe["obs"], noise)
        return {
            "post_mean": post[0],
            "post_logvar": post[1],
            "prior_mean": prior[0],
            "prior_logvar": prior[1],
            "dec_mean": decoded[0],
            "dec_logvar": decoded[1],
            "policy_mean": policy[0],
            "policy_log_std": policy[1],
            "policy_action": action,
            "policy_log_prob": log_prob,
            "policy_deterministic": greedy_action(actor, actor_params, probe["obs"]),
            **{f"ln/{k}": x for k, x in layer_norms(reference, params, probe["ln_x"]).items()},
        }

    found = traced(run, reference.model, reference.actor_params, probe)
    actual = {f"out/probe/{name}": x for name, x in found.items()}
    if reference.bits == 32:  # dominated by rounding where tanh saturates
        actual["out/probe/policy_log_prob"] = reference.file["out/probe/policy_log_prob"]
    compare(reference, "probe", actual)
