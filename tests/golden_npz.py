"""Files of recorded numbers: their layouts, what is compared with them, and how near it must be."""

import re
import zipfile
from functools import cache
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
import optax
import pytest

from metastar.types import View

# Float32 sees nothing that float64 does not, but for its own rounding.
PRECISIONS = [
    pytest.param(64, id="float64"),
    pytest.param(32, id="float32", marks=pytest.mark.slow),
]
GOLDEN = Path(__file__).parent / "golden"


class Layout(NamedTuple):
    """A kind of files: the one that lies here, and a key that only its kind has."""

    file: str
    key: str


LAYOUTS = {
    "metastar": Layout("reference_step.npz", "cfg/imag_horizon"),
    "spc": Layout("spc_step.npz", "cfg/fsq_levels"),
    "baselines": Layout("baselines_step.npz", "focal/cfg/encoder_hidden"),
    "meta_dt": Layout("meta_dt_step.npz", "cfg/dt_warmup"),
}


class Part(NamedTuple):
    """What one record compares: all results of a block whose keys within it match a pattern."""

    block: str
    pattern: str


def _blocks(*names):
    return {name: Part("", rf"(out|grad|after2?)/{name}/") for name in names}


def _kinds(*names):
    return {name: Part("", rf"(out|grad|after)/{name}(_full)?/") for name in names}


KINDS = _kinds(
    *("continuous_mse", "continuous_cosine", "simnorm_mse", "simnorm_cosine"),
    *("discrete_mse", "discrete_cosine"),
)
COMPARED = {  # by layout
    "metastar": _blocks("wm_hi", "wm_lo", "wm_clip", "metric", "imag", "rl", "probe"),
    "spc": {
        "step": Part("", rf"(out|grad|after)/(?!iql/|({'|'.join(KINDS)})(_full)?/)"),
        **KINDS,
        **_blocks("iql"),
        "scores": Part(
            "host/",
            "out/metric/((given|dci)_(dis|compl)|(mi|mec_cont|mec_mixed)_(mod|comp)[a-z]+$"
            "|mec_cont_explicitness$)",
        ),
    },
    "baselines": {
        "focal": Part("focal/", ""),
        "brac": Part("brac/", ""),
        "er_trl": Part("er_trl/", ""),
        "csro": Part("csro/", ""),
        "unicorn": Part("unicorn/", r"(?!\w+/rl/)"),
        "unicorn_agent": Part("unicorn/", r"\w+/rl/"),
        "corro": Part("corro/", ""),
        "idaq": Part("idaq/", r"(?!\w+/train(_repaired)?/)"),
        "idaq_train": Part("idaq/", r"\w+/train(_repaired)?/"),
    },
    "meta_dt": {
        "history_model": Part("", r"(out|grad|after)/(ctx|wm_\w+)/(?!sdec/reward_encoder)"),
        "prompts": Part("", r"out/(sel|data|evalprompt)/(?!(\w+_)?(rewards|dones)$)"),
        "transformer": Part(
            "",
            r"(out|grad|after)/(dt_\w+|act_\w+|eval_\w+|probe)/"
            r"(?!(state|return)_preds|avg_|dt/(transformer\.wte|predict_(state|return)))",
        ),
    },
}
INPUTS = r"(\w+/)?(cfg|param|in|noise|gate)/"
LEFT_OUT = {  # results that nothing here is compared with: pattern -> why
    "metastar": {},
    "spc": {
        "(split|task)/": "tasks and splits of its authors; families here have their own",
        "host/out/(reward|point|seqbuf)/": "of their simulators and buffers, likewise",
        r"host/out/metric/(dci|mec_\w+)\w*_matrix": "inputs of the scores that are compared",
        r"host/out/metric/\w+_per_(latent|factor)": "their means are compared",
        r"host/out/metric/dci(_class)?_informativeness": "of trees that break ties at random",
        r"host/out/metric/mec_mixed_explicitness$": "of a logistic regression of scikit-learn",
    },
    "baselines": {},
    "meta_dt": {
        r"after/wm_s_\w+/sdec/reward_encoder": "a layer that is never used, and not built",
        r"after/dt_\w+/dt/(transformer\.wte|predict_(state|return))": "likewise",
        r"out/dt_\w+/(state|return)_preds": "of heads without a loss, which are not built",
        r"out/(data|evalprompt)/(\w+_)?(rewards|dones)$": "carried along, but read by nothing",
        r"out/eval_\w+/avg_": "sums of the script",
    },
}


@cache
def layout_of(path):
    """The name of the layout that a file has, told by its keys; `ValueError` if it has none."""
    known = ", ".join(f"{name} (has {layout.key!r})" for name, layout in LAYOUTS.items())
    try:
        with np.load(path) as file:
            found = [name for name, layout in LAYOUTS.items() if layout.key in file.files]
    except (OSError, ValueError, AttributeError, TypeError, zipfile.BadZipFile):
        raise ValueError(f"--reference={path} cannot be read as an npz file") from None
    if len(found) != 1:
        raise ValueError(f"--reference={path} has none of the known layouts: {known}")
    return found[0]


