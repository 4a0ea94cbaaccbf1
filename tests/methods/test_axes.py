"""Encoders, task losses, agents and protocols combine: every file of one kind with the others.

What does not fit is refused by a sentence that says why.
"""

from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import FrozenConfigDict

import make_config
from metastar import config, registry
from metastar.errors import UserError
from metastar.evaluation.evaluate import protocols_of
from metastar.evaluation.protocol import Given
from metastar.training import runs
from metastar.types import EnvSpec, StepIn
from synthetic import point_robot_data, point_robot_spec

KEY = jax.random.key(0)
DATA = point_robot_data()
# Two sources, or `mmd` alone would be 0 and teach nothing.
DATA = DATA._replace(policy=jnp.broadcast_to(jnp.arange(4) % 2, DATA.policy.shape))
SPEC = point_robot_spec()._replace(num_policies=2, num_behaviors=2)
ENV = EnvSpec("point_robot_sparse", obs_dim=2, action_dim=2, max_episode_steps=60)
AXES = [registry.names(kind) for kind in ("encoder", "task loss", "agent")]
PROTOCOLS = registry.names("protocol")
# Each file of an axis with each file of the others, at least once. An objective has any number of
# task losses, so that a row takes a third of them: every agent with every group, and the encoders
# go round along both.
GROUPS = [tuple(AXES[1][k :: len(AXES[0])]) for k in range(len(AXES[0]))]
COVER = [
    (AXES[0][(i + j) % len(AXES[0])], group, agent)
    for i, group in enumerate(GROUPS)
    for j, agent in enumerate(AXES[2])
]
# A protocol sees of a method what it infers and how it acts: encoder and agent.
PLAYED = [
    (AXES[0][(i + j) % len(AXES[0])], agent, protocol)
    for i, protocol in enumerate(PROTOCOLS)
    for j, agent in enumerate(AXES[2])
]


def cfg_of(method="contextual", **changes):
    changes = {path.replace("__", "."): value for path, value in changes.items()}
    return config.change(make_config.preset(method, "point_robot_sparse", "debug"), changes)


def made(encoder, task_losses, agent):
    """The method, and its update as a function of the state."""
    changes = {
        "encoder.name": encoder,
        f"encoder.{encoder}.context": "window",
        f"encoder.{encoder}.context_len": 6,
        "sampler.positive": "other_behavior",
        "agent.name": agent,
        f"agent.{agent}.hidden": (8,),
        "task_losses.distance": 0.0,
        **{f"task_losses.{name}": 1.0 for name in task_losses},
    }
    method = runs.make_method(FrozenConfigDict(cfg_of(**changes)), SPEC)
    (phase,) = method.phases

    def step(state):
        batch = phase.sample(DATA, KEY, 0)
        return phase.update(state, batch, KEY, method.hp, jnp.int32(0))

    return method, step


def action_of(method, protocol):
    """The first action of one stream, as the protocol has it."""
    params = method.export(method.init(KEY))
    given = Given(DATA.task, [DATA])
    adaptations, _ = protocol.prepare(params, DATA, given, 1, KEY)
    adaptation = jax.tree.map(lambda x: x[0, 0], adaptations)
    nothing = StepIn(jnp.zeros(2), jnp.zeros(2), jnp.zeros(()), jnp.zeros(2), jnp.array(True))
    carry = protocol.policy.init(params, adaptation)
    return protocol.policy.act(params, adaptation, carry, nothing, KEY, jnp.array(True))[0]


def train_one_step(*axes):
    """Takes a step in which every part learns; returns its metrics."""
    method, step = made(*axes)
    state = method.init(KEY)  # what eager operations compile serves the other cases too
    new, metrics = jax.device_get(jax.jit(step)(state))
    assert all(np.isfinite(x).all() for x in jax.tree.leaves((new, metrics)))
    for part, learner in jax.device_get(state).items():
        moved = jax.tree.map(lambda a, b: (a != b).any(), learner.params, new[part].params)
        assert any(jax.tree.leaves(moved)), part
    return metrics


def test_the_covers_have_every_pair():
    rows = [(encoder, name, agent) for encoder, group, agent in COVER for name in group]
    for a, b in ((0, 1), (0, 2), (1, 2)):
        assert {(row[a], row[b]) for row in rows} == set(product(AXES[a], AXES[b]))
    for a, axes in ((0, AXES[0]), (1, AXES[2])):
        assert {(row[a], row[2]) for row in PLAYED} == set(product(axes, PROTOCOLS))


