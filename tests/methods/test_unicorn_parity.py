"""Updates of UNICORN's encoder and decoder against numbers recorded from its authors' code.

The supervised variant has no code; its numbers are of the formula of the paper.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import reference_params
from contextual_record import KEY, ContextualRecord, gradient
from golden_npz import PRECISIONS
from metastar.losses import objective
from metastar.methods import contextual
from metastar.methods.contextual import ENCODER, NET, TASK_LOSSES
from metastar.models.encoders.mean_mlp import LOG_VARIANCE, VARIANCES, inputs_of, mean_of_valid
from metastar.models.nets.heads import Decoder
from metastar.models.nets.mlp import MLP
from metastar.types import Batch, Codes

HEADS = {"next_obs": "state_decoder", "reward": "reward_decoder"}


class Unicorn(ContextualRecord):
    """The block without its agent."""

    def __init__(self, bits):
        super().__init__("unicorn", bits)
        self.expected = {k: x for k, x in self.expected.items() if "/rl/" not in k}
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
        encoder = system.encoder._replace(draw_noise=lambda key, shape: self.noise[None])
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

    def selfsupervised(self, weight=None, **values):
        """Two updates, and what lies inside the first."""
        weight = self.cfg["weight"] if weight is None else weight
        system, hp = self.system(
            task_losses__distance=weight,
            task_losses__reconstruction=1.0,
            reconstruction__width=self.hidden["decoder_hidden"][0],
            **{"reconstruction__reward_given": "action", **values},
        )
        heads = {name: self.head(name) for name in HEADS}
        state = self.state(system, self.net(), {"reconstruction": heads}, None)
        update = jax.jit(lambda s, step: contextual.update(system, s, self.batch, KEY, hp, step))
        once, metrics = update(state, 0)
        twice, _ = update(once, 1)
        moment = gradient(once[ENCODER])
        actual = {
            **self.of_net("grad", moment[NET]),
            **self.of_heads("grad", moment[TASK_LOSSES]["reconstruction"]),
            **self.of_net("after", once[ENCODER].params[NET]),
            **self.of_heads("after", once[ENCODER].params[TASK_LOSSES]["reconstruction"]),
            **self.of_net("after2", twice[ENCODER].params[NET]),
        }
        return actual | jax.jit(partial(self.inside, system))(hp, heads, metrics)

    def inside(self, system, hp, heads, metrics):
        net, view = self.net(), self.batch.views["context"]
        std = jnp.sqrt(jnp.clip(jnp.exp(net[LOG_VARIANCE]), *VARIANCES))
        codes = system.encoder.encode(net, view, self.noise)
        own = {"reconstruction": heads}

        def total(sample):
            each = jnp.tanh(sample)
            code = Codes(mean_of_valid(each, view.valid), each)
            return self.of_code(code, own, system, hp)

        encoder = MLP(self.hidden["encoder_hidden"], self.code_dim)
        mean = encoder.apply({"params": net}, inputs_of(view, "terminal"))
        sample = mean + jnp.broadcast_to(std, mean.shape) * self.noise
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
        of_code = jax.grad(lambda z: self.of_code(Codes(z), own, system, hp))(codes.task)
        grads = {"grad/z": of_code, "grad/sample": by_row(jax.grad(total)(sample))}
        return grads | {f"out/{name}": x for name, x in out.items()}

    def of_code(self, codes, networks, system, hp):
        rest = self.batch, dict.fromkeys(system.task_losses), hp, system.task_losses
        return objective.loss(networks, {}, {"context": codes}, *rest)[0]

    def supervised(self, layers=None):
        """One update of the classifier and the encoder."""
        hidden = self.hidden["classifier_hidden"]
        system, hp = self.system(
            task_losses__distance=0.0,
            task_losses__classification=1.0,
            classification__layers=len(hidden),
            classification__width=hidden[0],
        )
        names = reference_params.critic_names(len(hidden))
        own = reference_params.from_reference(names, self.params("param/classifier/"))
        net = self.net()
        state = self.state(system, net, {"classification": own}, None)
        end, metrics = jax.jit(
            lambda state: contextual.update(system, state, self.batch, KEY, hp, 0)
        )(state)
        moment = gradient(end[ENCODER])
        flat = reference_params.to_reference(names, moment[TASK_LOSSES]["classification"])
        codes = system.encoder.encode(net, self.batch.views["context"], self.noise)
        of_code = jax.grad(lambda z: self.of_code(Codes(z), {"classification": own}, system, hp))(
            codes.task
        )
        x = codes.task
        for i in range(len(hidden)):
            x = jax.nn.relu(x @ own[f"hidden_{i}"]["kernel"] + own[f"hidden_{i}"]["bias"][None])
        return {
            "out/sup/loss": metrics["classification"],
            "out/sup/logits": x @ own["output"]["kernel"] + own["output"]["bias"][None],
            "grad/sup/z": of_code,
            **{f"grad/sup/classifier/{name}": x for name, x in flat.items()},
            **self.of_net("grad/sup", moment[NET]),
        }


@pytest.fixture(scope="module", params=PRECISIONS)
def unicorn(request):
    with jax.enable_x64(request.param == 64):
        yield Unicorn(request.param)


def test_every_recorded_number(unicorn):
    assert not unicorn.misses(unicorn.selfsupervised() | unicorn.supervised())


def test_another_weight_is_found(unicorn):
    found = unicorn.selfsupervised(weight=1.001 * unicorn.cfg["weight"])
    assert unicorn.misses({**unicorn.expected, **found})
