"""Updates of UNICORN's encoder and decoder against numbers recorded from its authors' code.

The supervised variant has no code; its numbers are of the formula of the paper.
"""

from functools import cached_property

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import reference_params
from contextual_record import KEY, ContextualRecord
from golden_npz import PRECISIONS, file_of, gradient
from metastar.losses import objective
from metastar.methods import contextual
from metastar.methods.contextual import ENCODER, NET, TASK_LOSSES
from metastar.models.encoders.mean_mlp import LOG_VARIANCE, VARIANCES, inputs_of, mean_of_valid
from metastar.models.nets.heads import Decoder
from metastar.models.nets.mlp import MLP
from metastar.types import Batch, Codes

pytestmark = pytest.mark.parity("baselines")
HEADS = {"next_obs": "state_decoder", "reward": "reward_decoder"}


class Unicorn(ContextualRecord):
    """The block without its agent."""

    def __init__(self, bits, path):
        super().__init__("unicorn", bits, path)
        by_task = lambda x: x.swapaxes(0, 1)  # noqa: E731
        view = self.view("in/context_", by_task)
        task_id = self.source["in/tasks"]
        self.batch = Batch(task_id, None, {"context": view, "real": view})
        noise = self.source["noise/encoder"]
        self.noise = by_task(noise.reshape(*view.reward.shape[::-1], -1))

    def system(self, **values):
        system, hp = self.bind(
            encoder__mean_mlp__inputs="terminal", encoder__mean_mlp__sampled=True, **values
        )
        encoder = system.encoder._replace(
            draw_noise=lambda key, shape: jnp.asarray(self.noise)[None]
        )
        return system._replace(encoder=encoder), hp

    # --- their names and layouts

    def encoder(self):
        names = reference_params.critic_names(len(self.hidden["encoder_hidden"]))
        return {ours: f"encoder.{theirs}" for ours, theirs in names.items()}

    def net(self):
        params = self.params("param/encoder/")
        return {
            **reference_params.from_reference(self.encoder(), params),
            LOG_VARIANCE: params["log_var"][0],
        }

    def of_net(self, head, params):
        params = dict(params)
        log_var = params.pop(LOG_VARIANCE)
        flat = reference_params.to_reference(self.encoder(), params)
        return {f"{head}/encoder/{name}": x for name, x in {**flat, "log_var": log_var}.items()}

    def layers(self):
        names = {"hidden_0": "hidden_layers.0.0", "hidden_1": "hidden_layers.1.0"}
        return {**names, "output": "mean_and_logvar"}

    def order(self):
        """Rows of the reference's (z, s, a) in our order (s, a, z)."""
        num = self.source["param/reward_decoder/hidden_layers.0.0.weight"].shape[1]
        return np.roll(np.arange(num), -self.code_dim)

    def head(self, name):
        params = self.params(f"param/{HEADS[name]}/")
        found = {k: params[k][0] for k in ("max_logvar", "min_logvar")}
        for ours, theirs in self.layers().items():
            kernel, bias = params[f"{theirs}.weight"][0], params[f"{theirs}.bias"][0, 0]
            kernel = kernel[self.order()] if ours == "hidden_0" else kernel
            found[ours] = {"kernel": kernel, "bias": bias}
        return found

    def of_heads(self, kind, params):
        found = {}
        for name, head in HEADS.items():
            own = {k: params[name][k] for k in ("max_logvar", "min_logvar")}
            for ours, theirs in self.layers().items():
                kernel = params[name][ours]["kernel"]
                kernel = kernel[np.argsort(self.order())] if ours == "hidden_0" else kernel
                own |= {f"{theirs}.weight": kernel, f"{theirs}.bias": params[name][ours]["bias"]}
            found |= {f"{kind}/{head}/{k}": x for k, x in own.items()}
        return found

    # --- results

    def results(self, share=1.0):
        """Of both variants, the first with this share of the weight of its distances."""
        start = {
            "net": self.net(),
            "heads": {name: self.head(name) for name in HEADS},
            "classifier": self.classifier(),
        }
        return jax.device_get(self.run(start, self.batch, share * self.cfg["weight"]))

    @cached_property
    def run(self):
        return jax.jit(
            lambda start, batch, weight: (
                self.selfsupervised(start, batch, weight) | self.supervised(start, batch)
            )
        )

    def selfsupervised(self, start, batch, weight):
        """Two updates, and what lies inside the first."""
        system, hp = self.system(
            task_losses__distance=1.0,
            task_losses__reconstruction=1.0,
            reconstruction__width=self.hidden["decoder_hidden"][0],
            reconstruction__reward_given="action",
        )
        hp["task_losses"]["distance"] = weight
        own = {"reconstruction": start["heads"]}
        state = self.state(system, start["net"], own, None)
        once, metrics = contextual.update(system, state, batch, KEY, hp, 0)
        twice, _ = contextual.update(system, once, batch, KEY, hp, 1)
        moment = gradient(once[ENCODER].opt_state)
        return {
            **self.of_net("grad", moment[NET]),
            **self.of_heads("grad", moment[TASK_LOSSES]["reconstruction"]),
            **self.of_net("after", once[ENCODER].params[NET]),
            **self.of_heads("after", once[ENCODER].params[TASK_LOSSES]["reconstruction"]),
            **self.of_net("after2", twice[ENCODER].params[NET]),
            **self.inside(system, start["net"], own, batch, hp, metrics),
        }

    def inside(self, system, net, own, batch, hp, metrics):
        view, heads = batch.views["context"], own["reconstruction"]
        std = jnp.sqrt(jnp.clip(jnp.exp(net[LOG_VARIANCE]), *VARIANCES))
        encoder = MLP(self.hidden["encoder_hidden"], self.code_dim)
        mean = encoder.apply({"params": net}, inputs_of(view, "terminal"))
        sample = mean + jnp.broadcast_to(std, mean.shape) * self.noise

        def bounded(sample):
            each = jnp.tanh(sample)
            return Codes(mean_of_valid(each, view.valid), each)

        codes, pull = jax.vjp(bounded, sample)
        of_code = jax.grad(lambda z: self.of_code(z, own, batch, system, hp))(codes.task)
        (of_sample,) = pull(Codes(of_code, jnp.zeros_like(codes.each)))
        by_row = lambda x: x.swapaxes(0, 1).reshape(-1, x.shape[-1])  # noqa: E731
        code = jnp.broadcast_to(codes.task[:, None], codes.each.shape)
        given = jnp.concatenate([view.obs, view.action, code], -1)
        out = {"mean": mean, "sample": sample, "z_step": codes.each}
        losses = {}
        for name, theirs in (("next_obs", "state"), ("reward", "reward")):
            features = self.obs_dim if name == "next_obs" else 1
            decoder = Decoder(self.hidden["decoder_hidden"], features)
            found = decoder.apply({"params": heads[name]}, given)
            out |= {f"{theirs}_mean": found[0], f"{theirs}_logvar": found[1]}
            spread = heads[name]["max_logvar"].sum() - heads[name]["min_logvar"].sum()
            losses[f"{theirs}_loss"] = metrics[f"reconstruction_{name}"] + 0.01 * spread
        recon, weight = metrics["reconstruction"], hp["task_losses"]["distance"]
        out = {name: by_row(x) for name, x in out.items()} | losses
        out |= {"std": std, "z": codes.task, "loss_recon": recon}
        out |= {"metric_loss": metrics["distance"], "alpha": weight / (1 + weight)}
        out["loss_total"] = recon + weight * metrics["distance"]
        grads = {"grad/z": of_code, "grad/sample": by_row(of_sample)}
        return grads | {f"out/{name}": x for name, x in out.items()}

    def of_code(self, code, networks, batch, system, hp):
        rest = batch, dict.fromkeys(system.task_losses), hp, system.task_losses
        return objective.loss(networks, {}, {"context": Codes(code)}, *rest)[0]

    def classifier(self):
        names = reference_params.critic_names(len(self.hidden["classifier_hidden"]))
        return reference_params.from_reference(names, self.params("param/classifier/"))

    def supervised(self, start, batch):
        """One update of the classifier and the encoder."""
        hidden = self.hidden["classifier_hidden"]
        system, hp = self.system(
            task_losses__distance=0.0,
            task_losses__classification=1.0,
            classification__layers=len(hidden),
            classification__width=hidden[0],
        )
        net, own = start["net"], {"classification": start["classifier"]}
        state = self.state(system, net, own, None)
        end, metrics = contextual.update(system, state, batch, KEY, hp, 0)
        moment = gradient(end[ENCODER].opt_state)
        names = reference_params.critic_names(len(hidden))
        flat = reference_params.to_reference(names, moment[TASK_LOSSES]["classification"])
        code = system.encoder.encode(net, batch.views["context"], self.noise).task
        of_code = jax.grad(lambda z: self.of_code(z, own, batch, system, hp))(code)
        net = MLP(hidden, int(self.cfg["n_train_tasks"]))
        return {
            "out/sup/loss": metrics["classification"],
            "out/sup/logits": net.apply({"params": start["classifier"]}, code),
            "grad/sup/z": of_code,
            **{f"grad/sup/classifier/{name}": x for name, x in flat.items()},
            **self.of_net("grad/sup", moment[NET]),
        }


@pytest.fixture(scope="module", params=PRECISIONS)
def unicorn(request):
    with jax.enable_x64(request.param == 64):
        yield Unicorn(request.param, file_of("baselines", request.config))


def test_every_recorded_number(unicorn):
    assert not unicorn.misses(unicorn.results())


def test_another_weight_is_found(unicorn):
    wrong = unicorn.misses(unicorn.results(share=1.001))
    assert any("loss_total" in line for line in wrong)
    assert unicorn.bits == 32 or any("after/encoder" in line for line in wrong)