@pytest.mark.parametrize("axes", COVER, ids=lambda axes: f"{axes[0]}-{axes[2]}")
def test_a_cover_of_the_axes_trains_one_step(axes):
    assert set(axes[1]) <= train_one_step(*axes).keys()


@pytest.mark.parametrize("axes", PLAYED, ids="-".join)
def test_a_cover_of_the_axes_can_be_played(axes):
    encoder, agent, protocol = axes
    method, _ = made(encoder, ("distance",), agent)
    strategy = {"eval.strategy": "idaq"} if protocol == "explored" else {}
    (found,) = protocols_of(cfg_of(eval__protocols=protocol, **strategy), method, ENV)
    assert jax.eval_shape(lambda: action_of(method, found)).shape == (2,)


@pytest.mark.slow
@pytest.mark.parametrize("axes", list(product(*AXES)), ids="-".join)
def test_every_combination_trains_one_step(axes):
    encoder, task_loss, agent = axes
    assert task_loss in train_one_step(encoder, (task_loss,), agent)


# --- what does not fit


def refusal(method, **changes):
    """The sentence at the first of: checking settings, building, tracing an update."""
    with pytest.raises(UserError) as found:
        cfg = cfg_of(method, **changes)
        config.validate(cfg)
        made = runs.make_method(FrozenConfigDict(cfg), SPEC)
        (phase,) = made.phases
        state = jax.eval_shape(made.init, KEY)

        def step(state):
            return phase.update(state, phase.sample(DATA, KEY, 0), KEY, made.hp, jnp.int32(0))

        jax.eval_shape(step, state)
    sentence = str(found.value)
    assert "\n" not in sentence
    return sentence


@pytest.mark.parametrize("method", ["contextual", "spc"])
@pytest.mark.parametrize("encoder", ["gru", "transformer"])
def test_an_encoder_of_ordered_steps_refuses_bags(method, encoder):
    bag = {f"encoder.{encoder}.context": "bag"}
    found = refusal(method, encoder__name=encoder, **bag)
    assert "reads steps in time order, and the transitions of a bag have none" in found


@pytest.mark.parametrize("method", ["contextual", "spc"])
@pytest.mark.parametrize("encoder", ["gru", "transformer"])
def test_a_loss_on_codes_of_transitions_refuses_an_encoder_that_makes_none(method, encoder):
    loss = {"task_losses__club": 1.0, "club__codes": "transition"}
    found = refusal(method, encoder__name=encoder, **loss)
    assert "needs a code of every transition, which this encoder does not make" in found


@pytest.mark.parametrize("method", ["contextual", "spc"])
@pytest.mark.parametrize("task_loss", ["adversary", "mmd"])
def test_a_loss_that_compares_sources_refuses_bags(method, task_loss):
    found = refusal(method, sampler__windows=2, **{f"task_losses.{task_loss}": 1.0})
    assert f"task loss '{task_loss}' compares the sources of contexts, but a bag mixes" in found


@pytest.mark.parametrize("method", ["contextual", "spc"])
def test_a_positive_of_another_source_refuses_bags(method):
    found = refusal(method, sampler__windows=2, sampler__positive="other_behavior")
    assert "needs contexts of one source, but a bag mixes those of its task" in found


@pytest.mark.parametrize("method", ["contextual", "spc", "corro"])
def test_the_shortest_context_is_no_longer_than_a_whole_one(method):
    found = refusal(method, **{"encoder.shortest": 13, "encoder.mean_mlp.context_len": 12})
    assert "encoder.shortest is 13, but contexts have encoder.mean_mlp.context_len = 12" in found


@pytest.mark.parametrize("method", ["contextual", "spc"])
@pytest.mark.parametrize("task_loss", ["infonce", "club", "mmd"])
def test_a_loss_between_two_contexts_refuses_a_single_one(method, task_loss):
    loss = {"sampler.windows": 1, f"task_losses.{task_loss}": 1.0}
    assert "set sampler.windows=2" in refusal(method, **loss)


@pytest.mark.parametrize("method", ["spc", "oracle"])
def test_an_agent_of_several_batches_refuses_a_method_that_draws_one(method):
    found = refusal(method, agent__name="brac")
    assert "agent 'brac' learns from 3 batches of rows in an update, but" in found


def test_a_strategy_that_needs_a_model_refuses_an_objective_without_one():
    method, _ = made("gru", ("distance",), "iql")
    cfg = cfg_of(eval__protocols="explored", eval__strategy="posterior")
    with pytest.raises(UserError, match=r"by a model of their rewards, and this run has none"):
        protocols_of(cfg, method, ENV)
