"""Updates of ER-TRL's encoder and its adversarial networks against its authors' numbers."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import reference_params
from contextual_record import KEY, ContextualRecord, gradient
from golden_npz import PRECISIONS
from metastar.losses import objective
from metastar.losses.task import conditional_entropy
from metastar.methods import contextual
from metastar.methods.contextual import ENCODER, NET, OPPONENTS
from metastar.models.nets.mlp import MLP
from metastar.ops.optim import make_optimizer
from metastar.types import Batch, Codes, Learner

LOSS = "conditional_entropy"
NETS = ("discriminator", "generator")


class ErTrl(ContextualRecord):
    """The block without the other method of that repository, `prediction`."""

    def __init__(self, bits):
        super().__init__("er_trl", bits)
        self.expected = {k: x for k, x in self.expected.items() if "/prediction/" not in k}
        views = {"context": self.view("in/context_"), "real": self.view("in/batch/")}
        self.batch = Batch(self.source["in/tasks"], None, views)
        self.steps = int(self.cfg["gan_steps"])
        shape = (*views["real"].reward.shape, -1)
        names = [f"gan{k}" for k in range(self.steps)] + ["entropy"]
        self.noise = [self.source[f"noise/{name}"].reshape(shape) for name in names]

    def system(self, **values):
        generator, discriminator = (self.hidden[f"{net}_hidden"] for net in NETS[::-1])
        settings = {
            "width": generator[0],
            "generator_layers": len(generator),
            "discriminator_width": discriminator[0],
            "noise_dim": int(self.cfg["generator_dim"]),
            "rows": int(self.cfg["B"]),
            "turns": "one_by_one",
            "lr": self.cfg["gan_lr"],
            "inner_steps": self.steps,
            **values,
        }
        system, hp = self.bind(
            task_losses__distance=self.cfg["metric_weight"],
            task_losses__conditional_entropy=self.cfg["entropy_weight"],
            **{f"{LOSS}__{name}": x for name, x in settings.items()},
        )
        one = system.task_losses[LOSS]
        # The stored noise in place of draws: the inner steps tell their keys apart by the number.
        stored = jnp.stack(self.noise)
        opponent = one.opponent._replace(draw_noise=lambda key, batch: stored[key])
        one = one._replace(draw_noise=lambda key, batch: stored[-1], opponent=opponent)
        return system._replace(task_losses={**system.task_losses, LOSS: one}), hp

    # --- their names and layouts

    def names(self, net):
        return reference_params.critic_names(len(self.hidden[f"{net}_hidden"]))

    def order(self):
        """Columns of the reference's (a, s, z) in our order (s, a, z)."""
        a, s, z = self.action_dim, self.obs_dim, self.code_dim
        return np.r_[a : a + s, :a, a + s : a + s + z]

    def ours(self, net):
        params = self.params(f"param/{net}/")
        if net == "discriminator":
            params["fc0.weight"] = params["fc0.weight"][:, self.order()]
        return reference_params.from_reference(self.names(net), params)

    def theirs(self, head, net, params):
        flat = reference_params.to_reference(self.names(net), params)
        if net == "discriminator":
            flat["fc0.weight"] = flat["fc0.weight"][:, np.argsort(self.order())]
        return {f"{head}/{net}/{name}": x for name, x in flat.items()}

    # --- results

    def results(self, **values):
        system, hp = self.system(**values)
        params = {LOSS: {net: self.ours(net) for net in NETS}}
        optimizer = make_optimizer()
        opt_state = {net: optimizer.init(params[LOSS][net]) for net in NETS}
        opponents = Learner(params, opt_state={LOSS: opt_state})
        state = self.state(system, self.ours("encoder"), {}, opponents)
        end, metrics = jax.jit(partial(self.update, system))(state, hp)
        moment = gradient(end[ENCODER])
        actual = self.theirs("grad", "encoder", moment[NET])
        actual |= self.theirs("after", "encoder", end[ENCODER].params[NET])
        moved = end[OPPONENTS].params[LOSS]
        for net in NETS:
            actual |= self.theirs("after", net, moved[net])
        inside = jax.jit(partial(self.inside, system))(params[LOSS], moved, hp)
        weight = hp["task_losses"]
        return actual | {
            **inside,
            "out/entropy_loss": weight[LOSS] * metrics[LOSS],
            "out/metric_loss": weight["distance"] * metrics["distance"],
        }

    def update(self, system, state, hp):
        """The method's, with the numbers of the inner steps as their keys."""
        with pytest.MonkeyPatch.context() as patch:
            split = jax.random.split
            count = lambda key, num=2: jnp.arange(num) if num == self.steps else split(key, num)  # noqa: E731
            patch.setattr(objective.jax.random, "split", count)
            return contextual.update(system, state, self.batch, KEY, hp, 0)

    def inside(self, system, start, end, hp):
        """The inner steps one by one, and the entropy after them."""
        code = system.encoder.encode(self.ours("encoder"), self.batch.views["context"], None)
        real, codes = self.batch.views["real"], {"context": code}
        repeated = jnp.broadcast_to(code.task[:, None], (*real.reward.shape, self.code_dim))

        def generate(params, noise, code=repeated):
            x = jnp.concatenate([real.obs, code, noise], -1)
            hidden = self.hidden["generator_hidden"]
            return jnp.tanh(MLP(hidden, self.action_dim).apply({"params": params["generator"]}, x))

        def judge(params, action):
            x = jnp.concatenate([real.obs, action, repeated], -1)
            net = MLP(self.hidden["discriminator_hidden"], 1)
            return jax.nn.sigmoid(net.apply({"params": params["discriminator"]}, x))

        actual = {"out/z": code.task}
        opponent, optimizer = system.task_losses[LOSS].opponent, make_optimizer()
        params, opt_state = start, {net: optimizer.init(start[net]) for net in NETS}
        for k in range(self.steps):
            fake = generate(params, self.noise[k])
            seen = {"d_real": judge(params, real.action), "d_fake": judge(params, fake)}
            (moved, opt_state), _ = objective._opponent_step(
                opponent, optimizer, params, opt_state, hp[LOSS]["lr"], codes, self.batch,
                self.noise[k],
            )  # fmt: skip
            updated = judge({**moved, "generator": params["generator"]}, fake)
            seen |= {"fake_actions": fake, "d_fake_updated": updated}
            seen["loss_real"] = -jnp.log(seen["d_real"]).mean()
            seen["loss_fake"] = -jnp.log(1 - seen["d_fake"]).mean()
            seen["loss_generator"] = -jnp.log(updated).mean()
            actual |= {f"out/gan{k}/{name}": x for name, x in seen.items()}
            if k in (0, self.steps - 1):
                half = {"discriminator": params, "generator": {**params, **moved}}
                half["generator"]["generator"] = params["generator"]
                for net in NETS:
                    grads = jax.grad(
                        lambda p, k=k: opponent.loss(p, codes, self.batch, self.noise[k])[0]
                    )
                    actual |= self.theirs(f"grad/gan{k}", net, grads(half[net])[net])
            params = moved
        action = generate(end, self.noise[-1])
        centred = action - action.mean(1, keepdims=True)
        ridge = self.cfg["cov_epsilon"] * jnp.eye(self.action_dim)[None]
        covariance = jnp.einsum("mba,mbc->mac", centred, centred) / (action.shape[1] - 1) + ridge
        entropy = jax.vmap(conditional_entropy._entropy)(action, real.valid)
        out = {"entropy_actions": action, "covariance": covariance, "entropy": entropy}

        def of_code(z, name):
            rest = {"context": Codes(z)}, self.batch, {LOSS: self.noise[-1], "distance": None}
            one = {name: system.task_losses[name]}
            return objective.loss({}, {LOSS: end}, *rest, hp, one)[0]

        for name, theirs in ((LOSS, "entropy"), ("distance", "metric")):
            actual[f"grad/z_from_{theirs}"] = jax.grad(of_code)(code.task, name)
        return actual | {f"out/{name}": x for name, x in out.items()}


@pytest.fixture(scope="module", params=PRECISIONS)
def er_trl(request):
    with jax.enable_x64(request.param == 64):
        yield ErTrl(request.param)


def test_every_recorded_number(er_trl):
    assert not er_trl.misses(er_trl.results())
