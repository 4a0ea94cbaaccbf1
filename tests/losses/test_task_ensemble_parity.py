"""IDAQ's ensemble of task models, and a step of it, against its authors' numbers."""

from functools import partial

import jax
import numpy as np
import pytest
from ml_collections import FrozenConfigDict

import reference_params
from golden_npz import PRECISIONS, Recorded, file_of, traced, view_of
from metastar.losses import task_ensemble
from metastar.models import task_ensemble as ensembles
from metastar.ops.optim import descend, make_optimizer
from metastar.types import DataSpec

pytestmark = pytest.mark.parity("baselines")
KINDS = {"reward": "reward_model", "next_obs": "dynamics_model"}


class Ensemble(Recorded):
    """The part `train` of the block."""

    def __init__(self, bits, path):
        super().__init__("baselines", "idaq_train", bits, path)
        cfg = {k.removeprefix("cfg/"): x for k, x in self.source.items() if k.startswith("cfg/")}
        hidden = tuple(int(x) for x in cfg["model_hidden"])
        self.members, self.lr = int(cfg["ensemble"]), float(cfg["model_lr"])
        self.names = reference_params.critic_names(len(hidden))
        obs_dim, action_dim, code_dim = (int(cfg[name]) for name in ("S", "A", "d"))
        zeros = (0.0,) * obs_dim
        spec = DataSpec("fake", obs_dim, action_dim, 1, 9, 10, zeros, zeros)
        own = {name: field.value for name, field in ensembles.DEFAULTS.items()}
        own |= {"members": self.members, "hidden": hidden}
        self.ensemble = ensembles.make(FrozenConfigDict(own), spec, code_dim)

    def start(self):
        def stacked(kind):
            each = (self.params(f"param/{kind}{i}/") for i in range(self.members))
            found = [reference_params.from_reference(self.names, one) for one in each]
            return jax.tree.map(lambda *x: np.stack(x), *found)

        return {name: stacked(kind) for name, kind in KINDS.items()}

    def view(self):
        names = ("obs", "actions", "rewards", "next_obs", "terminals")
        each = (
            view_of(*(self.source[f"in/train_batch{i}/{name}"] for name in names))
            for i in range(self.members)
        )
        return jax.tree.map(lambda *x: np.stack(x), *each)

    def theirs(self, head, tree, only=None):
        found = {}
        for name, kind in KINDS.items():
            for i in range(self.members):
                own = jax.tree.map(lambda x, i=i: x[i], tree[name])
                flat = reference_params.to_reference(self.names, own)
                found |= {f"{head}/{kind}{i}/{k}": x for k, x in flat.items()}
        return {k: x for k, x in found.items() if only is None or only in k}

    def results(self):
        code, view = self.source["in/train_z"], self.view()

        def run(params):
            def graded(first_dynamics):
                loss = partial(
                    task_ensemble.loss, ensemble=self.ensemble, first_dynamics=first_dynamics
                )
                (value, _), grads = jax.value_and_grad(loss, has_aux=True)(params, code, view)
                return value, grads

            (coded, grads), (repaired, whole) = graded(False), graded(True)
            optimizer = make_optimizer()
            after, _ = descend(optimizer, params, optimizer.init(params), self.lr, grads)
            of_reward, of_next = task_ensemble.errors(params, code, view, self.ensemble)
            return {
                "out/train/loss": coded,
                "out/train/loss_repaired": repaired,
                "out/train/reward_mse": of_reward,
                "out/train/dynamics_mse": of_next,
                **self.theirs("grad/train", grads),
                **self.theirs("grad/train_repaired", whole, "dynamics_model0"),
                **self.theirs("after/train", after),
            }

        return traced(run, self.start())


@pytest.fixture(scope="module", params=PRECISIONS)
def recorded(request):
    with jax.enable_x64(request.param == 64):
        yield Ensemble(request.param, file_of("baselines", request.config))


def test_every_recorded_number(recorded):
    assert not recorded.misses(recorded.results())