def asked_layout(config):
    """The layout of the file that `--reference` names, or None; errors are those of `layout_of`."""
    asked = config.getoption("--reference")
    return asked and layout_of(asked)


def file_of(layout, config):
    """The file with that layout: the one that `--reference` names, if any, or the one here."""
    return config.getoption("--reference") or GOLDEN / LAYOUTS[layout].file


def load(path):
    """All arrays of a file, by key."""
    with np.load(path) as file:
        return dict(file)


def results(arrays, layout, name, bits=64):
    """{key within the block: array} of all that a record compares.

    Float32 and float64 results lie under the same names, the latter behind "expected64/".
    """
    block, pattern = COMPARED[layout][name]
    head = f"expected64/{block}" if bits == 64 else block
    found = {k.removeprefix(head): x for k, x in arrays.items() if k.startswith(head)}
    kind = re.compile("(out|grad|after2?)/")
    return {k: x for k, x in found.items() if kind.match(k) and re.match(pattern, k)}


def unclear(arrays, layout):
    """The keys that are no inputs and do not belong to exactly one record, or to what is left out.

    Args:
        arrays: of the file, or its keys alone.
        layout: of the file.
    """
    parts = [f"{part.block}{part.pattern}" for part in COMPARED[layout].values()]
    parts = [re.compile(pattern) for pattern in (*parts, *LEFT_OUT[layout])]
    found = {key.removeprefix("expected64/") for key in arrays}
    known = {key for key in found if re.match(INPUTS, key)}
    return sorted(k for k in found - known if sum(bool(p.match(k)) for p in parts) != 1)


def view_of(obs, action, reward, next_obs=None, done=None):
    """A view of such arrays [..., L, n], all of it valid and within one episode."""
    reward = reward.reshape(obs.shape[:-1])
    yes, zero = np.ones(reward.shape, bool), np.zeros(reward.shape, int)
    return View(
        obs=obs,
        action=action,
        reward=reward,
        prev_reward=0 * reward,
        next_obs=obs if next_obs is None else next_obs,
        done=~yes if done is None else done.reshape(reward.shape) > 0.5,
        valid=yes,
        first=~yes,
        episode=zero,
        step=zero,
        policy=zero[..., 0],
        stage=zero[..., 0],
    )


class Recorded:
    """A record: `source` in the precision asked for, and the results `expected` of it."""

    grad_error = 1e-4  # limit of float32 gradients, relative
    after_error = None  # limit of float32 parameters after a step; None: as of values

    def __init__(self, layout, name, bits, path):
        arrays = load(path)
        block = COMPARED[layout][name].block
        self.bits = bits
        self.expected = results(arrays, layout, name, bits)
        dtype = {32: np.float32, 64: np.float64}[bits]
        self.source = {
            k.removeprefix(block): x.astype(dtype) if np.issubdtype(x.dtype, np.floating) else x
            for k, x in arrays.items()
            if k.startswith(block) and re.match(INPUTS, k)
        }

    def params(self, prefix):
        """{name: array} of the parameters under a prefix."""
        return {k.removeprefix(prefix): x for k, x in self.source.items() if k.startswith(prefix)}

    def misses(self, actual):
        """What is too far from the record, as text; every recorded key must be in `actual`."""
        assert set(actual) == set(self.expected)
        found = [self._miss(key, np.asarray(x)) for key, x in actual.items()]
        return [line for line in found if line]

    def gate(self, rest):
        """The gradient, or a bound on it, of what is recorded as "after/" + `rest`."""
        return self.expected.get(f"grad/{rest}")

    def _miss(self, key, actual):
        expected = self.expected[key]
        if actual.size != expected.size:
            return f"{key}: shape {actual.shape} against {expected.shape}"
        actual = actual.reshape(expected.shape)
        if expected.dtype == bool:
            actual, expected = actual.astype(int), expected.astype(int)
        kind, _, rest = key.partition("/")
        grad = self.gate(rest)
        if kind.startswith("after") and grad is not None:
            # Adam turns the rounding noise of a vanishing gradient into a whole step.
            moved = np.abs(grad) > 1e-5
            actual, expected = actual[moved], expected[moved]
        if not actual.size:
            return None
        error, size = np.abs(actual - expected).max(), np.abs(expected).max()
        if self.bits == 64:
            limit = 1e-10 * size
        elif kind == "after" and self.after_error:
            limit = self.after_error
        elif kind == "grad":
            limit = min(1e-5 * max(1, size), self.grad_error * size)
        else:
            limit = 1e-5 * max(1, size)
        return None if error <= limit else f"{key}: error {error:.2e}, size {size:.2e}"


def traced(fn, *args):
    """`fn(*args)` in one program, its results as NumPy arrays."""
    return jax.device_get(jax.jit(fn)(*args))


def gradient(opt_state, before=None):
    """The gradient of a step of Adam from its first moment, `before` being the state before it.

    Without that it is the first step.
    """
    moment = optax.tree_utils.tree_get(opt_state, "mu")
    if before is not None:
        before = optax.tree_utils.tree_get(before, "mu")
        moment = jax.tree.map(lambda new, old: new - 0.9 * old, moment, before)
    return jax.tree.map(lambda m: m / (1 - 0.9), moment)
