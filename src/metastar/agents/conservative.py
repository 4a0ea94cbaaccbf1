"""The conservative actor-critic, MetaSTAR's agent and the oracle's: it acts on (obs, code).

The method decides what the code is: an inferred task code, or the true task parameters.
Source: COMBO (Yu et al. 2021, arXiv 2102.08363) on soft actor-critic, as MetaSTAR uses it.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from metastar.config.fields import COUNT, NOT_NEGATIVE, RATE, Field, Like
from metastar.data.rows import Transitions
from metastar.errors import UserError
from metastar.losses import actor as actor_loss
from metastar.losses import critic as critic_loss
from metastar.models.nets.actor_critic import (
    Actor,
    Critic,
    init_actor,
    init_twin_critic,
    sample_action,
    twin_q,
)
from metastar.ops.optim import gradient_step, make_optimizer
from metastar.ops.td import polyak
from metastar.types import Agent, Array, Learner, RowSpec

DEFAULTS = {
    "hidden": Field((128, 128), COUNT, "widths of the hidden layers"),
    "gamma": Field(Like("env.discount"), "[0, 1)", "discount", swept=True),
    "alpha": Field(0.01, NOT_NEGATIVE, "entropy weight", swept=True),
    "tau": Field(0.005, RATE, "Polyak rate of the target critics", swept=True),
    "actor_lr": Field(3e-4, RATE, "learning rate", swept=True, decays=True),
    "critic_lr": Field(3e-4, RATE, "learning rate", swept=True, decays=True),
    "actor_average": Field(
        0.0, "[0, 1)", "decay of the averaged actor; 0 makes it the actor itself", swept=True
    ),
    "penalty": Field(
        "cql",
        ("cql", "combo", "reward_uncertainty"),
        "the CQL penalty; COMBO's, the policy's mean value at imagined states; or none on values, "
        "with imagine.penalty in its place",
        before="cql",
    ),
    "beta": Field(0.5, NOT_NEGATIVE, "weight of the penalty on values", swept=True),
    "num_actions": Field(10, COUNT, "K, sampled actions of each of the penalty's three kinds"),
    "cql_states": Field(0, NOT_NEGATIVE, "states of the penalty, per task; 0 is the whole batch"),
    "tile_states": Field(
        0, NOT_NEGATIVE, "its states at a time, for speed alone; 0 is all at once", before=0
    ),
    "cql_gradient": Field(
        "exact",
        ("exact", "sampled"),
        "through all sampled actions, or an unbiased estimate through some of them",
        before="exact",
    ),
    "gradient_actions": Field(2, COUNT, "G, actions of the sampled gradient, per state", before=2),
    "cloning": Field(
        0.0,
        NOT_NEGATIVE,
        "weight of the actor's squared distance to the data's actions",
        swept=True,
        switch=True,
        before=0.0,
    ),
}
READS = ("sampler", "env")


def check(cfg) -> None:
    """Raises `UserError` for fields that do not fit together."""
    if cfg.cql_states and cfg.sampler.batch_size % cfg.cql_states:
        raise UserError(
            f"agent.conservative.cql_states is {cfg.cql_states} but must be 0 or divide "
            f"sampler.batch_size, {cfg.sampler.batch_size}"
        )


def idle(cfg) -> dict[str, str]:
    """Settings without effect under the other settings, which must not be swept, and why."""
    if cfg.penalty != "reward_uncertainty":
        return {}
    name = "agent.conservative.penalty"
    return {
        "beta": f"while {name}='reward_uncertainty' leaves values alone; set {name} to 'cql' or "
        "'combo'"
    }


class Nets(NamedTuple):
    """The modules."""

    actor: Actor
    critic: Critic


def make(cfg, rows: RowSpec) -> Agent:
    """Binds actor and twin critics to their settings, for updates on `rows`."""
    return bind(Nets(Actor(cfg.hidden, rows.action_dim), Critic(cfg.hidden)), cfg, rows)


def bind(nets: Nets, cfg, rows: RowSpec) -> Agent:
    """The agent of these modules."""
    optimizer = make_optimizer()

    def init(key, size):
        key_actor, key_critic = jax.random.split(key)
        params = {
            "actor": init_actor(key_actor, nets.actor, size),
            "critic": init_twin_critic(key_critic, nets.critic, size, rows.action_dim),
        }
        opt_state = {name: optimizer.init(params[name]) for name in params}
        return Learner(params, {"critic": params["critic"]}, opt_state, {"actor": params["actor"]})

    def act(params, obs_code, noise, greedy):
        noise = jnp.where(greedy, 0, noise)
        return sample_action(nets.actor, params["actor"], obs_code, noise)[0]

    def value(params, obs_code, action):
        return twin_q(nets.critic, params["critic"], obs_code, action).min(0)

    def export(learner):
        return {"actor": learner.extra["actor"], "critic": learner.params["critic"]}

    return Agent(init, partial(update, nets, cfg, rows), export, act, value)


def update(
    nets: Nets,
    cfg,
    rows: RowSpec,
    learner: Learner,
    batch: Transitions,
    key: Array,
    hp: dict[str, Array],
    step: Array,
) -> tuple[Learner, dict[str, Array]]:
    """One update: targets, critics, Polyak average, actor against the new critics, averaged actor.

    Args:
        nets: the modules.
        cfg: the settings of this file.
        rows: sizes of the batch.
        learner: `params` and `opt_state` of "actor" and "critic", the target "critic", and in
            `extra` the averaged "actor".
        batch: [M * B, ...] by task.
        key: of this update.
        hp: the swept settings of this file.
        step: [] int, since the phase began; not used.

    Returns:
        The learner, and metrics [] by name.
    """
    del step
    params, opt_state, optimizer = learner.params, learner.opt_state, make_optimizer()
    key_critic, key_actor = jax.random.split(key)
    states = cql_rows(batch, cfg, rows)
    num_picks = cfg.gradient_actions if cfg.cql_gradient == "sampled" else 0
    noise = critic_loss.draw_noise(
        key_critic, *batch.action.shape, states.real.shape[0], cfg.num_actions, num_picks
    )
    act = partial(sample_action, nets.actor, params["actor"])

    # y = r + gamma (1 - done) (min_i Q'_i(s', a') - alpha log pi(a'|s')), a' ~ pi
    target_q = partial(twin_q, nets.critic, learner.target["critic"])
    y = critic_loss.target(
        batch.reward,
        batch.done,
        batch.next_obs_code,
        noise,
        hp["gamma"],
        hp["alpha"],
        act,
        target_q,
    )

    # sum_i mean (Q_i - y)^2 + beta (log-sum-exp of Q_i at sampled actions - mean Q_i at real rows)
    samples = _samples(cfg, states, noise, act)
    rated = critic_loss.CriticBatch(batch.obs_code, batch.action, y, batch.real, samples)
    critic, critic_opt, metrics = gradient_step(critic_loss.loss, optimizer)(
        params["critic"],
        opt_state["critic"],
        hp["critic_lr"],
        rated,
        hp["beta"],
        nets.critic,
        cfg.tile_states,
    )
    target = polyak(critic, learner.target["critic"], hp["tau"])

    # mean alpha log pi(a|s) - min_i Q_i(s, a), and the distance to the data's actions if asked for
    actor, actor_opt, actor_metrics = gradient_step(actor_loss.loss, optimizer)(
        params["actor"],
        opt_state["actor"],
        hp["actor_lr"],
        batch.obs_code,
        jax.random.normal(key_actor, batch.action.shape),
        hp["alpha"],
        nets.actor,
        partial(twin_q, nets.critic, critic),
        *((batch.action, batch.real, hp["cloning"]) if cfg.cloning else ()),
    )
    average = polyak(actor, learner.extra["actor"], 1 - hp["actor_average"])
    learner = Learner(
        params={"actor": actor, "critic": critic},
        target={"critic": target},
        opt_state={"actor": actor_opt, "critic": critic_opt},
        extra={"actor": average},
    )
    return learner, {**metrics, **actor_metrics}


def cql_rows(batch: Transitions, cfg, rows: RowSpec) -> Transitions:
    """The rows at whose states the penalty lowers values.

    "cql" takes them from the data and from rollouts, as the MetaSTAR reference; "combo" from
    rollouts alone, if there are any: rho(s, a) = d_M(s) pi(a | s), COMBO, Yu et al. 2021 (arXiv
    2102.08363), section 4. At most `cfg.cql_states` of each task, unless that is 0; which of the
    real or of the imagined rows makes no difference, since they are exchangeable.

    Args:
        batch: [M * B, ...] by task; the last `rows.imagined` of each task's B are imagined.
        cfg: the agent's settings.
        rows: B and how many are imagined.

    Returns:
        [S, ...].
    """
    kept = rows.imagined if cfg.penalty == "combo" and rows.imagined else rows.per_task
    stride = -(-kept // cfg.cql_states) if cfg.cql_states else 1

    def thin(x):
        by_task = x.reshape(-1, rows.per_task, *x.shape[1:])[:, rows.per_task - kept :: stride]
        return by_task.reshape(-1, *x.shape[1:])

    return jax.tree.map(thin, batch)


def _samples(cfg, states: Transitions, noise, act):
    """The actions whose values the penalty that `cfg` names lowers; None for no such penalty."""
    if cfg.penalty == "reward_uncertainty":
        return None
    if cfg.penalty == "combo":
        return critic_loss.policy_samples(states.obs_code, noise, act)
    return critic_loss.conservative_samples(states.obs_code, states.next_obs_code, noise, act)
