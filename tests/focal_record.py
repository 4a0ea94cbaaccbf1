"""FOCAL's encoder and objective in place of those of its authors, whose numbers are recorded."""

import jax
import jax.numpy as jnp
from ml_collections import FrozenConfigDict

import reference_params
from golden_npz import Recorded, traced, view_of
from metastar.models.encoders import mean_mlp
from metastar.ops.contrastive import distance_terms
from metastar.ops.optim import descend, make_optimizer
from metastar.types import Codes, DataSpec

ENCODERS = {"reward": "encoder", "dynamics": "encoder_next"}
CODE_CASES = {"distinct": "tasks_distinct", "same": "tasks_same"}


class Focal(Recorded):
    """The block, with our encoder in its place."""

    def __init__(self, bits, path):
        super().__init__("baselines", "focal", bits, path)
        size = {k.removeprefix("cfg/"): x for k, x in self.source.items() if k.startswith("cfg/")}
        self.hidden = tuple(int(x) for x in size["encoder_hidden"])
        self.weight, self.lr = float(size["metric_weight"]), float(size["context_lr"])
        self.code_dim, obs_dim, action_dim = (int(size[name]) for name in ("d", "S", "A"))
        zeros = (0.0,) * obs_dim
        self.spec = DataSpec("fake", obs_dim, action_dim, 1, 4, 10, zeros, zeros)
        self.names = reference_params.critic_names(len(self.hidden))

    def view(self):
        names = ("obs", "actions", "rewards", "next_obs")
        return view_of(*(self.source[f"in/context_{name}"] for name in names))

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
        grad, parts = jax.grad(self.metric, has_aux=True)(code, task_id)
        return grad, {f"out/{case}/{name}": x for name, x in parts.items()}

    def of_encoder(self, case, encoder, params, view):
        """What the file has of an encoder and of one or two steps of it."""
        task_id, optimizer = self.source["in/tasks"], make_optimizer()

        def step(params, opt_state):
            codes, pull = jax.vjp(lambda params: encoder.encode(params, view, None), params)
            of_code, out = self.of_code(case, codes.task, task_id)
            (grads,) = pull(Codes(of_code, jnp.zeros_like(codes.each)))
            moved = descend(optimizer, params, opt_state, self.lr, grads)
            return *moved, grads, codes, of_code, out

        once, opt_state, grads, codes, of_code, out = step(params, optimizer.init(params))
        _, pull = jax.vjp(lambda each: mean_mlp.mean_of_valid(each, view.valid), codes.each)
        actual = {
            **out,
            f"out/{case}/z_step": codes.each,
            f"grad/{case}/z": of_code,
            f"grad/{case}/z_step": pull(of_code)[0],
            **self.named(f"grad/{case}", grads),
            **self.named(f"after/{case}", once),
        }
        if case == "reward":
            actual |= self.named(f"after2/{case}", step(once, opt_state)[0])
        return codes.task, actual

    def results(self):
        def run(starts, view):
            actual, code = {}, {}
            for case, start in starts.items():
                code[case], found = self.of_encoder(case, self.encoder(case), start, view)
                actual |= found
            for case, tasks in CODE_CASES.items():
                grad, out = self.of_code(case, code["reward"], self.source[f"in/{tasks}"])
                actual |= {**out, f"grad/{case}/z": grad}
            return actual

        return traced(run, {case: self.start(case) for case in ENCODERS}, self.view())
