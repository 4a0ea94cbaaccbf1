"""Zero-shot with purposeful exploration: act where training tasks would differ, to learn the task.

The plain zero-shot protocol acts uniformly until its window is full and then uses whatever is in
the window. This one acts on codes of the training tasks, which a strategy of `exploration/`
chooses. Of all windows of the agent's own history it keeps the one with the highest score as its
context, and the code inferred from that is its own code, on which it acts in the end. The budget is
the same: as many steps as one full episode has, over one or more episodes; the episodes that begin
afterwards are scored.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from metastar import registry
from metastar.config.fields import Field
from metastar.data.contexts import folded, steps_of
from metastar.errors import UserError
from metastar.evaluation import belief, history
from metastar.evaluation.protocol import Protocol
from metastar.evaluation.strategy import Seen
from metastar.types import Adaptation, Array, EnvSpec, Method, Policy, StepIn, View

STRATEGY = "exploration strategy"
DEFAULTS = {
    "strategy": Field("idaq", STRATEGY, "how to explore: a file of exploration/", selector=True)
}
SECTIONS = {"eval": (history,)}


def make(cfg, method: Method, spec: EnvSpec) -> Protocol:
    """`exploring` by the strategy of the config, on a bank of codes of the training tasks' data.

    Raises `UserError` as `expect_fit` does, if a stream cannot fill the method's context, and from
    `prepare` if the method infers no codes.
    """
    budget = spec.max_episode_steps
    episodes = history.stream_episodes(spec, budget)
    history.expect_full(steps_of(method.context), episodes * budget)
    empty = folded(history.empty_window(spec, steps_of(method.context)), method.context)

    def prepare(params, train, given, streams, key):
        inferred = method.infer(params, empty, None, key)
        if not isinstance(inferred, Adaptation):
            raise UserError(
                "exploring acts on task codes alone, and what this run's method infers is more or "
                "less than a code; leave --explore out, or choose a run of another method"
            )
        explorer = Explorer(inferred.code, belief.make_bank(method)(params, train, key))
        shape = len(jax.tree.leaves(given.task)[0]), streams
        return jax.tree.map(lambda x: jnp.broadcast_to(x, (*shape, *x.shape)), explorer), None

    return Protocol(
        name=f"explored_{cfg.strategy}",
        title=f"zero-shot, exploring: {cfg.strategy}",
        prepare=prepare,
        policy=exploring(method, cfg.strategy, spec),
        streams=cfg.eval.zero_shot_streams,
        episodes=episodes,
        budget=budget,
        inferences=1 + episodes * spec.max_episode_steps,
    )


class Explorer(NamedTuple):
    """What the policy knows before the first step."""

    code: Array  # [Z] of an empty context
    bank: Array  # [K, Z] codes of the training tasks, in any order


class Memory(NamedTuple):
    """What the policy carries from step to step, and over episodes."""

    window: View  # [L] the agent's last steps, oldest first
    # [L, K + 1] log-likelihoods of these steps' rewards under the bank's codes and, last, under the
    # code acted on, nats
    likelihood: Array
    log_posterior: Array  # [K]
    best: View  # [L] the window of the highest score so far
    score: Array  # [] its score
    code: Array  # [Z] the code acted on last
    num_steps: Array  # [] int: steps so far, over all episodes
    last_step: StepIn  # what the policy saw one step ago
    strategy: Any  # the strategy's memory
    inner: Any  # the carry of the wrapped policy


def expect_fit(method: Method, name: str) -> None:
    """Raises `UserError` if there is no such strategy or the method lacks what it needs."""
    needs_model = registry.find(STRATEGY, name).NEEDS_MODEL
    if method.privileged:
        raise UserError(
            f"strategy {name!r} explores to learn the task, and this run's method is told it; "
            "leave --explore out, or choose a run of another method"
        )
    if needs_model and method.task_model is None:
        known = registry.names(STRATEGY)
        others = [n for n in known if not registry.find(STRATEGY, n).NEEDS_MODEL]
        raise UserError(
            f"strategy {name!r} weighs tasks by a model of their rewards, and this run has none; "
            f"explore with {', '.join(others)}, which need none, or train with "
            "task_losses.reconstruction above 0"
        )


def exploring(method: Method, name: str, spec: EnvSpec) -> Policy:
    """The exploring policy with one strategy, as the module's docstring describes it.

    At each step the last transition enters the window and, if the method has a task model, its
    likelihood multiplies the posterior of every task of the bank. The window becomes the new best
    one if its score is at least that of the best one so far.

    Args:
        method: the method whose `infer` and `policy` are wrapped.
        name: of the strategy.
        spec: sizes of observation and action, and the length of an episode.

    Returns:
        A `Policy` whose adaptation is an `Explorer`.

    Raises:
        UserError: as `expect_fit`.
    """
    expect_fit(method, name)
    strategy = registry.make(STRATEGY, name, method, spec)
    length = steps_of(method.context)

    def init(params, explorer):
        num = explorer.bank.shape[0]
        nothing = StepIn(
            obs=jnp.zeros(spec.obs_dim),
            prev_action=jnp.zeros(spec.action_dim),
            prev_reward=jnp.zeros(()),
            prev_next_obs=jnp.zeros(spec.obs_dim),
            first=jnp.zeros((), bool),
        )
        window = history.empty_window(spec, length)
        return Memory(
            window=window,
            likelihood=jnp.zeros((length, num + 1)),
            log_posterior=jnp.full(num, -jnp.log(num)),
            best=window,
            score=jnp.full((), -jnp.inf),
            code=explorer.code,
            num_steps=jnp.array(0),
            last_step=nothing,
            strategy=strategy.init(explorer.bank),
            inner=method.policy.init(params, Adaptation(explorer.code)),
        )

    def act(params, explorer, memory, step, key, greedy):
        key_choose, key_infer, key_act = jax.random.split(key, 3)
        learned = _learn(method, strategy, params, explorer.bank, memory, step)
        started = memory.num_steps > 0
        memory = jax.tree.map(lambda new, old: jnp.where(started, new, old), learned, memory)
        # Counted in lengths of a full episode, so that an early end does not shorten exploration.
        episode, time = jnp.divmod(memory.num_steps, spec.max_episode_steps)
        best = folded(memory.best, method.context)
        own_code = method.infer(params, best, None, key_infer).code
        seen = Seen(
            explorer.bank, memory.log_posterior, own_code, memory.score, episode, time, step.obs
        )
        code, chosen = strategy.choose(params, seen, memory.strategy, key_choose)
        action, inner = method.policy.act(
            params, Adaptation(code), memory.inner, step, key_act, greedy
        )
        return action, memory._replace(
            code=code,
            num_steps=memory.num_steps + 1,
            last_step=step,
            strategy=chosen,
            inner=inner,
        )

    return Policy(init, act)


def _learn(method, strategy, params, bank, memory, step):
    """The memory after the transition from the step before to `step`."""
    before = memory.last_step
    transition = before.obs, step.prev_action, step.prev_reward, step.prev_next_obs
    codes = jnp.concatenate([bank, memory.code[None]])
    likelihood = belief.log_likelihood(method, params, *transition, codes)
    evidence = belief.evidence(likelihood[:-1])
    window = history.push(memory.window, before, step)
    rows = history.append(memory.likelihood, likelihood, memory.window.valid)
    score = strategy.score(window, rows)
    better = score >= memory.score
    best = jax.tree.map(lambda new, old: jnp.where(better, new, old), window, memory.best)
    return memory._replace(
        window=window,
        likelihood=rows,
        log_posterior=jax.nn.log_softmax(memory.log_posterior + evidence),
        best=best,
        score=jnp.maximum(score, memory.score),
    )
