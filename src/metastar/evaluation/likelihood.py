"""Inference by likelihood: the code under which the task model explains a context best.

An encoder reads who acted in a context as well as which task it was. The likelihood of rewards and
next states, given states and actions, does not know who acted: in the posterior of the task the
behaviour policy cancels. So the codes of the training tasks, the *bank*, are weighed by it, as BATI
(ICML 2025) weighs tasks without an encoder. Everything that infers does so through `Inference`.

L steps of a context, K codes in the bank, Z task code.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import FrozenConfigDict

from metastar import config, files
from metastar.config.fields import COUNT, NOT_NEGATIVE, POSITIVE, Field
from metastar.data import contexts
from metastar.errors import UserError
from metastar.evaluation.inference import expect_code
from metastar.types import Array, Method, Policy, TaskData, TaskModel, View

DEFAULTS = {
    "choice": Field(
        "encoder",
        ("encoder", "bank"),
        "what makes the code of a context: the encoder, or whichever of its code and the codes of "
        "the training tasks explains the rewards best, for methods with a task model",
        before="encoder",
    ),
    "windows": Field(
        16, COUNT, "of each training task, whose codes are tried as its code in the bank", before=16
    ),
    "nats": Field(
        10.0,
        NOT_NEGATIVE,
        "a code of the bank is taken if it is more likely than the encoder's by more than this, "
        "over the whole context",
        before=10.0,
    ),
    "fit": Field(
        0.5,
        POSITIVE,
        "and if it is at most this many nats a step less likely than a perfect prediction",
        before=0.5,
    ),
    "between": Field(
        0,
        "[0, 100]",
        "codes that are tried on the way from the best code of the bank to each other one",
        before=0,
    ),
    "neighbours": Field(
        0,
        NOT_NEGATIVE,
        "codes of the bank, the next best ones, on the way to which codes between are tried; "
        "0: all",
        before=0,
    ),
    "beyond": Field(
        0.0,
        "[0, 10]",
        "how far from the best code of the bank as many codes are tried away from each other one, "
        "in units of the way between the two; 0: none",
        before=0.0,
    ),
    "next_obs": Field(
        0.0,
        NOT_NEGATIVE,
        "weight of the likelihood of next states beside that of rewards; they tell the dynamics, "
        "and more of who acted",
        before=0.0,
    ),
}
FILE = "bank.json"  # beside the results of a run that infers so
SEED = 0  # of the contexts that the bank is made of


class Inference(NamedTuple):
    """How a run infers: its method, and the parameters that the functions of this method take."""

    method: Method
    # (exported parameters, () -> TaskData of the training tasks) -> parameters
    params: Callable
    save: Callable  # (parameters, workdir, params_sha256): what `load` needs, if anything
    load: Callable  # (exported parameters, workdir, params_sha256) -> parameters, without data
    # what a context must tell beside observations, actions and rewards, by names of `View`
    needs: tuple[str, ...] = ()


class Known(NamedTuple):
    """The parameters that a method takes which infers by likelihood."""

    own: Any  # those that the method exports
    bank: Array  # [K, Z] codes of the training tasks


def make(cfg: Any, method: Method) -> Inference:
    """Binds a method to the section `inference` of a config.

    Raises `UserError` for a method without a task model, if that is what the section asks for, and
    from `infer` for one without codes.
    """
    if cfg.choice == "encoder":
        return Inference(
            method,
            params=lambda exported, train: exported,
            save=lambda params, workdir, params_sha256: None,
            load=lambda exported, workdir, params_sha256: exported,
        )
    if method.task_model is None:
        raise UserError(
            "inference.choice='bank' weighs codes by a task model, and this run's method has none; "
            "choose 'encoder', or train with task_losses.reconstruction above 0"
        )
    if cfg.beyond and not cfg.between:
        raise UserError(
            f"inference.beyond is {cfg.beyond}, but as many codes are tried beyond the bank as "
            "inference.between says, and that is 0; set it to 1 or more"
        )
    if cfg.neighbours and not cfg.between:
        raise UserError(
            f"inference.neighbours is {cfg.neighbours}, but codes on the way to them are tried "
            "only where inference.between is 1 or more, and that is 0; set one of them"
        )
    if cfg.next_obs and method.task_model.next_obs_std is None:
        raise UserError(
            f"inference.next_obs is {cfg.next_obs}, but the task model of this run's method has no "
            "likelihood of next states; set it to 0"
        )
    make_bank = bank_maker(cfg, method)

    def params(exported, train):
        return Known(exported, make_bank(exported, train(), jax.random.key(SEED)))

    def load(exported, workdir, params_sha256):
        bank = read(workdir, params_sha256)
        return Known(exported, jnp.asarray(bank, jax.dtypes.canonicalize_dtype(float)))

    def save(params, workdir, params_sha256):
        codes = np.asarray(params.bank, float).tolist()
        files.write_json(Path(workdir) / FILE, {"params_sha256": params_sha256, "codes": codes})

    return Inference(by_likelihood(cfg, method), params, save, load, needs=("next_obs",))


def chosen(cfg: Any, choice: str) -> FrozenConfigDict:
    """A config with another `inference.choice`; raises `UserError` if there is no such choice."""
    changed = config.change(cfg, {"inference.choice": choice})
    config.validate(changed)
    return FrozenConfigDict(changed)


def by_likelihood(cfg: Any, method: Method) -> Method:
    """The method with `infer` by `guarded`; all its functions take `Known` as parameters."""

    def infer(params, view, task, key):
        adaptation = method.infer(params.own, view, task, key)
        own = expect_code(adaptation, "inference.choice='bank'")
        if own.shape != params.bank.shape[1:]:
            raise UserError(
                f"the bank holds codes of {params.bank.shape[1]} entries, but this run's have "
                f"{own.shape[0]}; run `metastar evaluate` with its workdir to make {FILE} again"
            )
        costs = partial(cost, method.task_model, params.own, view, next_obs=cfg.next_obs)
        code = jnp.concatenate([own[None], params.bank])
        found = costs(code)
        if cfg.between:
            near = nearest(params.bank, found[1:], cfg.neighbours)
            more = between(near[0], near[1:], cfg.between)
            if cfg.beyond:
                away = beyond(near[0], params.bank, cfg.between, cfg.beyond)
                more = jnp.concatenate([more, away])
            code, found = jnp.concatenate([code, more]), jnp.concatenate([found, costs(more)])
        best = guarded(found, view.valid.sum(), cfg.nats, cfg.fit)
        return adaptation._replace(code=code[best])

    model = method.task_model
    return method._replace(
        infer=infer,
        policy=Policy(*map(_of_own, method.policy)),
        task_model=model._replace(
            next_obs=_of_own(model.next_obs),
            reward=_of_own(model.reward),
            members=_of_own(model.members),
        ),
        predict=_of_own(method.predict),
        value=_of_own(method.value),
    )


def nearest(bank: Array, cost: Array, num: int) -> Array:
    """The code of least `cost` [K] and the `num` next ones of a bank [K, Z]: [1 + num, Z].

    All of them, in that order, if `num` is 0 or larger than K - 1.

    >>> print(nearest(jnp.array([[1.0], [2.0], [3.0]]), jnp.array([4.0, 0.0, 5.0]), 1))
    [[2.]
     [1.]]
    """
    num = min(num or len(bank), len(bank) - 1)
    return bank[jax.lax.top_k(-cost, 1 + num)[1]]


def between(code: Array, bank: Array, num: int) -> Array:
    """`num` codes on the way from one code [Z] to each of a bank [K, Z]: [K num, Z].

    They are equally spaced on straight lines and have lengths between those of the two ends, so
    that codes on a sphere stay there.

    >>> print(between(jnp.array([3.0, 0.0]), jnp.array([[0.0, 3.0]]), 1).round(2))
    [[2.12 2.12]]
    """
    first, last = code[None, None], bank[:, None]
    step = (jnp.arange(1, num + 1) / (num + 1))[None, :, None]
    line = first + step * (last - first)  # [K, num, Z]
    start, end, found = (jnp.linalg.norm(x, axis=-1, keepdims=True) for x in (first, last, line))
    length = start + step * (end - start)
    return (line * length / jnp.maximum(found, 1e-6)).reshape(-1, code.shape[-1])


def beyond(code: Array, bank: Array, num: int, reach: float) -> Array:
    """`num` codes from one code [Z] away from each of a bank [K, Z]: [K num, Z].

    They are equally spaced up to `reach` times the way between the two, and as long as the first,
    so that codes stay on a sphere, and have the scale of those that were met where there is none.

    >>> print(beyond(jnp.array([3.0, 4.0]), jnp.array([[0.0, 5.0]]), 1, 1.0).round(2))
    [[4.47 2.24]]
    """
    step = reach * (jnp.arange(1, num + 1) / num)[None, :, None]
    line = code[None, None] + step * (code[None, None] - bank[:, None])  # [K, num, Z]
    length = jnp.maximum(jnp.linalg.norm(line, axis=-1, keepdims=True), 1e-6)
    return (line * jnp.linalg.norm(code) / length).reshape(-1, code.shape[-1])


def guarded(cost: Array, steps: Array, nats: float, fit: float) -> Array:
    """Which of K + 1 codes to take, the encoder's own or one of the bank: [] int.

    `k = argmin cost_k` over the bank, if `cost_0 - cost_k > nats` and `cost_k <= fit * steps`; else
    0. Where no code of the bank predicts the rewards, as on a task far from all training tasks, the
    nearest of them would only mislead.

    Args:
        cost: [K + 1] nats, as of `cost`, of the encoder's code and of the bank's.
        steps: [] int: how many steps it is summed over.
        nats, fit: settings of those names.

    >>> better, alike, none = map(jnp.array, ([30.0, 9.0, 2.0], [12.0, 9.0, 3.0], [90.0, 9.0, 8.0]))
    >>> [int(guarded(x, 10, nats=10.0, fit=0.5)) for x in (better, alike, none)]
    [2, 0, 0]
    """
    best = 1 + jnp.argmin(cost[1:])
    taken = (cost[0] - cost[best] > nats) & (cost[best] <= fit * steps)
    return jnp.where(taken, best, 0)


def cost(model: TaskModel, params: Any, view: View, code: Array, next_obs: float) -> Array:
    """By how many nats codes [K, Z] explain the steps of a context worse than perfectly: [K].

    `1/2 sum_t ((r_t - m_r) / std_r)^2 + w mean_o ((s'_t - m_s) / std_s)_o^2` over valid steps t and
    the entries o of a state, with means m_r(s_t, a_t, s'_t, z) and m_s(s_t, a_t, z): minus the
    log-likelihood, up to a constant, with the means of the task model and fixed deviations.

    Args:
        model: the task model.
        params: its parameters.
        view: [..., L] steps.
        code: [K, Z].
        next_obs: w; 0 leaves the term out.
    """

    def of_step(obs, action, reward, after):
        tiled = jnp.tile(after[None], (code.shape[0], 1))
        predicted = model.reward(params, obs, action, tiled, code)
        found = ((reward - predicted) / model.likelihood_std) ** 2
        if next_obs:
            error = tiled - model.next_obs(params, obs, action, code)
            error /= jnp.asarray(model.next_obs_std)[None]
            found += next_obs * (error**2).mean(-1)
        return found / 2

    steps = view.obs, view.action, view.reward, view.next_obs
    axes = view.valid.ndim
    steps = (x.reshape(-1, *x.shape[axes:]) for x in steps)
    each = jax.vmap(of_step)(*steps)  # [L, K]
    return jnp.where(view.valid.reshape(-1, 1), each, 0).sum(0)


def bank_maker(cfg: Any, method: Method) -> Callable:
    """Builds `(params, data, key) -> [K, Z]`: one code for each training task of `data`.

    Of the codes of `windows` uniformly drawn contexts it is the one that explains all of these
    best. It is a code that the encoder gave, as policies learned to read them; a mean of codes may
    be none.
    """

    def of_task(params, view, keys):
        code = jax.vmap(method.infer, in_axes=(None, 0, None, 0))(params, view, None, keys)
        code = expect_code(code, "inference.choice='bank'")
        found = cost(method.task_model, params, view, code, cfg.next_obs)
        return code[jnp.argmin(found)]

    @jax.jit
    def bank(params, data: TaskData, key: Array) -> Array:
        shape = data.count.shape[0], cfg.windows
        key_window, key_infer = jax.random.split(key)
        task_id = jnp.broadcast_to(jnp.arange(shape[0])[:, None], shape)
        view = contexts.draw(data, task_id, method.context, key_window)
        keys = jax.random.split(key_infer, shape)
        return jax.lax.map(lambda own: of_task(params, *own), (view, keys))

    return bank


def read(workdir: str | Path, params_sha256: str) -> np.ndarray:
    """The bank [K, Z] of a run; raises `UserError` unless it is that of these parameters."""
    path = Path(workdir) / FILE
    remedy = f"run `metastar evaluate --workdir={workdir}` where its data are"
    found = files.read_json(path, remedy)
    otherwise = f"{path} does not hold the codes of a run's training tasks"
    files.expect(found, {"params_sha256": str, "codes": [[float]]}, otherwise, remedy)
    if found["params_sha256"] != params_sha256:
        raise UserError(f"{path} is of other parameters than the newest checkpoint; {remedy}")
    if len({len(row) for row in found["codes"]}) != 1:
        raise UserError(f"{otherwise}: they differ in length; {remedy}")
    return np.array(found["codes"])


def _of_own(function: Callable | None) -> Callable | None:
    """A function of a method's own parameters, as one of `Known`."""
    return function and (lambda params, *args, **named: function(params.own, *args, **named))
