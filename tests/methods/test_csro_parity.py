"""Updates of CSRO's encoder and its bound on information against its authors' numbers."""

import jax
import jax.numpy as jnp
import pytest

import reference_params
from contextual_record import KEY, ContextualRecord, opponents_of
from golden_npz import PRECISIONS, file_of, gradient, traced
from metastar.losses import objective
from metastar.methods import contextual
from metastar.methods.contextual import ENCODER, NET, OPPONENTS
from metastar.models.nets.mlp import MLP
from metastar.types import Batch

pytestmark = pytest.mark.parity("baselines")
CASES = {"club_sa": "action", "club_sar": "reward"}


class Csro(ContextualRecord):
    """The block, with whole updates of the method in its place."""

    def __init__(self, bits, path):
        super().__init__("csro", bits, path)
        view = self.view("in/context_")
        self.batch = Batch(self.source["in/tasks"], None, {"context": view, "real": view})

    def system(self, inputs):
        return self.bind(
            encoder__mean_mlp__inputs="dynamics",
            task_losses__distance=self.cfg["metric_weight"],
            task_losses__club=self.cfg["club_weight"],
            club__codes="transition",
            club__inputs=inputs,
            club__width=self.hidden["club_hidden"][0],
            club__lr=self.cfg["context_lr"],
        )

    def names(self, net):
        hidden = self.hidden["encoder_hidden" if net == "encoder" else "club_hidden"]
        return reference_params.critic_names(len(hidden))

    def ours(self, net):
        return reference_params.from_reference(self.names(net), self.params(f"param/{net}/"))

    def results(self):
        def run(start, batch):
            return self.case("club_sa", start, batch) | self.case("club_sar", start, batch)

        return traced(run, {net: self.ours(net) for net in ("encoder", *CASES)}, self.batch)

    def case(self, case, start, batch):
        system, hp = self.system(CASES[case])
        net, opponents = start["encoder"], {"club": {"net": start[case]}}
        state = self.state(system, net, {}, opponents_of(opponents))
        end, metrics = contextual.update(system, state, batch, KEY, hp, 0)
        moved = end[OPPONENTS].params
        actual = self.inside(system, case, net, batch, opponents, moved, hp)
        weight = hp["task_losses"]
        actual |= {
            f"out/{case}/club_model_loss": metrics["club_fit"],
            f"out/{case}/club_loss": weight["club"] * metrics["club"],
            f"out/{case}/metric_loss": weight["distance"] * metrics["distance"],
        }
        grads = {part: gradient(end[part].opt_state) for part in (OPPONENTS, ENCODER)}
        found = {
            "grad": (grads[OPPONENTS]["net"], grads[ENCODER][NET]),
            "after": (moved["club"]["net"], end[ENCODER].params[NET]),
        }
        for kind, parts in found.items():
            for part, params in zip(("club", "encoder"), parts):
                flat = reference_params.to_reference(self.names(part), params)
                actual |= {f"{kind}/{case}/{part}/{name}": x for name, x in flat.items()}
        return actual

    def inside(self, system, case, net, batch, start, end, hp):
        view = batch.views["context"]
        codes = system.encoder.encode(net, view, None)
        columns = [view.obs, view.action, view.reward[..., None]]
        x = jnp.concatenate(columns[: 2 + (case == "club_sar")], -1)

        def gaussian_of(params):
            found = MLP(self.hidden["club_hidden"], 2 * self.code_dim).apply(
                {"params": params["club"]["net"]}, x
            )
            mean, variance = jnp.split(jnp.tanh(found), 2, -1)
            return mean, jax.nn.softplus(variance)

        out = {"z_step": codes.each, "z": codes.task}
        out |= dict(zip(("club_mean", "club_var"), gaussian_of(start)))
        out |= dict(zip(("club_mean_after", "club_var_after"), gaussian_of(end)))
        mean, variance = gaussian_of(end)
        pairs = (codes.each[:, None] - mean[:, :, None]) ** 2 / variance[:, :, None]
        out["positive"] = -((codes.each - mean) ** 2 / variance).mean()
        out["negative"] = -pairs.mean()

        def weighted(codes, name):
            one = {name: system.task_losses[name]}
            rest = {"context": codes}, batch, {name: None}, hp, one
            return objective.loss({}, end, *rest)[0]

        of_club, of_metric = (jax.grad(weighted)(codes, name) for name in ("club", "distance"))
        actual = {f"out/{case}/{name}": x for name, x in out.items()}
        actual[f"grad/{case}/z_step_from_club"] = of_club.each
        actual[f"grad/{case}/z_from_metric"] = of_metric.task
        return actual


@pytest.fixture(scope="module", params=PRECISIONS)
def csro(request):
    with jax.enable_x64(request.param == 64):
        yield Csro(request.param, file_of("baselines", request.config))


def test_every_recorded_number(csro):
    assert not csro.misses(csro.results())
