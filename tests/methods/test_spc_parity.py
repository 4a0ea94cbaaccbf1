"""SPC against numbers recorded from its authors' code: parts, gradients, updates, sequences.

`--reference=FILE` takes another file of the same layout, of any sizes.
"""

import jax
import jax.numpy as jnp
import pytest

from golden_npz import file_with
from metastar.losses import latent_dynamics as model_loss
from metastar.models.latent_dynamics import KINDS
from metastar.ops import memory_infonce
from spc_record import Spc

slow = pytest.param(32, marks=pytest.mark.slow, id="float32")


@pytest.fixture(scope="module", params=[slow, pytest.param(64, id="float64")])
def spc(request):
    with jax.enable_x64(request.param == 64):
        yield Spc(request.param, file_with("cfg/fsq_levels", "spc_step.npz", request.config))


def test_every_recorded_number_of_spc(spc):
    assert not spc.only(()).misses(spc.results(), grad_error=2e-4)


@pytest.mark.parametrize(
    "kind", [KINDS[1], *(pytest.param(k, marks=pytest.mark.slow) for k in KINDS[2:])]
)
def test_every_recorded_number_of_the_other_world_models(spc, kind):
    assert not spc.only((kind,)).misses(spc.of_kind(kind), grad_error=2e-4)


def test_wrong_masks_samples_and_rows_of_the_memory_are_found(spc):
    code, weights = spc.coded(spc.start("ctx"))[0], spc.hp["world_model"]
    model, params, view = spc.model(), spc.world(), spc.sequence()
    noise = spc.noise("step/gumbel")
    target = model.target(spc.start("enc_target"), view.next_obs)
    late = model.target(spc.start("enc"), view.next_obs)
    recorded = spc.expected["out/step/loss_wm"]

    @jax.jit
    def losses():
        given = [(target, noise, True), (target, noise, False), (late, noise, True)]
        given.append((target, jnp.flip(noise, -1), True))
        return [
            model_loss.loss(params, code, aim, view, drawn, weights, model, masks)[0]
            for aim, drawn, masks in given
        ]

    right, *wrong = (abs(float(x) - recorded) for x in losses())
    assert right < 1e-5 and min(wrong) > 1e-3
    args = (spc.source[f"in/nce/b_{name}"] for name in ("z", "ids", "memory"))
    last, _ = memory_infonce.infonce(*args, weights["tau"], 20.0, "last")
    assert abs(float(last) - spc.expected["out/nce/b_mean_loss"]) > 1e-5
