"""SPC against numbers recorded from its authors' code: parts, gradients, updates, sequences."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from golden_npz import KINDS, PRECISIONS, file_of, traced
from metastar.losses import latent_dynamics as model_loss
from metastar.ops.memory_infonce import infonce
from spc_record import MODEL_PARTS, Spc

pytestmark = pytest.mark.parity("spc")
first, *others = KINDS
kinds = [first, *(pytest.param(kind, marks=pytest.mark.slow) for kind in others)]


@pytest.fixture(scope="module", params=PRECISIONS)
def recorded(request):
    """Makes the record of a name."""
    with jax.enable_x64(request.param == 64):
        path = file_of("spc", request.config)
        yield lambda name: Spc(name, request.param, path)


def test_every_recorded_number_of_spc(recorded):
    spc = recorded("step")
    assert not spc.misses(spc.results())


@pytest.mark.parametrize("kind", kinds)
def test_every_recorded_number_of_the_other_world_models(recorded, kind):
    spc = recorded(kind)
    assert not spc.misses(spc.of_kind())


def test_wrong_masks_samples_and_rows_of_the_memory_are_found(recorded):
    spc = recorded("step")
    view, weights, model = spc.sequence(), spc.hp["world_model"], spc.model()

    def losses(start, noise):
        params = {name: start[group] for name, group in MODEL_PARTS.items()}
        code = spc.coded(start["ctx"])[0]["context"].task
        target, late = (model.target(start[name], view.next_obs) for name in ("enc_target", "enc"))
        given = (target, noise), (late, noise), (target, noise[..., ::-1])
        targets, drawn = jax.tree.map(lambda *x: jnp.stack(x), *given)

        def one(target, noise, masks=True):
            return model_loss.loss(params, code, target, view, noise, weights, model, masks)[0]

        memory = (spc.source[f"in/nce/b_{name}"] for name in ("z", "ids", "memory"))
        scales = spc.cfg["infonce_tau"], spc.cfg["infonce_radius"]
        unmasked, (last, _) = one(target, noise, False), infonce(*memory, *scales, "last")
        return jax.vmap(one)(targets, drawn), unmasked, last

    found, unmasked, last = traced(losses, spc.groups(), spc.noise("step/gumbel"))
    right, *wrong = np.abs(np.append(found, unmasked) - spc.expected["out/step/loss_wm"])
    assert right < 1e-5 and min(wrong) > 1e-3
    assert abs(last - spc.expected["out/nce/b_mean_loss"]) > 1e-5
