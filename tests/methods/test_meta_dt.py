"""Meta-DT: acting with a cache, prompts, targets, and what is refused."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import FrozenConfigDict

import make_config
from metastar import config
from metastar.data.sampler import sample_windows
from metastar.errors import UserError
from metastar.evaluation import history
from metastar.evaluation.protocols import own_episodes
from metastar.loading import make_agent
from metastar.methods import meta_dt
from metastar.models import prompts, sequence_policy
from metastar.models.nets.decision_transformer import Steps
from metastar.types import EnvSpec, StepIn
from synthetic import point_robot_data, point_robot_spec

T, EPISODES = 15, 2  # steps of an episode
SPEC = point_robot_spec()._replace(max_episode_steps=T)
KEY = jax.random.key(0)


def debug(**fields):
    cfg = make_config.preset("meta_dt", "point_robot_sparse", "debug")
    return config.change(cfg, {path.replace("__", "."): x for path, x in fields.items()})


def bind(spec=SPEC, **fields):
    return meta_dt.bind(config.scope(debug(**fields), "meta_dt", meta_dt), spec)


def make(spec=SPEC, **fields):
    cfg = debug(**fields)
    return meta_dt.make(FrozenConfigDict(config.scope(cfg, "meta_dt", meta_dt)), spec)


def prompted(method, params, seed=0):
    """An adaptation from random steps of one episode."""
    data = point_robot_data(steps=T, seed=seed)
    view = sample_windows(data, jnp.array([0]), KEY, T)
    return method.infer(params, view, None, KEY)


def stream(seed=0):
    """What a stream shows in a world that ignores the action: observations, rewards."""
    rng = np.random.default_rng(seed)
    shape = (EPISODES * T,)
    return jnp.asarray(rng.normal(size=(*shape, 2)), jnp.float32), jnp.asarray(
        rng.normal(size=shape), jnp.float32
    )


def played(method, params, adaptation, obs, reward):
    """Actions [E * T, A] of the policy with its cache, its codes and its returns-to-go."""

    def step(carry, t):
        memory, action = carry
        seen = StepIn(obs[t], action, reward[t - 1] * (t > 0), obs[t], t % T == 0, t)
        action, memory = method.policy.act(params, adaptation, memory, seen, KEY, True)
        return (memory, action), (action, memory.code, memory.to_go)

    begin = method.policy.init(params, adaptation), jnp.zeros(2)
    return jax.jit(lambda: jax.lax.scan(step, begin, jnp.arange(EPISODES * T))[1])()


def encoded_anew(system, params, adaptation, obs, found):
    """The same actions from a whole pass over the steps that the policy sees at each step."""
    action, code, to_go = found
    max_len, kept = system.cfg.context_len, system.cfg.acting.kept
    net = partial(system.net.apply, {"params": params["agent"]})
    prompt, actions = adaptation.prompt, []
    for t in range(T, EPISODES * T):  # the second episode
        number = t % T
        num = number if number < max_len else kept + (number - max_len) % (max_len - kept)
        index, missing = np.arange(t - num, t + 1), max_len - num - 1
        index = np.append(np.full(missing, t), index)  # padded, so that all are one program
        valid = np.arange(max_len) >= missing
        steps = Steps(
            *(to_go[index], system.reader.whiten(obs[index]), code[index], action[index]),
            *(jnp.asarray(index % T), jnp.asarray(valid)),
        )
        actions.append(jax.jit(net)(steps, prompt)[-1])
    return jnp.stack(actions)


@pytest.mark.parametrize("kept", [0, 3])
def test_the_cache_gives_what_encoding_anew_at_every_step_gives(kept):
    fields = {"acting__kept": kept, "meta_dt__return_scale": 1.0}
    system, method = bind(**fields), make(**fields)
    params = method.export(method.init(KEY))
    adaptation = prompted(method, params)
    assert adaptation.prompt.valid.all()
    obs, reward = stream()
    found = played(method, params, adaptation, obs, reward)
    anew = encoded_anew(system, params, adaptation, obs, found)
    np.testing.assert_allclose(found[0][T:], anew, atol=2e-6)
    without = adaptation._replace(prompt=sequence_policy.no_prompt(3, SPEC))
    assert np.abs(anew - encoded_anew(system, params, without, obs, found)).max() > 1e-4


def test_an_episode_begins_anew():
    """Codes, returns-to-go and actions of an episode do not depend on the one before."""
    method = make()
    params = method.export(method.init(KEY))
    adaptation = prompted(method, params)
    obs, reward = stream()
    first = played(method, params, adaptation, obs, reward)
    obs, reward = obs.at[:T].add(1), reward.at[:T].add(1)
    second = played(method, params, adaptation, obs, reward)
    for one, two in zip(first, second):
        np.testing.assert_allclose(one[T:], two[T:], atol=1e-6)
        assert np.abs(one[1:T] - two[1:T]).max() > 1e-4


def test_nothing_is_read_again_where_it_is_not_due():
    """The branch stays a branch under vmap: the time is the same in all streams."""
    method = make()
    params = method.export(method.init(KEY))
    adaptation = prompted(method, params)
    memory = method.policy.init(params, adaptation)
    obs = jnp.zeros((4, 2))

    def act(memory, obs, t):
        step = StepIn(obs, jnp.zeros(2), jnp.zeros(()), obs, t == 0, t)
        return method.policy.act(params, adaptation, memory, step, KEY, True)

    many = jax.tree.map(lambda x: jnp.broadcast_to(x, (4, *x.shape)), memory)
    jaxpr = str(jax.make_jaxpr(jax.vmap(act, (0, 0, None)))(many, obs, 7))
    assert "cond[" in jaxpr


def test_the_prompt_is_where_the_model_errs_most():
    data = point_robot_data(steps=T)
    view = jax.tree.map(lambda x: x[0], sample_windows(data, jnp.array([0]), KEY, 2 * T))
    allowed = prompts.starts(view, 3, 4, T)
    starts = np.flatnonzero(allowed)
    assert (view.step[starts] >= 4).all() and (view.step[starts] <= T - 3).all()
    error = jnp.where(jnp.arange(2 * T) == starts[2] + 1, 5.0, 0.01)
    total = prompts.segment_errors(error, view, 3)
    assert int(prompts.largest(total, allowed)) in starts[1:4]
    drawn = [int(prompts.draw_start(total, allowed, u)) for u in np.linspace(0, 0.999, 50)]
    assert set(drawn) <= set(starts)
    near = np.isin(drawn, starts[1:4]).mean()
    assert near > 0.8


def test_returns_to_go_of_a_prompt_are_those_of_its_episode():
    """A window that joins two episodes: only the end of the first and the second are known."""
    data = point_robot_data(steps=T)
    view = jax.tree.map(lambda x: x[0], sample_windows(data, jnp.array([0]), KEY, 2 * T - 4))
    to_go = np.array(prompts.to_go(view))
    for episode in np.unique(view.episode):
        own = np.array(view.episode) == episode
        expected = np.cumsum(np.array(view.reward)[own][::-1])[::-1]
        np.testing.assert_allclose(to_go[own], expected, rtol=1e-6)


def test_a_context_without_steps_gives_no_prompt_and_the_target_of_the_training_tasks():
    method = make(meta_dt__target="context")
    params = method.export(method.init(KEY)) | {"target": jnp.array(3.5)}
    empty = jax.tree.map(lambda x: x[None], history.empty_window(SPEC, T))
    found = method.infer(params, empty, None, KEY)
    assert not found.prompt.valid.any() and found.target == 3.5 and (found.code == 0).all()


def test_targets():
    data = point_robot_data(steps=T)
    view = jax.tree.map(
        lambda x: x.reshape(1, *x.shape) if x.ndim else x[None],
        jax.tree.map(lambda x: x[0], sample_windows(data, jnp.array([0]), KEY, 3 * T)),
    )
    whole = (np.array(view.step[0]) == 0) & (np.arange(3 * T) <= 2 * T)
    best = max(np.array(view.reward[0])[s : s + T].sum() for s in np.flatnonzero(whole))
    params = make().export(make().init(KEY)) | {"target": jnp.array(9.0)}
    for target, expected in (("train", 9.0), ("given", -2.0), ("context", best)):
        method = make(meta_dt__target=target, meta_dt__target_return=-2.0)
        assert float(method.infer(params, view, None, KEY).target) == expected


@pytest.fixture(scope="module")
def trained():
    """The system, its first state, a jitted update and the data of four tasks."""
    system = bind(spec=point_robot_spec())
    method = make(spec=point_robot_spec())
    data = point_robot_data()
    state = method.init(KEY)
    hp = {"meta_dt": {"lr": 1e-3}}

    @jax.jit
    def update(state, key, step):
        return meta_dt.update(system, state, meta_dt.sample(system, data, key, step), key, hp, step)

    return system, state, update, data


def test_what_embeds_prompts_rests_without_them(trained):
    system, state, *_ = trained
    learner = state["agent"]
    none = sequence_policy.no_prompt(3, SPEC)
    steps = none._replace(code=jnp.zeros((3, 3)), valid=jnp.ones(3, bool))
    step = jax.jit(
        lambda learner, prompt: meta_dt.train_net(
            system, learner, jnp.array(1e-3), steps, prompt, None
        )[0]
    )
    moved = step(learner, none)
    same = jax.tree.map(
        np.array_equal, moved.params[meta_dt.PROMPT], learner.params[meta_dt.PROMPT]
    )
    assert all(jax.tree.leaves(same)) and int(moved.opt_state[1].count) == 0
    shown = none._replace(valid=jnp.ones(3, bool))
    moved = step(moved, shown)
    assert int(moved.opt_state[1].count) == 1 and int(moved.opt_state[0].count) == 2


def test_the_target_is_the_mean_of_the_best_returns_of_the_training_tasks(trained):
    _, state, update, data = trained
    for i in range(12):
        state, metrics = update(state, jax.random.fold_in(KEY, i), i)
    best = [np.array(r).reshape(4, 60).sum(-1).max() for r in data.reward]
    np.testing.assert_allclose(metrics["target"], np.mean(best))


def test_of_several_candidates_the_episode_of_the_highest_return_is_cut(trained):
    system, *_, data = trained
    # Four episodes whose valid rewards add up to 3, 1, 2 and 9.
    one = jax.jit(lambda: sample_windows(data, jnp.arange(4), KEY, T))()
    reward = jnp.zeros((4, T)).at[:, 0].set(jnp.array([3.0, 1.0, 2.0, 9.0]))
    one = one._replace(
        reward=reward.at[3, -1].set(50.0), valid=jnp.ones((4, T), bool).at[3, -1].set(False)
    )
    best = meta_dt.best_of_each(2, one)
    np.testing.assert_array_equal(best.reward[:, 0], [3.0, 9.0])
    np.testing.assert_array_equal(best.obs, one.obs[jnp.array([0, 3])])
    # With 16 of a task's four episodes the best is nearly always among them.
    draw = jax.jit(lambda: meta_dt.sample(system, data, KEY, jnp.array(0), 16).views["episode"])
    chosen = draw()
    best_of_task = jnp.stack([r.reshape(4, 60).sum(-1).max() for r in data.reward])
    returns = jnp.where(chosen.valid, chosen.reward, 0).sum(-1)
    assert set(np.asarray(returns).ravel()) <= set(np.asarray(best_of_task))


@pytest.mark.parametrize(
    "fields",
    [
        {"prompt__choice": "max", "world_model__predicts": "both", "prompt__error": "tail"},
        {"prompt__choice": "random", "meta_dt__use_model": False, "transformer__dropout": 0.0},
        {
            "prompt__choice": "none",
            "world_model__predicts": "next_obs",
            "acting__early_codes": "zeros",
        },
        {"world_model__predicts": "both", "prompt__normalized_target": True},
    ],
    ids=lambda fields: "-".join(map(str, fields.values())),
)
def test_every_choice_fits_the_others(fields):
    """Traced only: an update gives back a state of the same shapes, and an action follows."""
    system, method = (
        bind(spec=point_robot_spec(), **fields),
        make(spec=point_robot_spec(), **fields),
    )
    data, state = point_robot_data(), jax.eval_shape(method.init, KEY)
    hp = {"meta_dt": {"lr": 1e-3}, "world_model": {"lr": 1e-3}}
    for phase in (meta_dt.pretrain, meta_dt.update):

        def step(state, phase=phase):
            batch = meta_dt.sample(system, data, KEY, 0)
            return phase(system, state, batch, KEY, hp, jnp.int32(0))

        new, metrics = jax.eval_shape(step, state)
        assert jax.tree.map(jnp.shape, new) == jax.tree.map(jnp.shape, state)
        assert all(x.shape == () for x in metrics.values())

    def act(state):
        params = method.export(state)
        view = sample_windows(data, jnp.array([0]), KEY, 60)
        found = method.infer(params, view, None, KEY)
        nothing = StepIn(*(jnp.zeros(n) for n in (2, 2, ())), jnp.zeros(2), jnp.array(True))
        carry = method.policy.init(params, found)
        return method.policy.act(params, found, carry, nothing, KEY, True)

    action, carry = jax.eval_shape(act, state)
    assert action.shape == (2,) and carry.code.shape == (3,)


def test_own_episodes_are_prompts_from_their_next_episode_on():
    """The number of prompts is fixed: after it the adaptation stays."""
    env = EnvSpec("stub", 2, 2, T)
    method = make()
    seen = method._replace(
        infer=lambda params, view, task, key: view.valid.sum(-1),
        policy=sequence_policy.Policy(lambda p, a: (), lambda p, a, c, *rest: (jnp.zeros(2), c)),
    )
    policy = own_episodes.from_episodes(seen, env, shots=2)
    given = jnp.zeros(2, int)
    carry = policy.init(None, given)
    act = jax.jit(lambda carry, t: policy.act(None, given, carry, at(t), KEY, True)[1])

    def at(t):
        return StepIn(jnp.full(2, t, float), jnp.zeros(2), t + 1.0, jnp.zeros(2), t % T == 0, t)

    found = []
    for t in range(4 * T):
        carry = act(carry, jnp.asarray(t))
        found.append(carry.adaptation.tolist())
        if t == 2 * T:
            assert carry.episodes.obs[:, 0].tolist() == list(range(2 * T))
            assert carry.episodes.step.tolist() == 2 * list(range(T))
    assert found == T * [[0, 0]] + T * [[0, T]] + 2 * T * [[T, T]]


def test_a_shorter_context_is_the_last_steps_of_own_episodes():
    env, seen = EnvSpec("stub", 2, 2, T), []
    method = make()._replace(
        context=meta_dt.Context(T - 1, num=2),
        infer=lambda params, view, task, key: seen.append(view) or view.valid.sum(),
        policy=sequence_policy.Policy(lambda p, a: (), lambda p, a, c, *rest: (jnp.zeros(2), c)),
    )
    policy = own_episodes.from_episodes(method, env, shots=3)
    given = jnp.zeros((), int)
    carry = policy.init(None, given)._replace(num_steps=jnp.array(T))
    full = carry.now._replace(valid=jnp.ones(T, bool), obs=jnp.ones((T, 2)))
    nothing = StepIn(*(jnp.zeros(n) for n in (2, 2, ())), jnp.zeros(2), jnp.array(True), T)
    with jax.disable_jit():
        policy.act(None, given, carry._replace(now=full), nothing, KEY, True)
    (view,) = seen
    assert view.obs.shape == (2, T - 1, 2)
    assert view.valid.tolist() == [[True] * (T - 1), [True] + [False] * (T - 2)]


def test_a_context_longer_than_the_own_episodes_is_refused():
    method = make()._replace(context=meta_dt.Context(T, num=2))
    cfg = config.build({"method": "meta_dt", "eval.protocols": "own_episodes", "eval.shots": 1})
    with pytest.raises(UserError, match="own episodes have 15 steps, and a context 30"):
        config.make(cfg, "protocol", "own_episodes", method, EnvSpec("stub", 2, 2, T))


@pytest.mark.parametrize(
    "fields, sentence",
    [
        ({"meta_dt__context_len": 16}, "context_len is 16, but episodes .* have 15 steps"),
        ({"prompt__length": 16}, "prompt.length is 16, but episodes .* have 15 steps"),
        ({"acting__kept": 6}, "kept is 6 but must be less"),
        ({"transformer__num_heads": 3}, "does not divide"),
        ({"meta_dt__use_model": False}, "use_model=False has none"),
        ({"meta_dt__target_return": float("nan")}, "must lie in"),
        ({"meta_dt__target_return": float("inf")}, "must lie in"),
        ({"eval__protocols": "own_episodes", "eval__shots": 0}, "eval.shots is 0 but must lie in"),
    ],
)
def test_what_does_not_fit_is_one_sentence(fields, sentence):
    with pytest.raises(UserError, match=sentence) as caught:
        cfg = debug(**fields)
        config.validate(cfg)
        meta_dt.bind(config.scope(cfg, "meta_dt", meta_dt), SPEC)
    assert "\n" not in str(caught.value)


def test_data_without_rewards_have_no_returns_to_ask_for():
    with pytest.raises(UserError, match="asks for returns"):
        bind(spec=SPEC._replace(reward_std=0.0))


def test_a_sequence_longer_than_the_tables_of_times_is_refused():
    net = bind().net
    prompt = sequence_policy.no_prompt(T + 1, SPEC)
    steps = prompt._replace(code=jnp.zeros((T + 1, 3)))
    with pytest.raises(UserError, match="16 steps is longer than the 15"):
        net.init(KEY, steps)


def test_a_loaded_agent_acts_in_as_many_steps_as_it_was_trained_on():
    method = make()
    agent = make_agent(method, SPEC, method.export(method.init(KEY)))
    context = {"obs": np.zeros((T, 2)), "action": np.zeros((T, 2)), "reward": np.zeros(T)}
    with pytest.raises(UserError, match="0 steps"):  # a prompt from an empty history
        agent.adapt({name: x[:0] for name, x in context.items()})
    pieces = {**context, "first": np.arange(T) % 2 == 0}
    with pytest.raises(UserError, match="has 2 steps in it, but this agent needs 3"):
        agent.adapt(pieces)
    adapted = agent.adapt(context)
    for _ in range(2):
        actions = [adapted.act(np.ones(2), 0.5) for _ in range(T)]
        with pytest.raises(UserError, match="trained on episodes of 15 steps"):
            adapted.act(np.ones(2))
        adapted.begin_episode()
    assert np.isfinite(actions).all()
