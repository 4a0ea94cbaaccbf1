"""FOCAL's encoder and objective in place of those of its authors, whose numbers are recorded."""

import jax
from ml_collections import FrozenConfigDict

import reference_params
from golden_npz import Recorded
from metastar.models.encoders import mean_mlp
from metastar.ops.contrastive import distance_terms
from metastar.ops.optim import gradient_step, make_optimizer
from metastar.types import DataSpec
from model_helpers import random_view

ENCODERS = {"reward": "encoder", "dynamics": "encoder_next"}
CODE_CASES = {"distinct": "tasks_distinct", "same": "tasks_same"}


class Focal(Recorded):
    """The block, with our encoder in its place."""

    def __init__(self, bits):
        super().__init__("baselines_step.npz", "focal/", bits)
        size = {k.removeprefix("cfg/"): x for k, x in self.source.items() if k.startswith("cfg/")}
        self.hidden = tuple(int(x) for x in size["encoder_hidden"])
        self.weight, self.lr = float(size["metric_weight"]), float(size["context_lr"])
        self.code_dim, obs_dim, action_dim = (int(size[name]) for name in ("d", "S", "A"))
        zeros = (0.0,) * obs_dim
        self.spec = DataSpec("fake", obs_dim, action_dim, 1, 4, 10, zeros, zeros)
        self.names = reference_params.critic_names(len(self.hidden))

    def view(self):
        at = lambda name: self.source[f"in/context_{name}"]  # noqa: E731
        obs, reward = at("obs"), at("rewards")[..., 0]
        template = random_view(jax.random.key(0), *reward.shape)
        return template._replace(
            obs=obs,
            action=at("actions"),
            reward=reward,
            prev_reward=0 * reward,
            next_obs=at("next_obs"),
        )

    def encoder(self, inputs, bound="tanh"):
        fields = {name: field.value for name, field in mean_mlp.DEFAULTS.items()}
        own = {"hidden": self.hidden, "code_dim": self.code_dim, "inputs": inputs, "bound": bound}
        return mean_mlp.make(FrozenConfigDict(fields | own), self.spec)

    def start(self, inputs):
        return reference_params.from_reference(
            self.names, self.params(f"param/{ENCODERS[inputs]}/")
        )

    def named(self, head, params):
        flat = reference_params.to_reference(self.names, params)
        return {f"{head}/encoder/{name}": x for name, x in flat.items()}

    def metric(self, code, task_id):
        """The weighted loss, and its parts under the names of the file."""
        pos, neg, n_pos, n_neg = distance_terms(code, task_id)
        total = pos + neg
        parts = {"metric_pos": pos, "metric_neg": neg, "metric_total": total}
        return self.weight * total, {**parts, "n_pos": n_pos, "n_neg": n_neg, "z": code}

    def of_code(self, case, code, task_id):
        """What the file has of an objective that is given codes."""
        grad, parts = jax.jit(jax.grad(self.metric, has_aux=True))(code, task_id)
        return grad, {f"out/{case}/{name}": x for name, x in parts.items()}

    def of_encoder(self, case, encoder):
        """What the file has of an encoder and two steps of it."""
        view, task_id, params = self.view(), self.source["in/tasks"], self.start(case)

        def loss(params, view, task_id):
            codes = encoder.encode(params, view, None)
            return self.metric(codes.task, task_id)[0], codes

        optimizer = make_optimizer()
        step = jax.jit(gradient_step(loss, optimizer))
        grads, codes = jax.jit(jax.grad(loss, has_aux=True))(params, view, task_id)
        of_code, out = self.of_code(case, codes.task, task_id)
        _, pull = jax.vjp(lambda each: mean_mlp.mean_of_valid(each, view.valid), codes.each)
        once, state, _ = step(params, optimizer.init(params), self.lr, view, task_id)
        twice, *_ = step(once, state, self.lr, view, task_id)
        return codes.task, {
            **out,
            f"out/{case}/z_step": codes.each,
            f"grad/{case}/z": of_code,
            f"grad/{case}/z_step": pull(of_code)[0],
            **self.named(f"grad/{case}", grads),
            **self.named(f"after/{case}", once),
            **self.named(f"after2/{case}", twice),
        }

    def results(self, **changes):
        actual, code = {}, {}
        for case in ENCODERS:
            code[case], found = self.of_encoder(case, self.encoder(case, **changes))
            actual |= found
        for case, tasks in CODE_CASES.items():
            grad, out = self.of_code(case, code["reward"], self.source[f"in/{tasks}"])
            actual |= {**out, f"grad/{case}/z": grad}
        return {k: x for k, x in actual.items() if not k.startswith("after2/dynamics")}
