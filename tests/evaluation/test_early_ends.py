"""Zero-shot where true terminals end episodes: the budget is a number of steps, over resets."""

from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import make_config
import stub_run
from metastar import config
from metastar.data import store
from metastar.envs.make import make_env
from metastar.envs.rollout import make_rollout, uniform_policy
from metastar.errors import UserError
from metastar.evaluation import episodes as play
from metastar.evaluation import evaluate, history, measure, results, summaries
from metastar.evaluation.protocol import Given
from metastar.evaluation.protocols import explored, zero_shot
from metastar.tools.bench import evaluation as bench
from metastar.tools.report import report as report_tool
from metastar.types import Adaptation, Context, Env, EnvSpec, Method, Policy, StepIn, StepOut

STEPS, STREAMS, SLOTS = 40, 3, 16


def mayfly(early=True):
    """A counter of its own age, which ends at the task's `life`; every step pays 1."""

    def step(state, action, task, physics):
        state = state + 1
        return state, StepOut(state[None], jnp.ones(()), state >= task["life"])

    return Env(
        EnvSpec("mayfly", 1, 1, STEPS, done_ends_episode=early),
        lambda key: jnp.zeros(()),
        lambda noise, task, physics: (noise, noise[None]),
        step,
    )


def on_host(env):
    """The same simulator, called on NumPy batches."""
    reset, step = jax.jit(jax.vmap(env.reset)), jax.jit(jax.vmap(env.step))
    return env._replace(
        reset=lambda *args: jax.device_get(reset(*args)),
        step=lambda *args: jax.device_get(step(*args)),
        on_host=True,
    )


def infer(params, view, task, key):
    """The code is a half of the newest action that the window holds."""
    newest = view.action[0, jnp.maximum(view.valid.sum() - 1, 0)]
    return Adaptation(0.5 * newest)


def stub_method(action=None):
    """Acts 1, which no uniform action is; or `action(code)`."""

    def act(params, adaptation, carry, step, key, greedy):
        return jnp.ones(1) if action is None else action(adaptation.code), carry

    return Method(None, (), None, infer, Policy(lambda params, a: (), act), Context(12))


def played(life, context, env=None, method=None, **protocol):
    """Three zero-shot streams of each task; `life` lists their episodes' lengths."""
    tasks = {"life": jnp.array(life, float)}
    context = Context(context) if isinstance(context, int) else context
    method = (method or stub_method())._replace(context=context)
    cfg = make_config.base(**{f"eval.{name}": value for name, value in protocol.items()})
    return zero_shot_of(cfg, method, env or mayfly(), None, tasks, jax.random.key(0), 1)


def zero_shot_of(cfg, method, env, params, tasks, key, play_seed):
    protocol = config.make(cfg, "protocol", "zero_shot", method, env.spec)
    evaluation = play.evaluation(protocol, env, STREAMS)
    key_play = jax.random.key(play_seed) if isinstance(play_seed, int) else play_seed
    return jax.device_get(evaluation(params, None, Given(tasks), key, key_play).played)


LIVES = [10, 7, 40, 2]  # the first three use up 40 steps in 4, 6 and 1 episodes; 2 never do


@cache
def played_lives(context_len):
    return played(LIVES, context_len)


@pytest.mark.parametrize("context_len", [12, 30])
def test_the_agent_acts_in_the_last_episode_though_every_one_ends_early(context_len):
    found = played_lives(context_len)
    np.testing.assert_array_equal(found.action[:2, :, -1, 0], 1)


@pytest.mark.parametrize("context_len", [12, 30])
def test_what_is_scored_begins_when_the_budget_is_used_up(context_len):
    found = played_lives(context_len)
    first = np.array([4, 6, 1, SLOTS])
    slot = np.arange(SLOTS)
    expected = np.broadcast_to((slot >= first[:, None])[:, None], (4, STREAMS, SLOTS))
    np.testing.assert_array_equal(found.scored, expected)
    assert (found.action[found.scored] == 1).all()
    lived = slot * np.array(LIVES)[:, None]
    acts = np.broadcast_to((lived >= context_len)[:, None, :, None], found.action.shape)
    np.testing.assert_array_equal(found.action == 1, acts)
    score = play.scored_mean(found.episode_return, found.scored)
    np.testing.assert_array_equal(score, np.repeat([[10], [7], [40], [np.nan]], STREAMS, 1))


def test_a_budget_may_be_shorter_or_longer_than_an_episode():
    longer = played([10], 12, budget=50).scored
    assert not longer[..., :5].any() and longer[..., 5:].all()
    assert played([10], 12, budget=20).scored[..., 2:].all()
    full = played([40], 12, env=mayfly(early=False), budget=100)
    assert full.scored.tolist() == [[[False] * 3 + [True]] * STREAMS]


