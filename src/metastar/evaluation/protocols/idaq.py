"""IDAQ: episodes on codes of training tasks, of which the best in distribution is the context.

Wang et al. 2023 (ICML, arXiv 2305.19529): an encoder that learned from recorded data knows the
contexts that policies of the training tasks make. So the agent first plays whole episodes on codes
of training tasks, and infers its own code only from the episode that a score finds most like the
data. Nothing is trained. The strategies `idaq` and `idaq_error` of `evaluation/exploration/` do the
same within the budget of one episode.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from metastar.config.fields import COUNT, NOT_NEGATIVE, Field
from metastar.data.contexts import folded, steps_of
from metastar.errors import UserError
from metastar.evaluation import belief, history, predictions
from metastar.evaluation.inference import expect_code
from metastar.evaluation.protocol import Protocol
from metastar.types import Adaptation, Array, Context, EnvSpec, Method, Policy, StepIn, View

DEFAULTS = {
    "idaq_budget": Field(6, COUNT, "episodes before the scored one; the first of them explore"),
    "idaq_explore": Field(
        5,
        COUNT,
        "of these, on codes of training tasks; IDAQ: ML1 5, point 10, Cheetah-Vel 2",
    ),
    "idaq_candidates": Field(
        5, COUNT, "codes drawn for such an episode, of which the farthest is taken; IDAQ: point 20"
    ),
    "idaq_score": Field(
        "return",
        predictions.SCORES,
        "what tells that an episode is in distribution: its return (IDAQ's best), or, of a method "
        "with a task model, minus the squared errors of its predictions or minus their spread",
    ),
    "idaq_spread": Field(
        "members",
        ("members", "time"),
        "over what: the members of the method's ensemble, or the steps of the episode, as in "
        "IDAQ's code",
    ),
    "idaq_frozen": Field(
        False, "", "exploration sets the best score for good; IDAQ's code by prediction: True"
    ),
    "idaq_final": Field(
        "best",
        ("best", "posterior"),
        "code of the scored episodes: that of the best episode, as IDAQ's code by return, or the "
        "one inferred",
    ),
    "idaq_context": Field(
        0,
        NOT_NEGATIVE,
        "own steps that a context may hold, the newest ones; 0: as many as the method's has, more "
        "only for methods on bags. IDAQ: all of them",
    ),
}
SECTIONS = {"eval": (history,)}


def check(cfg) -> None:
    """Raises `UserError` if there are more exploring episodes than episodes."""
    if cfg.idaq_explore > cfg.idaq_budget:
        raise UserError(
            f"eval.idaq_explore is {cfg.idaq_explore}, but the budget before the scored episode is "
            f"eval.idaq_budget = {cfg.idaq_budget} episodes; lower the first or raise the second"
        )


def make(cfg, method: Method, spec: EnvSpec) -> Protocol:
    """The policy `exploring`, on a bank of codes of the training tasks' data.

    The budget is `idaq_budget` full episodes' steps. Where episodes end early more of them fit,
    which are all played on the own code.

    Raises `UserError` if the method is told the task, lacks the task model that the score needs, or
    cannot take contexts of that length; and from `prepare` if it infers no codes.
    """
    expect_fit(cfg, method)
    context = Context(cfg.idaq_context, ordered=False) if cfg.idaq_context else method.context
    budget = cfg.idaq_budget * spec.max_episode_steps
    episodes = history.stream_episodes(spec, budget)
    score = predictions.scorer(cfg.idaq_score, method, cfg.idaq_spread)
    empty = folded(history.empty_window(spec, steps_of(method.context)), method.context)

    def prepare(params, train, given, streams, key):
        expect_code(method.infer(params, empty, None, key), "protocol 'idaq'")
        known = Known(belief.make_bank(method)(params, train, key))
        shape = len(jax.tree.leaves(given.task)[0]), streams
        return jax.tree.map(lambda x: jnp.broadcast_to(x, (*shape, *x.shape)), known), None

    return Protocol(
        name="idaq",
        title=f"IDAQ, by {cfg.idaq_score}",
        prepare=prepare,
        policy=exploring(Setting(cfg, method, spec, context, score)),
        streams=cfg.eval.zero_shot_streams,
        episodes=episodes,
        budget=budget,
        inferences=1 + 2 * episodes,
        keys=lambda key: (jax.random.fold_in(key, 2), jax.random.fold_in(key, 1)),
    )


def expect_fit(cfg, method: Method) -> None:
    """Raises `UserError` for a method that cannot explore, or not with that score or context."""
    if method.privileged:
        raise UserError(
            "protocol 'idaq' explores to learn the task, and this run's method is told it; leave "
            "it out of eval.protocols, or choose a run of another method"
        )
    if cfg.idaq_score != "return" and method.task_model is None:
        raise UserError(
            f"eval.idaq_score={cfg.idaq_score!r} scores an episode by a task model's predictions, "
            "and this run's method has none; set eval.idaq_score='return', or train a method with "
            "task_losses.reconstruction above 0, or 'contextual' with ensemble.members above 0"
        )
    ensemble = method.task_model is not None and method.task_model.members is not None
    if (cfg.idaq_score, cfg.idaq_spread) == ("spread", "members") and not ensemble:
        raise UserError(
            "eval.idaq_score='spread' is over the members of an ensemble, and this run's method "
            "has one model; train 'contextual' with ensemble.members above 1, or set "
            "eval.idaq_spread='time'"
        )
    if cfg.idaq_context and (method.context.ordered or method.context.num > 1):
        raise UserError(
            "eval.idaq_context is for methods on one bag of transitions, and this run's method "
            f"takes {method.context.num} windows of {method.context.length} steps; set it to 0"
        )


class Known(NamedTuple):
    """What the policy knows before the first step."""

    bank: Array  # [K, Z] codes of the training tasks, in any order


class Search(NamedTuple):
    """What the episodes so far have shown."""

    context: View  # [n] own steps to infer from: those of the episode accepted last, and before it
    before: View  # [n] the context to which the best episode was added
    code: Array  # [Z] acted on
    best_code: Array  # [Z] of the episode of the best score, i.e. the one that produced it
    best_score: Array  # []
    tried: Array  # [K] bool: codes of the bank that were acted on


class Memory(NamedTuple):
    """What the policy carries from step to step, and over episodes."""

    window: View  # [T] the present episode so far
    search: Search
    finished: Array  # [] bool: the budget is used up
    last: StepIn  # what the policy saw one step ago
    num_steps: Array  # [] int: steps so far, without the padding after a terminal
    inner: Any  # the carry of the wrapped policy


class Setting(NamedTuple):
    """The constant inputs of the policy."""

    cfg: Any  # settings of this file
    method: Method  # whose `infer` and `policy` are wrapped
    spec: EnvSpec
    context: Context  # form of what is inferred from
    score: Callable  # (params, episode View [T], code [Z]) -> []


def exploring(setting: Setting) -> Policy:
    """The policy of the protocol; codes change at the start of an episode alone, by `begin`.

    Its adaptation is `Known`. An episode is recorded while it is played.
    """
    method, spec = setting.method, setting.spec

    def init(params, known):
        empty = history.empty_window(spec, steps_of(setting.context))
        code, untried = jnp.zeros_like(known.bank[0]), jnp.zeros(known.bank.shape[0], bool)
        nothing = StepIn(
            obs=jnp.zeros(spec.obs_dim),
            prev_action=jnp.zeros(spec.action_dim),
            prev_reward=jnp.zeros(()),
            prev_next_obs=jnp.zeros(spec.obs_dim),
            first=jnp.zeros((), bool),
            time=jnp.zeros((), int),
        )
        return Memory(
            window=history.empty_window(spec, spec.max_episode_steps),
            search=Search(empty, empty, code, code, jnp.full((), -jnp.inf), untried),
            finished=jnp.zeros((), bool),
            last=nothing,
            num_steps=jnp.zeros((), int),
            inner=method.policy.init(params, Adaptation(code)),
        )

    def act(params, known, memory, step, key, greedy):
        key_begin, key_act = jax.random.split(key)
        pushed = history.push(memory.window, memory.last, step)
        started = memory.num_steps > 0
        window = jax.tree.map(partial(jnp.where, started), pushed, memory.window)
        memory = memory._replace(window=window)
        # `StepIn.time` is common to all streams, so that the branch stays a branch under vmap.
        episode, time = jnp.divmod(step.time, spec.max_episode_steps)
        memory = jax.lax.cond(
            time == 0,
            lambda: begin(setting, params, known.bank, memory, episode, key_begin),
            lambda: memory,
        )
        adaptation = Adaptation(memory.search.code)
        action, inner = method.policy.act(params, adaptation, memory.inner, step, key_act, greedy)
        num_steps = memory.num_steps + 1
        return action, memory._replace(last=step, num_steps=num_steps, inner=inner)

    return Policy(init, act)


def begin(
    setting: Setting, params: Any, bank: Array, memory: Memory, episode: Array, key: Array
) -> Memory:
    """The memory at the start of an episode, [] int: what the last one taught, and a code for it.

    1. The score of the last episode decides what it is good for, if it was within the budget.
    2. For an episode of exploration some codes of the bank are drawn, and the one farthest from its
       nearest tried one is acted on.
    3. The first episode after exploration acts on the code inferred from the best episode, later
       ones on what `learn` leaves, and those that are scored as `idaq_final` has it.
    """
    cfg, search, length = setting.cfg, memory.search, setting.spec.max_episode_steps
    key_drawn, key_infer = jax.random.split(key)

    def infer(view):
        folds = folded(view, setting.context)
        return setting.method.infer(params, folds, None, key_infer).code

    last = memory.window._replace(episode=jnp.full_like(memory.window.episode, episode - 1))
    score = setting.score(params, last, search.code)
    explored = episode <= cfg.idaq_explore
    learned, _ = learn(search, last, score, explored, infer, cfg.idaq_frozen)
    counts = (episode > 0) & ~memory.finished
    search = jax.tree.map(partial(jnp.where, counts), learned, search)

    explores = episode < cfg.idaq_explore
    drawn = jax.random.randint(key_drawn, (cfg.idaq_candidates,), 0, bank.shape[0])
    chosen, _ = belief.farthest(bank, search.tried, drawn)
    tried = jnp.where(explores, search.tried.at[chosen].set(True), search.tried)

    code = jnp.where(episode == cfg.idaq_explore, infer(search.context), search.code)
    code = jnp.where(explores, bank[chosen], code)
    finished = memory.num_steps >= cfg.idaq_budget * length
    if cfg.idaq_final == "best":
        code = jnp.where(finished, search.best_code, code)
    return memory._replace(
        window=history.empty_window(setting.spec, length),
        search=search._replace(code=code, tried=tried),
        finished=finished,
    )


def learn(
    search: Search,
    episode: View,
    score: Array,
    explored: Array,
    infer: Callable,
    frozen: bool = False,
) -> tuple[Search, Array]:
    """What an episode [T] teaches: the search after it, and whether it was accepted, [] bool.

    Better than the best so far, it joins the context, and the code is inferred from that; while
    exploring it is the context alone. Otherwise the search goes back: to the code that produced the
    best episode and, after exploration, to the context before that one.

    Args:
        search: before it.
        episode: its steps, on `search.code`.
        score: [] of it.
        explored: [] bool: the episode was one of exploration.
        infer: (View [n]) -> code [Z].
        frozen: the best score rises in exploration alone.
    """

    def choose(condition, new, old):
        return jax.tree.map(partial(jnp.where, condition), new, old)

    accepted = score > search.best_score
    nothing = search.context._replace(valid=jnp.zeros_like(search.context.valid))
    before = choose(explored, nothing, search.context)
    reverted = choose(explored, search.context, search.before)
    context = choose(accepted, appended(before, episode), reverted)
    best_code = jnp.where(accepted, search.code, search.best_code)
    raised = accepted & (explored | (not frozen))
    return search._replace(
        context=context,
        before=choose(accepted, before, search.before),
        code=jnp.where(accepted, infer(context), best_code),
        best_code=best_code,
        best_score=jnp.where(raised, score, search.best_score),
    ), accepted


def appended(context: View, episode: View) -> View:
    """The newest n valid steps of a context [n] and an episode [T] after it."""
    valid = jnp.concatenate([context.valid, episode.valid])
    order, num = jnp.argsort(~valid, stable=True), valid.sum()
    size = context.valid.shape[0]
    rows = order[jnp.maximum(num - size, 0) + jnp.arange(size)]
    joined = jax.tree.map(
        lambda a, b: jnp.concatenate([a, b])[rows] if a.ndim else a, context, episode
    )
    return joined._replace(valid=jnp.arange(size) < num)
