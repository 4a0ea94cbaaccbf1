"""Updates of ER-TRL's encoder and its adversarial networks against its authors' numbers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import reference_params
from contextual_record import KEY, ContextualRecord, opponents_of
from golden_npz import PRECISIONS, file_of, gradient, traced
from metastar.losses import objective
from metastar.losses.task import conditional_entropy
from metastar.methods import contextual
from metastar.methods.contextual import ENCODER, NET, OPPONENTS
from metastar.models.nets.mlp import MLP
from metastar.ops.optim import make_optimizer
from metastar.types import Batch, Codes

pytestmark = pytest.mark.parity("baselines")
LOSS = "conditional_entropy"
NETS = ("discriminator", "generator")


class ErTrl(ContextualRecord):
    """The block, with whole updates of the method in its place."""

    def __init__(self, bits, path):
        super().__init__("er_trl", bits, path)
        views = {"context": self.view("in/context_"), "real": self.view("in/batch/")}
        self.batch = Batch(self.source["in/tasks"], None, views)
        self.steps = int(self.cfg["gan_steps"])
        shape = (*views["real"].reward.shape, -1)
        names = [f"gan{k}" for k in range(self.steps)] + ["entropy"]
        self.noise = np.stack([self.source[f"noise/{name}"].reshape(shape) for name in names])

    def system(self):
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
        }
        system, hp = self.bind(
            task_losses__distance=self.cfg["metric_weight"],
            task_losses__conditional_entropy=self.cfg["entropy_weight"],
            **{f"{LOSS}__{name}": x for name, x in settings.items()},
        )
        one = system.task_losses[LOSS]
        # The stored noise in place of draws: the inner steps tell their keys apart by the number.
        stored = jnp.asarray(self.noise)
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

    def results(self):
        start = {net: self.ours(net) for net in ("encoder", "decoder", *NETS)}

        def run(start, batch):
            return self.updated(start, batch) | self.prediction(start, batch)

        return traced(run, start, self.batch)

    def updated(self, start, batch):
        """An update, and what lies inside it."""
        system, hp = self.system()
        params = {net: start[net] for net in NETS}
        opponents = opponents_of({LOSS: params}, apart=True)
        state = self.state(system, start["encoder"], {}, opponents)
        end, metrics = self.update(system, state, batch, hp)
        moved, weight = end[OPPONENTS].params[LOSS], hp["task_losses"]
        actual = {
            **self.theirs("grad", "encoder", gradient(end[ENCODER].opt_state)[NET]),
            **self.theirs("after", "encoder", end[ENCODER].params[NET]),
            "out/entropy_loss": weight[LOSS] * metrics[LOSS],
            "out/metric_loss": weight["distance"] * metrics["distance"],
        }
        for net in NETS:
            actual |= self.theirs("after", net, moved[net])
        code = system.encoder.encode(start["encoder"], batch.views["context"], None)
        start = params, opponents.opt_state[LOSS]
        actual |= self.inner_steps(system.task_losses[LOSS].opponent, start, code, batch, hp)
        return actual | self.of_codes(system, moved, code, batch, hp)

    def update(self, system, state, batch, hp):
        """The method's, with the numbers of the inner steps as their keys."""
        train, split = objective.train_opponents, jax.random.split

        def counted(*args):
            with pytest.MonkeyPatch.context() as patch:
                count = lambda key, num=None: split(key) if num is None else jnp.arange(num)  # noqa: E731
                patch.setattr(jax.random, "split", count)
                return train(*args)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(objective, "train_opponents", counted)
            return contextual.update(system, state, batch, KEY, hp, 0)

    def generate(self, params, obs, code, noise):
        x = jnp.concatenate([obs, code, noise], -1)
        net = MLP(self.hidden["generator_hidden"], self.action_dim)
        return jnp.tanh(net.apply({"params": params["generator"]}, x))

    def inner_steps(self, opponent, start, code, batch, hp):
        """The steps of the two networks one by one."""
        real, codes, optimizer = batch.views["real"], {"context": code}, make_optimizer()
        repeated = jnp.broadcast_to(code.task[:, None], (*real.reward.shape, self.code_dim))

        def judge(params, action):
            x = jnp.concatenate([real.obs, action, repeated], -1)
            net = MLP(self.hidden["discriminator_hidden"], 1)
            return jax.nn.sigmoid(net.apply({"params": params["discriminator"]}, x))

        def step(moving, noise):
            fake = self.generate(moving[0], real.obs, repeated, noise)
            after, _ = objective._opponent_step(
                opponent, optimizer, *moving, hp[LOSS]["lr"], codes, batch, noise
            )
            seen = {
                "fake_actions": fake,
                "d_real": judge(moving[0], real.action),
                "d_fake": judge(moving[0], fake),
                "d_fake_updated": judge(after[0], fake),
            }
            seen["loss_real"] = -jnp.log(seen["d_real"]).mean()
            seen["loss_fake"] = -jnp.log(1 - seen["d_fake"]).mean()
            seen["loss_generator"] = -jnp.log(seen["d_fake_updated"]).mean()
            return after, (seen, {net: gradient(after[1][net], moving[1][net]) for net in NETS})

        _, found = jax.lax.scan(step, start, self.noise[: self.steps])
        actual = {}
        for k in range(self.steps):
            seen, grads = jax.tree.map(lambda x, k=k: x[k], found)
            actual |= {f"out/gan{k}/{name}": x for name, x in seen.items()}
            if k in (0, self.steps - 1):
                for net in NETS:
                    actual |= self.theirs(f"grad/gan{k}", net, grads[net])
        return actual

    def of_codes(self, system, moved, code, batch, hp):
        """The entropy after the inner steps, and the two gradients in the codes."""
        real = batch.views["real"]
        repeated = jnp.broadcast_to(code.task[:, None], (*real.reward.shape, self.code_dim))
        action = self.generate(moved, real.obs, repeated, self.noise[-1])
        centred = action - action.mean(1, keepdims=True)
        ridge = self.cfg["cov_epsilon"] * jnp.eye(self.action_dim)[None]
        covariance = jnp.einsum("mba,mbc->mac", centred, centred) / (action.shape[1] - 1) + ridge
        entropy = jax.vmap(conditional_entropy._entropy)(action, real.valid)

        def of_code(z, name):
            rest = {"context": Codes(z)}, batch, {LOSS: self.noise[-1], "distance": None}
            one = {name: system.task_losses[name]}
            return objective.loss({}, {LOSS: moved}, *rest, hp, one)[0]

        return {
            "out/z": code.task,
            "out/entropy_actions": action,
            "out/covariance": covariance,
            "out/entropy": entropy,
            "grad/z_from_entropy": jax.grad(of_code)(code.task, LOSS),
            "grad/z_from_metric": jax.grad(of_code)(code.task, "distance"),
        }

    def prediction(self, start, batch):
        """What that repository calls UNICORN: squared errors of a decoder beside the distances.

        The house has no such loss. Encoder, network and distances are its own.
        """
        system, hp = self.system()
        real, source, distance = batch.views["real"], self.source, system.task_losses["distance"]
        scaled = (real.next_obs - real.obs) / source["in/obs_std"][None, None]
        reward = (real.reward - source["in/reward_mean"][0]) / source["in/reward_std"][0]
        target = jnp.concatenate([scaled, reward[..., None]], -1)
        net = MLP(self.hidden["decoder_hidden"], target.shape[-1])

        def loss(encoder, decoder):
            code = system.encoder.encode(encoder, batch.views["context"], None)
            repeated = jnp.broadcast_to(code.task[:, None], (*real.reward.shape, self.code_dim))
            x = jnp.concatenate([real.obs, real.action, repeated], -1)
            output = net.apply({"params": decoder}, x)
            error = self.cfg["decoder_weight"] * ((output - target) ** 2).mean()
            rest = {"context": code}, batch, {"distance": None}, hp, {"distance": distance}
            metric, _ = objective.loss({}, {}, *rest)
            return error + metric, {"output": output, "loss": error, "metric_loss": metric}

        args = start["encoder"], start["decoder"]
        grads, out = jax.grad(loss, (0, 1), has_aux=True)(*args)
        actual = {f"out/prediction/{name}": x for name, x in out.items()}
        for name, grad in zip(("encoder", "decoder"), grads):
            actual |= self.theirs("grad/prediction", name, grad)
        return actual


@pytest.fixture(scope="module", params=PRECISIONS)
def er_trl(request):
    with jax.enable_x64(request.param == 64):
        yield ErTrl(request.param, file_of("baselines", request.config))


def test_every_recorded_number(er_trl):
    assert not er_trl.misses(er_trl.results())