@pytest.mark.parametrize("reinfer_every", [1, 5])
def test_inference_is_due_by_the_clock_of_all_streams_once_enough_was_lived(reinfer_every):
    """Episodes of 7 steps start at times 0, 40, ...; the window holds 12 own steps."""
    spec, length, life = mayfly().spec, 12, 7
    seen = stub_method()._replace(infer=lambda p, view, t, k: Adaptation(view.obs[0, -1]))
    policy = zero_shot.own_context(seen, spec, reinfer_every)
    act = jax.jit(partial(policy.act, greedy=True))
    carry, code, oldest = policy.init(None, Adaptation(-jnp.ones(1))), -1, 0
    for lived in range(5 * life):
        episode, t = divmod(lived, life)
        zero, obs, time = jnp.zeros(1), jnp.array([lived], float), episode * STEPS + t
        step = StepIn(obs, zero, jnp.zeros(()), zero, jnp.array(t == 0), jnp.array(time))
        action, carry = act(None, None, carry, step, jax.random.key(lived))
        if lived >= length and (time - length) % reinfer_every == 0:
            code = lived - 1  # the newest step of the window
        assert carry.adaptation.code[0] == code
        assert (action == 1).all() == (code >= 0)
        oldest = max(oldest, lived - 1 - code) if code >= 0 else 0
    assert oldest < 2 * reinfer_every


def test_inference_stays_a_branch_where_episodes_end_early():
    """Of 80 times of an episode's two slots those from 12 on are due, every fifth: 14."""
    calls = []

    def infer(params, view, task, key):
        jax.debug.callback(lambda _: calls.append(1), view.obs[0, 0, 0])
        return Adaptation(view.obs[0, 0, :1])

    method = stub_method()._replace(infer=infer)
    policy = zero_shot.own_context(method, mayfly().spec, reinfer_every=5)
    tasks, given = {"life": jnp.array([7.0, 40.0])}, Adaptation(jnp.zeros((2, 1, 1)))
    played = make_rollout(mayfly(), policy, 2)(None, given, tasks, jax.random.key(0))
    jax.block_until_ready(played)
    jax.effects_barrier()
    assert len(calls) == 14 * len(tasks["life"]) == 2 * zero_shot.inferences(2 * STEPS, 12, 5)


def test_partial_windows_are_acted_on_only_if_asked_for():
    """From the second own step on; the first has no context."""
    found = played([10], 30, partial_windows=True)
    acts = found.action[..., 0] == 1
    np.testing.assert_array_equal(acts, np.broadcast_to(np.arange(SLOTS) > 0, acts.shape))
    assert not (played_lives(30).action[0, :, :3, 0] == 1).any()
    full = played([40], 30, env=mayfly(early=False), partial_windows=True)
    assert (full.action[..., 1, 0] == 1).all()


def test_a_context_that_no_stream_fills_is_refused():
    whole = mayfly(early=False)
    played([40], 2 * STEPS, env=whole)
    with pytest.raises(UserError, match="has 80 steps and a context 81, so that"):
        played([40], 2 * STEPS + 1, env=whole)
    played([40], 2 * STEPS + 1, env=whole, partial_windows=True)


def test_a_method_of_shorter_contexts_acts_as_soon_as_it_has_seen_such_a_one():
    found = played([40], Context(60, shortest=50), env=mayfly(early=False))
    assert not (found.action[..., 0, 0] == 1).any() and not found.scored[..., 0].any()
    found = played([7], Context(30, shortest=14))
    acts = np.broadcast_to(np.arange(SLOTS) >= 2, found.action[..., 0].shape)
    np.testing.assert_array_equal(found.action[..., 0] == 1, acts)


def test_host_and_jax_agree_where_episodes_end_early():
    """The agent halves its last action, so that what it does depends on all it did."""
    halve = stub_method(lambda code: code)
    spec = mayfly().spec
    policy = zero_shot.own_context(halve, spec, reinfer_every=3)
    tasks = {"life": jnp.array([10.0, 3.0, 40.0])}
    inputs = None, Adaptation(jnp.zeros((3, STREAMS, 1))), tasks, jax.random.key(0)
    in_jax, host = (
        make_rollout(env, policy, SLOTS)(*inputs) for env in (mayfly(), on_host(mayfly()))
    )
    np.testing.assert_array_equal(host.valid, in_jax.valid)
    np.testing.assert_array_equal(host.valid.sum((1, 3)), np.repeat([[30], [9], [120]], SLOTS, 1))
    for name in ("obs", "action", "reward", "next_obs", "done"):
        a, b = (np.asarray(getattr(x, name))[host.valid] for x in (host, in_jax))
        np.testing.assert_allclose(a, b, atol=1e-6, err_msg=name)
    both = [played([10, 3, 40], 12, env, halve) for env in (mayfly(), on_host(mayfly()))]
    np.testing.assert_array_equal(both[0].scored, both[1].scored)
    np.testing.assert_allclose(both[0].episode_return, both[1].episode_return)


