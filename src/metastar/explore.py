"""Zero-shot with a purpose: learn which task it is by visiting what tells tasks apart.

The plain protocol acts uniformly until its window is full and then trusts whatever the window
says. This one keeps a posterior over the training tasks, acts as in one that is still plausible
until a stretch of its own history tells the task, and then on the code of that stretch. Same
budget: episode 1 to learn the task, episode 2 scored. It uses the *codes* of the training tasks
and nothing else of them: neither their parameters nor their order.

Posterior sampling (Thompson 1933; Osband et al. 2013, arXiv 1306.0940) over a bank of codes, as
IDAQ (Wang et al. 2023, ICML) draws its candidates from training tasks; what is kept of the history
is chosen by the information it gives about the task under the model.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from metastar import protocols
from metastar.data.sampler import sample_windows
from metastar.errors import UserError
from metastar.types import Adaptation, Array, EnvSpec, Method, Policy, StepIn, TaskData, View

BANK_WINDOWS = 64  # windows of a training task, of which the best gives its code in the bank
PLAUSIBLE = 10.0  # a task is plausible while its posterior is at least a tenth of the largest
DECIDED = 0.2  # a window tells the task if it leaves less than this share of the bank
# One step may lower the posterior by e^3 at most, relative to the best task: the model's
# likelihoods are those of a Gaussian, which rules out far too much where the model is wrong.
MAX_EVIDENCE = 3.0


class Explorer(NamedTuple):
    """What the protocol knows before the first step."""

    code: Array  # [Z] of an empty context
    bank: Array  # [K, Z] codes of the training tasks, in any order


class Memory(NamedTuple):
    """What the protocol carries from step to step, and over episodes."""

    window: View  # the last L own steps, oldest first
    evidence: Array  # [L, K] log-likelihoods of these steps, nats
    log_posterior: Array  # [K]
    target: Array  # [] int: the task whose code it explores with; -1 before the first step
    best: View  # [L] the most informative window so far
    best_information: Array  # [] nats
    last: StepIn
    started: Array  # [] bool: `last` has been seen
    inner: Any  # the carry of the wrapped policy


def make_bank(cfg, method: Method) -> Callable:
    """Builds `(params, data, key) -> [K, Z]`: one code for each training task of `data`.

    It is the code of the window with the largest return among `BANK_WINDOWS` uniform ones, since
    in sparse families most windows tell nothing.
    """

    @jax.jit
    def bank(params, data: TaskData, key: Array) -> Array:
        num = data.count.shape[0]
        key_window, key_infer = jax.random.split(key)
        task_id = jnp.broadcast_to(jnp.arange(num)[:, None], (num, BANK_WINDOWS))
        view = sample_windows(data, task_id, key_window, cfg.world_model.context_len)
        best = jnp.argmax(jnp.where(view.valid, view.reward, 0).sum(-1), axis=1)
        best_view = jax.tree.map(lambda x: x[jnp.arange(num), best], view)
        keys = jax.random.split(key_infer, num)
        infer = jax.vmap(method.infer, in_axes=(None, 0, None, 0))
        return infer(params, best_view, None, keys).code

    return bank


def posterior_sampling(method: Method, context_len: int, spec: EnvSpec) -> Policy:
    """The exploring protocol, see the module.

    At each step the transition before it multiplies the posterior of every task of the bank by its
    likelihood under the model, `method.evidence`. It acts on the code of a plausible task, stays
    with one until that is ruled out, and goes on with the plausible task whose code is nearest,
    which makes the search a sweep. It acts on the code inferred from the most informative window so
    far once that alone narrows the tasks down to `DECIDED` of the bank, by `information`, and the
    bank's nearest code is plausible: a window that only rules tasks out tells no encoder which one
    is left.

    Args:
        method: a method that has `evidence`.
        context_len: L.
        spec: sizes of observation and action.

    Returns:
        A `Policy` whose adaptation is an `Explorer`.

    Raises:
        UserError: the method has no model of what a code predicts.
    """
    if method.evidence is None:
        raise UserError(
            "this run has no model that weighs tasks by what was seen; train method 'metastar' "
            "with task_losses.reconstruction above 0, or evaluate without --explore"
        )

    def init(params, explorer):
        num = explorer.bank.shape[0]
        nothing = StepIn(
            obs=jnp.zeros(spec.obs_dim),
            prev_action=jnp.zeros(spec.action_dim),
            prev_reward=jnp.zeros(()),
            prev_next_obs=jnp.zeros(spec.obs_dim),
            first=jnp.zeros((), bool),
        )
        window = protocols.empty_window(spec, context_len)
        return Memory(
            window=window,
            evidence=jnp.zeros((context_len, num)),
            log_posterior=jnp.full(num, -jnp.log(num)),
            target=jnp.array(-1),
            best=window,
            best_information=jnp.zeros(()),
            last=nothing,
            started=jnp.zeros((), bool),
            inner=method.policy.init(params, Adaptation(explorer.code)),
        )

    def act(params, explorer, memory, step, key, greedy):
        key_target, key_infer, key_act = jax.random.split(key, 3)
        memory = _learn(method, params, explorer.bank, memory, step)
        target = _choose(explorer.bank, memory, key_target)
        own = method.infer(params, memory.best, None, key_infer).code
        told = memory.best_information >= -math.log(DECIDED)
        told &= _plausible(memory)[jnp.argmin(_distance(explorer.bank, own))]
        code = jnp.where(told, own, explorer.bank[target])
        action, inner = method.policy.act(
            params, Adaptation(code), memory.inner, step, key_act, greedy
        )
        started = jnp.ones((), bool)
        return action, memory._replace(target=target, last=step, started=started, inner=inner)

    return Policy(init, act)


def information(evidence: Array) -> Array:
    """What log-likelihoods [L, K] of L steps under K tasks tell of the task, nats.

    `log K - H(p)`, p the posterior from a uniform prior: 0 where all tasks explain the steps
    alike, `log K` where one task alone does.

    >>> round(float(information(jnp.array([[0.0, -99.0], [0.0, 0.0]]))), 4)  # log 2
    0.6931
    """
    log_p = jax.nn.log_softmax(evidence.sum(axis=0))
    return jnp.log(log_p.shape[0]) + jnp.sum(jnp.exp(log_p) * log_p)


def _learn(method, params, bank, memory, step):
    """Takes in the transition that ended at `step`, unless it is the first step of all."""
    before = memory.last
    seen = (before.obs, step.prev_action, step.prev_reward, step.prev_next_obs)
    evidence = method.evidence(params, *seen, bank)
    evidence = jnp.maximum(evidence - evidence.max(), -MAX_EVIDENCE)
    window = protocols.push(memory.window, before, step)
    rows = protocols.append(memory.evidence, evidence, memory.window.valid)
    told = information(rows)
    better = told >= memory.best_information
    best = jax.tree.map(lambda new, old: jnp.where(better, new, old), window, memory.best)
    after = memory._replace(
        window=window,
        evidence=rows,
        log_posterior=jax.nn.log_softmax(memory.log_posterior + evidence),
        best=best,
        best_information=jnp.maximum(told, memory.best_information),
    )
    return jax.tree.map(lambda new, old: jnp.where(memory.started, new, old), after, memory)


def _choose(bank, memory, key):
    """The task to explore as: the same while it is plausible, then the nearest plausible one."""
    target, plausible = memory.target, _plausible(memory)
    distance = _distance(bank, bank[target])
    nearest = jnp.argmin(jnp.where(plausible, distance, jnp.inf))
    following = jnp.where(plausible[target], target, nearest)
    return jnp.where(target < 0, jax.random.categorical(key, memory.log_posterior), following)


def _plausible(memory):
    """Which tasks [K] are."""
    return memory.log_posterior >= memory.log_posterior.max() - jnp.log(PLAUSIBLE)


def _distance(bank, code):
    """Squared distances [K] of the codes in the bank to one."""
    return jnp.sum((bank - code[None]) ** 2, axis=-1)
