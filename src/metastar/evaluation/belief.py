"""Which of the training tasks the present task resembles: a bank of codes and a posterior over it.

Exploration uses the *codes* of the training tasks only, neither their parameters nor their order.
L steps of a window, K codes in the bank, Z task code.
"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp

from metastar.data import contexts
from metastar.evaluation.strategy import Seen
from metastar.types import Array, Method, TaskData, View

BANK_WINDOWS = 64  # contexts drawn of a training task; the one of largest return gives its code
PLAUSIBLE = 10.0  # a task is plausible while its posterior is at least a tenth of the largest
DECIDED = 0.2  # a window determines the task if it narrows the bank down to this share
# Nats by which one step may lower the posterior at most, relative to the best task: Gaussian
# likelihoods rule out far too much where the model is wrong.
MAX_EVIDENCE = 3.0


def make_bank(method: Method) -> Callable:
    """Builds `(params, data, key) -> [K, Z]`: one code for each training task of `data`.

    It is the code of the context with the largest return among `BANK_WINDOWS` uniform ones, since
    in sparse families most contexts tell nothing of the task.
    """

    @jax.jit
    def bank(params, data: TaskData, key: Array) -> Array:
        num = data.count.shape[0]
        key_window, key_infer = jax.random.split(key)
        task_id = jnp.broadcast_to(jnp.arange(num)[:, None], (num, BANK_WINDOWS))
        view = contexts.draw(data, task_id, method.context, key_window)
        best = jnp.argmax(window_return(view).sum(-1), axis=1)
        best_view = jax.tree.map(lambda x: x[jnp.arange(num), best], view)
        keys = jax.random.split(key_infer, num)
        infer = jax.vmap(method.infer, in_axes=(None, 0, None, 0))
        return infer(params, best_view, None, keys).code

    return bank


def window_return(view: View) -> Array:
    """Sum [...] of the rewards of the valid steps of windows [..., L]."""
    return jnp.where(view.valid, view.reward, 0).sum(-1)


def log_likelihood(
    method: Method, params, obs: Array, action: Array, reward: Array, next_obs: Array, code: Array
) -> Array:
    """`-(r - m(s, a, s', z))^2 / (2 std^2)`: ONE transition under K codes [K, Z] -> [K], in nats.

    The reward's Gaussian log-likelihood up to a constant, with the means m of the method's task
    model and one standard deviation, `TaskModel.likelihood_std`. The model's own variances are not
    used: they are small where it fits the data, and arbitrary where it has seen none. All zero for
    a method without such a model.
    """
    num, model = code.shape[0], method.task_model
    if model is None:
        return jnp.zeros(num)
    after = jnp.tile(next_obs[None], (num, 1))
    error = reward - model.reward(params, obs, action, after, code)
    return -0.5 * (error / model.likelihood_std) ** 2


def evidence(log_likelihood: Array) -> Array:
    """Log-likelihoods [..., K] relative to the best task's, at least `-MAX_EVIDENCE`."""
    best = log_likelihood.max(-1, keepdims=True)
    return jnp.maximum(log_likelihood - best, -MAX_EVIDENCE)


def entropy(log_p: Array) -> Array:
    """Entropy [...] in nats of log-probabilities [..., K]."""
    return -jnp.sum(jnp.exp(log_p) * log_p, axis=-1)


def information(evidence: Array) -> Array:
    """What the evidence [L, K] of L steps tells of the task, nats.

    `log K - H(p)`, p the posterior from a uniform prior: 0 where all tasks explain the steps
    alike, `log K` where one task alone does.

    >>> round(float(information(jnp.array([[0.0, -99.0], [0.0, 0.0]]))), 4)  # log 2
    0.6931
    """
    log_p = jax.nn.log_softmax(evidence.sum(axis=0))
    return jnp.log(log_p.shape[0]) - entropy(log_p)


def informative(window: View, log_likelihood: Array) -> Array:
    """Score of a context: the `information` [] of its steps, from log-likelihoods [L, K + 1]."""
    del window
    return information(evidence(log_likelihood[:, :-1]))


def rewarding(window: View, log_likelihood: Array) -> Array:
    """Score of a context: its return []. Needs no model."""
    del log_likelihood
    return window_return(window)


def expected(window: View, log_likelihood: Array) -> Array:
    """Score of a context: minus the mean squared error of its rewards under the codes acted on.

    In units of twice the likelihood's variance, from the last column of log-likelihoods [L, K + 1];
    minus infinity until the window is full.
    """
    return jnp.where(window.valid.all(), log_likelihood[:, -1].mean(), -jnp.inf)


def plausible(log_posterior: Array) -> Array:
    """Which tasks are plausible: bool [K], from log-probabilities [K]."""
    return log_posterior >= log_posterior.max() - jnp.log(PLAUSIBLE)


def known(seen: Seen) -> Array:
    """Whether the best window of the own history, scored by `informative`, determines the task.

    It must narrow the tasks down to the share `DECIDED` of the bank, and the bank's code nearest to
    its code must be plausible: from a window that only rules tasks out an encoder cannot infer
    which task is left.
    """
    nearest = jnp.argmin(distance(seen.bank, seen.own_code))
    return (seen.score >= -math.log(DECIDED)) & plausible(seen.log_posterior)[nearest]


def next_plausible(seen: Seen, target: Array) -> Array:
    """The task `target` while it is plausible, then the plausible one whose code is nearest."""
    left = plausible(seen.log_posterior)
    nearest = jnp.argmin(jnp.where(left, distance(seen.bank, seen.bank[target]), jnp.inf))
    return jnp.where(left[target], target, nearest)


def distance(bank: Array, code: Array) -> Array:
    """Squared distances [K] of the codes in the bank [K, Z] to one code [Z]."""
    return jnp.sum((bank - code[None]) ** 2, axis=-1)


def farthest(bank: Array, tried: Array, drawn: Array) -> tuple[Array, Array]:
    """Of some codes of the bank [K, Z] the one farthest from its nearest tried one.

    Wang et al. 2023 (ICML, arXiv 2305.19529), in their released code. The first one wins ties, and
    so it does where nothing was tried.

    Args:
        bank: [K, Z].
        tried: [K] bool.
        drawn: [C] int: the candidates' places in the bank.

    Returns:
        Its place in the bank [] and the squared distances [C] to the nearest tried code, infinite
        where there is none.
    """
    apart = jax.vmap(distance, in_axes=(None, 0))(bank, bank[drawn])
    nearest = jnp.where(tried[None], apart, jnp.inf).min(-1)
    return drawn[jnp.argmax(nearest)], nearest