def one_window(window):
    return jax.tree.map(lambda x: x[None], window)


def before_the_budget(method, context_len, spec, reinfer_every):
    """The protocol as it was when two episodes were all: the numbers in docs/ are of that one."""
    explore_uniformly = uniform_policy(spec.action_dim)

    def init(params, adaptation):
        zero, scalar = jnp.zeros(spec.obs_dim), jnp.zeros(())
        false = jnp.zeros((), bool)
        nothing = StepIn(zero, jnp.zeros(spec.action_dim), scalar, zero, false, jnp.zeros((), int))
        inner = method.policy.init(params, adaptation)
        return history.empty_window(spec, context_len), nothing, false, adaptation, inner

    def act(params, given, carry, step, key, greedy):
        window, last, started, adaptation, inner = carry
        key_explore, key_infer, key_act = jax.random.split(key, 3)
        pushed = history.push(window, last, step)
        window = jax.tree.map(partial(jnp.where, started), pushed, window)
        late = step.time - context_len
        adaptation = jax.lax.cond(
            (late >= 0) & (late % reinfer_every == 0),
            lambda: method.infer(params, one_window(window), None, key_infer),
            lambda: adaptation,
        )
        action, inner = method.policy.act(params, adaptation, inner, step, key_act, greedy)
        uniform, _ = explore_uniformly.act(params, adaptation, (), step, key_explore, greedy)
        action = jnp.where(window.valid.all(), action, uniform)
        return action, (window, step, jnp.ones((), bool), adaptation, inner)

    return Policy(init, act)


@pytest.mark.parametrize("family", ["point_robot", "point_robot_sparse"])
@pytest.mark.parametrize("reinfer_every", [1, 4])
def test_point_robots_play_bit_for_bit_as_before(family, reinfer_every):
    cfg = make_config.base(family=family, eval__reinfer_every=reinfer_every)
    env = make_env(cfg)
    weights = jax.random.normal(jax.random.key(5), (5, 2))

    def infer(params, view, task, key):
        view = jax.tree.map(lambda x: x[0], view)
        rows = jnp.concatenate([view.obs, view.action, view.reward[:, None]], -1)
        return Adaptation(jnp.tanh(params * rows @ weights).mean(0) + 0.01 * view.valid.sum())

    def act(params, adaptation, carry, step, key, greedy):
        carry = 0.9 * carry + adaptation.code + 0.1 * step.prev_reward
        return jnp.sin(carry + step.obs), carry

    policy = Policy(lambda params, a: jnp.zeros(2), act)
    method = Method(None, (), None, infer, policy, Context(30))
    angle = jnp.linspace(0, 3, 4)
    tasks = {"goal": jnp.stack([jnp.cos(angle), jnp.sin(angle)], -1)}
    keys, params = jax.random.split(jax.random.key(2)), jnp.array(0.7)

    now = zero_shot_of(cfg, method, env, params, tasks, *keys)

    window = one_window(history.empty_window(env.spec, 30))
    view = jax.tree.map(lambda x: jnp.broadcast_to(x, (4, STREAMS, *x.shape)), window)
    own = jax.vmap(jax.vmap(infer, in_axes=(None, 0, None, None)), in_axes=(None, 0, None, None))
    given = jax.jit(own)(params, view, None, keys[0])
    old = before_the_budget(method, 30, env.spec, reinfer_every)
    before = play.player(env, old, 2)(params, given, tasks, keys[1])
    for name in now._fields[:-1]:
        np.testing.assert_array_equal(getattr(now, name), getattr(before, name), err_msg=name)
    np.testing.assert_array_equal(
        play.scored_mean(now.episode_return, now.scored), before.episode_return[..., -1]
    )
    assert now.scored.tolist() == [[[False, True]] * STREAMS] * 4


