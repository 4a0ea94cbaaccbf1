"""The search of IDAQ, and its scores, on the episodes that its authors' code was recorded on."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import reference_params
from golden_npz import PRECISIONS, Recorded, file_of, traced, view_of
from metastar.evaluation import belief, history, predictions
from metastar.evaluation.predictions import Predicted
from metastar.evaluation.protocols import idaq
from metastar.models.encoders.mean_mlp import mean_of_valid
from metastar.models.nets.mlp import MLP
from metastar.types import EnvSpec

pytestmark = pytest.mark.parity("baselines")
FROZEN = {"return": False, "error": True, "spread": True}


class Idaq(Recorded):
    """The parts `scores` and `adapt_*` of the block, with our search in its authors' place."""

    def __init__(self, bits, path):
        super().__init__("baselines", "idaq", bits, path)
        cfg = {k.removeprefix("cfg/"): x for k, x in self.source.items() if k.startswith("cfg/")}
        self.cfg = {k: int(x) for k, x in cfg.items() if x.ndim == 0}
        self.hidden = tuple(int(x) for x in cfg["model_hidden"])
        for key in (key for key in self.expected if key.endswith("min_distance")):
            far = self.expected[key]  # 1e8 stands for "nothing was tried", and would hide the rest
            self.expected[key] = np.where(far == 1e8, -1, far)
        self.spec = EnvSpec("fake", self.cfg["S"], self.cfg["A"], self.cfg["T"])

    def episodes(self):
        """The recorded ones [P, T]."""
        at = lambda name: self.source[f"in/episode_{name}"]  # noqa: E731
        next_obs = np.concatenate([at("obs")[:, 1:], at("last_obs")[:, None]], 1)
        return view_of(at("obs"), at("actions"), at("rewards"), next_obs)

    def nets(self):
        """Parameters of the encoder, and of the members stacked."""
        names = reference_params.critic_names
        hidden = sum(k.startswith("param/encoder/") for k in self.source) // 2 - 1
        encoder = reference_params.from_reference(names(hidden), self.params("param/encoder/"))

        def stacked(kind):
            found = [
                reference_params.from_reference(
                    names(len(self.hidden)), self.params(f"param/{kind}_model{i}/")
                )
                for i in range(self.cfg["ensemble"])
            ]
            return jax.tree.map(lambda *x: np.stack(x), *found)

        return {"encoder": encoder, "reward": stacked("reward"), "next_obs": stacked("dynamics")}

    def encode(self, params, view):
        hidden = tuple(params[f"hidden_{i}"]["bias"].size for i in range(len(params) - 1))
        x = jnp.concatenate([view.obs, view.action, view.reward[..., None]], -1)
        each = MLP(hidden, self.cfg["d"]).apply({"params": params}, x)
        return mean_of_valid(jnp.tanh(each), view.valid)

    def predicted(self, nets, episode, code):
        """Of all members: their inputs are code, state and action, in this order."""
        code = jnp.broadcast_to(code, (*episode.reward.shape, code.shape[-1]))
        x = jnp.concatenate([code, episode.obs, episode.action], -1)

        def of(kind, size):
            apply = lambda own: MLP(self.hidden, size).apply({"params": own}, x)  # noqa: E731
            return jax.vmap(apply)(nets[kind])

        return Predicted(of("reward", 1)[..., 0], of("next_obs", self.cfg["S"]))

    def scores(self, nets, episode, code):
        """Of one episode, under the names of the file."""
        predicted = self.predicted(nets, episode, code)
        error = predictions.prediction_error(predicted, episode)
        spread = lambda over: predictions.spread(predicted, episode.valid, over)  # noqa: E731
        return {
            "return": belief.window_return(episode),
            "member_prediction_error": error,
            "neg_prediction_error": -error.mean(),
            "neg_spread_time": -spread("time"),
            "neg_spread_ensemble": -spread("members"),
        }

    def adapt(self, name, nets, episodes):
        """The search over all episodes, in order."""
        key = {"return": "return", "error": "neg_prediction_error", "spread": "neg_spread_time"}
        codes, explore = jnp.asarray(self.source["in/task_codes"]), self.cfg["explore"]
        empty = history.empty_window(self.spec, self.cfg["episodes"] * self.cfg["T"])
        infer = lambda view: self.encode(nets["encoder"], view)  # noqa: E731
        zero = jnp.zeros(codes.shape[1])
        untried = jnp.zeros(len(codes), bool)
        start = idaq.Search(empty, empty, zero, zero, jnp.full((), -jnp.inf), untried)

        def play(search, given):
            number, episode, drawn = given
            chosen, nearest = belief.farthest(codes, search.tried, drawn)
            code = jnp.where(number == explore, infer(search.context), search.code)
            code = jnp.where(number < explore, codes[chosen], code)
            tried = jnp.where(number < explore, search.tried.at[chosen].set(True), search.tried)
            search = search._replace(code=code, tried=tried)
            score = self.scores(nets, episode, code)[key[name]]
            explored = number < explore
            search, accepted = idaq.learn(search, episode, score, explored, infer, FROZEN[name])
            distance = jnp.where(jnp.isinf(nearest), -1, nearest / codes.shape[1])
            out = {"chosen": chosen, "min_distance": distance, "z_used": code, "score": score}
            return search, {**out, "accepted": accepted, "z_after": search.code}

        numbers = jnp.arange(self.cfg["episodes"])
        given = numbers, episodes, self.source["in/candidate_ids"]
        search, out = jax.lax.scan(play, start, given)
        exploring = {k: out[k][:explore] for k in ("chosen", "min_distance")}
        return {**out, **exploring, "best_score": search.best_score, "best_z": search.best_code}

    def results(self):
        def run(nets, episodes):
            found = jax.vmap(lambda *x: self.scores(nets, *x))(
                episodes, self.source["in/episode_z"]
            )
            actual = {f"out/scores/{name}": x for name, x in found.items()}
            for name in FROZEN:
                own = self.adapt(name, nets, episodes)
                actual |= {f"out/adapt_{name}/{k}": x for k, x in own.items()}
            return actual

        return traced(run, self.nets(), self.episodes())


@pytest.fixture(scope="module", params=PRECISIONS)
def recorded(request):
    with jax.enable_x64(request.param == 64):
        yield Idaq(request.param, file_of("baselines", request.config))


def test_every_recorded_number(recorded, monkeypatch):
    assert not recorded.misses(recorded.results())
    # A twin whose best score rises by prediction and stays by return.
    monkeypatch.setitem(FROZEN, "return", True)
    monkeypatch.setitem(FROZEN, "error", False)
    found = " ".join(recorded.misses(recorded.results()))
    assert "adapt_return/best_score" in found and "adapt_error/best_score" in found
