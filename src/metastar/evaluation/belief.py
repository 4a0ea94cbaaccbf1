"""Which of the training tasks it may be: a bank of their codes, and a posterior over it.

Exploration uses the *codes* of the training tasks and nothing else of them: neither their
parameters nor their order.
"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp

from metastar.data import contexts
from metastar.evaluation.strategy import Seen
from metastar.types import Array, Method, TaskData, View

BANK_WINDOWS = 64  # contexts of a training task, of which the best gives its code in the bank
PLAUSIBLE = 10.0  # a task is plausible while its posterior is at least a tenth of the largest
DECIDED = 0.2  # a window tells the task if it leaves less than this share of the bank
# One step may lower the posterior by e^3 at most, relative to the best task: the likelihoods are
# those of a Gaussian, which rules out far too much where the model is wrong.
MAX_EVIDENCE = 3.0


def make_bank(method: Method) -> Callable:
    """Builds `(params, data, key) -> [K, Z]`: one code for each training task of `data`.

    It is the code of the context with the largest return among `BANK_WINDOWS` uniform ones,
    since in sparse families most tell nothing.
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
    """`-(r - m(s, a, s', z))^2 / (2 tolerance^2)`: ONE transition under K codes [K, Z], [K] nats.

    The reward's Gaussian log-likelihood up to a constant, by the means m of the method's task
    model alone: its variances are as small as it fits the data, and say nothing where it has seen
    none. All zero for a method without such a model.
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

    In units of `2 tolerance^2`, from the last column of log-likelihoods [L, K + 1]; minus infinity
    until the window is full.
    """
    return jnp.where(window.valid.all(), log_likelihood[:, -1].mean(), -jnp.inf)


def plausible(log_posterior: Array) -> Array:
    """Which tasks [K] are plausible."""
    return log_posterior >= log_posterior.max() - jnp.log(PLAUSIBLE)


def known(seen: Seen) -> Array:
    """Whether the kept segment of the own history, whose score is `information`, tells the task.

    It narrows the tasks down to `DECIDED` of the bank, and the bank's code nearest to its own is
    plausible: a segment that only rules tasks out tells no encoder which one is left.
    """
    nearest = jnp.argmin(distance(seen.bank, seen.own))
    return (seen.score >= -math.log(DECIDED)) & plausible(seen.log_posterior)[nearest]


def next_plausible(seen: Seen, target: Array) -> Array:
    """The task `target` while it is plausible, then the plausible one whose code is nearest."""
    left = plausible(seen.log_posterior)
    nearest = jnp.argmin(jnp.where(left, distance(seen.bank, seen.bank[target]), jnp.inf))
    return jnp.where(left[target], target, nearest)


def distance(bank: Array, code: Array) -> Array:
    """Squared distances [K] of the codes in the bank to one."""
    return jnp.sum((bank - code[None]) ** 2, axis=-1)