def test_an_early_end_does_not_cut_exploration_short():
    """By turns: five codes share the budget of 40 steps, whatever the episodes; then the own."""
    bank = jnp.arange(1.0, 6)[:, None] / 10
    explorer = explored.Explorer(jnp.zeros(1), jnp.broadcast_to(bank, (1, STREAMS, 5, 1)))
    explorer = explorer._replace(code=jnp.zeros((1, STREAMS, 1)))
    method = stub_method(lambda code: code)._replace(
        infer=lambda params, view, task, key: Adaptation(-jnp.ones(1))
    )
    policy = explored.exploring(method, "bank_swept", mayfly().spec)
    run = make_rollout(mayfly(), policy, SLOTS)
    found = run(None, explorer, {"life": jnp.array([10.0])}, jax.random.key(0))
    action = np.asarray(found.action)[..., 0]
    for stream in range(STREAMS):
        acted = action[0, stream][np.asarray(found.valid)[0, stream]]
        assert len(acted) == 10 * SLOTS and (acted[40:] == -1).all()
        shares = acted[:40].reshape(5, 8)
        assert (shares == shares[:, :1]).all()
        np.testing.assert_allclose(sorted(shares[:, 0]), bank[:, 0])


def mortal_world(life):
    """`make_env` with robots that fall apart after `life` steps."""

    def make(cfg):
        env = make_env(cfg)

        def step(state, action, task, physics):
            inner, age = state
            inner, out = env.step(inner, action, task, physics)
            return (inner, age + 1), out._replace(done=age + 1 >= life)

        def reset(noise, task, physics):
            inner, obs = env.reset(noise, task, physics)
            return (inner, jnp.zeros((), int)), obs

        spec = env.spec._replace(done_ends_episode=True)
        return env._replace(spec=spec, reset=reset, step=step)

    return make


@pytest.mark.parametrize("life", [12, 3])
def test_results_report_the_share_of_streams_that_have_a_score(life, tmp_path, monkeypatch):
    """Of 60 steps: lives of 12 use them up in five episodes, 15 lives of 3 do not."""
    data = stub_run.evaluated()["data"]  # made before the world changes: other tests read it too
    for module in (evaluate, measure):
        monkeypatch.setattr(module, "make_env", mortal_world(life))
    cfg, method = stub_run.tiny_config(), stub_run.seeker()
    found = stub_run.evaluate_run(cfg, method, tmp_path, data, ["bank_swept"])
    arrays = results.read_arrays(tmp_path)
    block, heldout = found["protocols"]["zero_shot"], arrays["split"] == "test"
    assert block.keys() == found["protocols"]["explored_bank_swept"].keys()
    assert set(block) >= {"mean", "iqm", "ci95", "per_task", "share", "first_episode", "success"}
    reached = arrays["zero_shot_reached"]
    assert reached.shape[-1] == SLOTS
    assert block["success"] == reached[heldout].any(-1).mean()
    assert block["first_episode"] == pytest.approx(arrays["zero_shot_first_return"][heldout].mean())
    assert arrays["zero_shot_path"].shape[2] == 2
    curve = evaluate.make_curve(cfg, method, store.tasks_of(store.verify(data), cfg))
    curve = curve(stub_run.PARAMS, jax.random.key(0))
    table = {row[0]: row[1:] for row in report_tool.table(found)}
    if life == 12:
        assert (arrays["zero_shot_scored"] == SLOTS - 5).all()
        assert block["share"] == 1 and "zero_shot" in curve
        assert block["mean"] == pytest.approx(arrays["zero_shot_return"][heldout].mean())
    else:
        assert np.isnan(arrays["zero_shot_return"]).all() and "zero_shot" not in curve
        assert block["share"] == 0 and block["mean"] is block["ci95"] is None
        assert block["per_task"] == [None] * 2
        assert table["zero-shot"][0] == "–" and table["zero-shot"][3] == "0 %"


def test_streams_without_a_score_are_left_out_of_the_mean():
    few = np.array([[1.0, np.nan, 3.0], [np.nan, np.nan, np.nan]])
    arrays = {
        "title": np.array("zero-shot"),
        "return": few,
        "optimum": 2 * few,
        "random_return": np.zeros((2, 3)),
        "first_return": np.ones((2, 3)),
        "episode_return": np.ones((SLOTS, 2, 3)),
        "reached": np.zeros((2, 3, SLOTS), bool),
        "has_success": np.array(False),
    }
    bounds = {"random": 0.0, "oracle": 4.0}
    block = summaries.block(arrays, np.ones(2, bool), bounds)
    assert block["mean"] == 2 and block["per_task"] == [2.0, None]
    assert block["share"] == pytest.approx(1 / 3) and block["of_optimum"] == 0.5
    assert block["gap_closed"] == 0.5 and block["success"] is None


def test_bench_counts_every_slot():
    for env, slots in ((mayfly(), SLOTS), (mayfly(early=False), 2)):
        arguments = "protocol", "zero_shot", stub_method(), env.spec
        protocol = config.make(make_config.base(), *arguments)
        assert bench._steps(env, protocol) == slots * STEPS
