"""Inference by likelihood on a stub: rewards are the task's slope times the action, and the encoder
takes the mean action, so who acted, for the task."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import make_config
import metastar
import stub_run
from metastar import files
from metastar import main as cli
from metastar.data import layout
from metastar.envs.families.point_robot_sparse import GOAL_RADIUS
from metastar.errors import UserError
from metastar.evaluation import likelihood, results
from metastar.evaluation.inference import infer_all
from metastar.types import Adaptation, Context, Method, Policy, TaskModel, View
from stub_run import META, tiny_config

LENGTH = 6
SLOPES = [0.0, 2.0, 3.0]
KEY = jax.random.key(0)
CFG = make_config.base(**{"inference.choice": "bank"}).inference
MODEL = TaskModel(
    next_obs=lambda params, obs, action, code: obs[None] + 0 * code,
    reward=lambda params, obs, action, next_obs, code: params * code[:, 0] * action[0],
    likelihood_std=0.1,
    next_obs_std=(0.5,),
)


def infer(params, view, task, key):
    """The mean action of the valid steps."""
    num = jnp.maximum(view.valid.sum(), 1)
    return Adaptation(params * jnp.where(view.valid, view.action[..., 0], 0).sum()[None] / num)


def act(params, adaptation, carry, step, key, greedy):
    return params * adaptation.code, carry


POLICY = Policy(lambda params, adaptation: (), act)
METHOD = Method(None, (), None, infer, POLICY, Context(LENGTH), task_model=MODEL)
KNOWN = likelihood.Known(jnp.ones(()), jnp.array(SLOPES)[:, None])


def window(slope, num=LENGTH, action=1.0) -> View:
    """A context [1, L] of which `num` steps are valid, in a task of that slope."""
    step = jnp.arange(LENGTH)
    tried = jnp.where(step % 2 == 0, action, -action / 2)
    view = View(
        obs=jnp.zeros((LENGTH, 1)),
        action=tried[:, None],
        reward=slope * tried,
        prev_reward=jnp.zeros(LENGTH),
        next_obs=jnp.zeros((LENGTH, 1)),
        done=jnp.zeros(LENGTH, bool),
        valid=step < num,
        first=step == 0,
        episode=0 * step,
        step=step,
        policy=jnp.zeros((), int),
        stage=jnp.zeros((), int),
    )
    return jax.tree.map(lambda x: x[None], view)


def slopes_data():
    """Three tasks with uniform actions in [-0.5, 1]; task k has the slope `SLOPES[k]`."""
    rng, shape = np.random.default_rng(0), (3, 4)
    action = rng.uniform(-0.5, 1, (*shape, 20, 1)).astype(np.float32)
    blocks = {
        "obs": np.zeros((*shape, 21, 1), np.float32),
        "action": action,
        "reward": np.float32(SLOPES)[:, None, None] * action[..., 0],
        "done": np.zeros((*shape, 20), bool),
        "length": np.full(shape, 20),
        "policy": np.zeros(shape, int),
        "stage": np.zeros(shape, int),
    }
    return layout.from_blocks(blocks, {"slope": np.float32(SLOPES)})


def test_the_likelihood_finds_the_task_whoever_acted():
    known = likelihood.by_likelihood(CFG, METHOD)
    for action in (1.0, -0.8):
        assert METHOD.infer(1.0, window(2.0, action=action), None, KEY).code != 2
        assert known.infer(KNOWN, window(2.0, action=action), None, KEY).code == 2


@pytest.mark.parametrize(
    "view",
    [
        pytest.param(window(9.0), id="no code of the bank predicts it"),
        pytest.param(window(0.3), id="the encoder's code is nearly as good"),
        pytest.param(window(2.0, num=0), id="nothing is known"),
    ],
)
def test_the_guards_leave_the_encoders_code(view):
    known = likelihood.by_likelihood(CFG, METHOD)
    own = METHOD.infer(1.0, view, None, KEY).code
    assert known.infer(KNOWN, view, None, KEY).code == own


def test_codes_between_those_of_the_bank_are_tried_where_asked():
    """Slopes 2 and 3 are in the bank, with three codes on the way from one to the other."""
    cfg = make_config.base(**{"inference.choice": "bank", "inference.between": 3}).inference
    known = likelihood.by_likelihood(cfg, METHOD)
    for slope in (2.0, 2.25, 2.5, 2.75, 3.0):
        code = known.infer(KNOWN, window(slope, action=0.9), None, KEY).code
        np.testing.assert_allclose(code, slope, rtol=1e-6)
    assert (
        known.infer(KNOWN, window(9.0), None, KEY).code
        == METHOD.infer(1.0, window(9.0), None, KEY).code
    )  # beyond the bank nothing is tried


@pytest.mark.parametrize("neighbours, slope", [(0, 1.0), (1, 2 / 3), (2, 1.0), (9, 1.0)])
def test_codes_are_tried_on_the_way_to_the_nearest_of_the_bank(neighbours, slope):
    """For 0.9 the slope 0 is the best of the bank, then 2, then 3: 1 is a third of the way to 3."""
    values = {"inference.between": 2, "inference.neighbours": neighbours, "inference.fit": 100.0}
    cfg = make_config.base(**{"inference.choice": "bank", **values}).inference
    known = likelihood.by_likelihood(cfg, METHOD)
    code = known.infer(KNOWN, window(0.9), None, KEY).code
    np.testing.assert_allclose(code, slope, rtol=1e-6)


def test_codes_beyond_those_of_the_bank_are_tried_where_asked():
    """Slopes are the first coordinate on a circle: 1.5 and 2.12 in the bank, 2.6 to be found."""
    angle = jnp.pi / 180 * jnp.array([60.0, 45.0])
    bank = 3 * jnp.stack([jnp.cos(angle), jnp.sin(angle)], -1)
    flat = METHOD._replace(infer=lambda *given: Adaptation(jnp.append(infer(*given).code, 0.0)))
    view, found = window(2.6, action=0.9), {}
    for beyond in (0.0, 2.0):
        values = {"inference.between": 4, "inference.beyond": beyond, "inference.fit": 100.0}
        cfg = make_config.base(**{"inference.choice": "bank", **values}).inference
        known = likelihood.by_likelihood(cfg, flat)
        found[beyond] = known.infer(KNOWN._replace(bank=bank), view, None, KEY).code
    np.testing.assert_allclose(found[0.0], bank[1], rtol=1e-6)
    assert abs(found[2.0][0] - 2.6) < 0.1
    np.testing.assert_allclose(jnp.linalg.norm(found[2.0]), 3, rtol=1e-6)


def test_the_cost_by_hand():
    """Two valid steps: rewards off by 0.2 and 0.1 under code 1, next states by 1 of std 0.5."""
    view = window(1.2, num=2)._replace(next_obs=jnp.ones((1, LENGTH, 1)))
    codes = jnp.array([[1.0], [1.2]])
    rewards = np.array([(2**2 + 1**2) / 2, 0.0])
    found = likelihood.cost(MODEL, 1.0, view, codes, 0.0)
    np.testing.assert_allclose(found, rewards, atol=1e-4)
    found = likelihood.cost(MODEL, 1.0, view, codes, 0.5)
    np.testing.assert_allclose(found, rewards + 0.5 * 2 * 2**2 / 2, rtol=1e-4)


def test_a_batch_infers_as_one_stream_does_and_is_traced_once():
    known, traces = likelihood.by_likelihood(CFG, METHOD), []

    def counted(*args):
        traces.append(1)
        return known.infer(*args)

    views = [[window(slope, num) for num in (0, 3, LENGTH)] for slope in (0.3, 2.0, 3.0, 9.0)]
    batch = jax.tree.map(
        lambda *x: jnp.stack(x).reshape(4, 3, *x[0].shape), *(v for row in views for v in row)
    )
    method = known._replace(infer=counted)
    run = jax.jit(lambda params, view: infer_all(method, params, view, None, KEY))
    code = run(KNOWN, batch).code
    run(KNOWN._replace(bank=KNOWN.bank + 1), batch)
    assert len(traces) == 1
    single = [[known.infer(KNOWN, view, None, KEY).code for view in row] for row in views]
    np.testing.assert_allclose(code, single, rtol=1e-6)


def test_all_that_the_method_does_takes_its_own_parameters():
    params = KNOWN._replace(own=jnp.full((), 2.0))
    whole = METHOD._replace(value=lambda params, obs, action, code: params)
    known = likelihood.by_likelihood(CFG, whole)
    assert known.policy.act(params, Adaptation(jnp.ones(1)), (), None, KEY, True)[0] == 2
    assert known.value(params, None, None, None) == 2
    assert known.task_model.reward(params, None, jnp.ones(1), None, jnp.ones((1, 1))) == 2
    assert known.predict is None and known.task_model.members is None


def test_the_bank_holds_of_each_task_the_code_that_explains_it_best():
    data = slopes_data()
    inference = likelihood.make(CFG, METHOD)
    bank = inference.params(jnp.ones(()), lambda: data).bank
    assert bank.shape == (3, 1)
    # The encoder's codes are mean actions: near zero one is right, and of slopes above the largest.
    assert abs(bank[0, 0]) < 0.1 and bank[1, 0] > 0.4 and bank[2, 0] > 0.4


def test_methods_that_cannot_are_told_so():
    with pytest.raises(UserError, match=r"has none; choose 'encoder', or train with task_losses"):
        likelihood.make(CFG, METHOD._replace(task_model=None))
    weighs_next = make_config.base(**{"inference.choice": "bank", "inference.next_obs": 1.0})
    blind = METHOD._replace(task_model=MODEL._replace(next_obs_std=None))
    with pytest.raises(UserError, match=r"inference\.next_obs is 1\.0.*set it to 0"):
        likelihood.make(weighs_next.inference, blind)
    none_beyond = make_config.base(**{"inference.choice": "bank", "inference.beyond": 2.0})
    with pytest.raises(UserError, match=r"inference\.between says, and that is 0; set it to 1"):
        likelihood.make(none_beyond.inference, METHOD)
    none_near = make_config.base(**{"inference.choice": "bank", "inference.neighbours": 4})
    with pytest.raises(UserError, match=r"inference\.neighbours is 4.*set one of them"):
        likelihood.make(none_near.inference, METHOD)
    with pytest.raises(UserError, match="did you mean 'bank'"):
        likelihood.chosen(make_config.base(), "banks")
    opaque = METHOD._replace(infer=lambda *args: {"place": jnp.zeros(1)})
    with pytest.raises(UserError, match=r"inference\.choice='bank' needs task codes"):
        likelihood.by_likelihood(CFG, opaque).infer(KNOWN, window(1.0), None, KEY)


def test_a_bank_is_read_back_with_its_parameters_only(tmp_path):
    inference = likelihood.make(CFG, METHOD)
    inference.save(KNOWN, tmp_path, "ab")
    loaded = inference.load(KNOWN.own, tmp_path, "ab")
    np.testing.assert_array_equal(loaded.bank, KNOWN.bank)
    with pytest.raises(UserError, match=r"of other parameters.*metastar evaluate"):
        inference.load(KNOWN.own, tmp_path, "cd")
    for codes, sentence in (([[1.0], [1.0, 2.0]], "differ in length"), ([], "differ in length")):
        files.write_json(tmp_path / likelihood.FILE, {"params_sha256": "ab", "codes": codes})
        with pytest.raises(UserError, match=sentence):
            inference.load(KNOWN.own, tmp_path, "ab")
    wide = loaded._replace(bank=jnp.ones((3, 2)))
    with pytest.raises(UserError, match="codes of 2 entries, but this run's have 1"):
        inference.method.infer(wide, window(1.0), None, KEY)
    (tmp_path / likelihood.FILE).unlink()
    with pytest.raises(UserError, match="is missing; run `metastar evaluate"):
        inference.load(KNOWN.own, tmp_path, "ab")


def misled() -> Method:
    """The seeker, who looks on the other side of the origin after contexts that are no expert's."""
    seeker = stub_run.seeker()

    def infer(params, view, task, key):
        code = seeker.infer(params, view, task, key).code
        expert = view.stage[0] == stub_run.STAGES.index("expert")
        return Adaptation(jnp.where(expert, code, code * jnp.array([-1.0, -1.0, 1.0])))

    def reward(params, obs, action, next_obs, code):
        near = jnp.linalg.norm(next_obs - code[:, :2], axis=-1) <= GOAL_RADIUS
        return (near & (code[:, 2] > 0)).astype(float)

    model = TaskModel(lambda params, obs, action, code: None, reward, likelihood_std=0.3)
    return seeker._replace(infer=infer, task_model=model)


def test_an_evaluation_infers_so_and_says_so(tmp_path):
    """On the tasks of the bank it does what the seeker does, who is not misled."""
    folders = stub_run.evaluated()
    cfg = tiny_config(**{"inference.choice": "bank", "eval.protocols": "few_shot"})
    found = stub_run.evaluate_run(cfg, misled(), tmp_path, folders["data"])
    seeker = results.read(folders["seeker"])
    assert (found["inference"], seeker["inference"]) == ("bank", "encoder")
    own, other = (x["train"]["protocols"]["few_shot"]["by_context_source"] for x in (found, seeker))
    for source in (f"stub {stage}" for stage in stub_run.STAGES):
        assert own[source]["mean"] == pytest.approx(other[source]["mean"], abs=0.5)
    assert likelihood.read(tmp_path, META["params_sha256"]).shape == (stub_run.NUM_TRAIN, 3)


@pytest.mark.slow
def test_the_command_line_infers_so_everywhere(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "configs").symlink_to(make_config.CONFIGS)
    source = "--config=configs/metastar.py:point_robot_sparse,debug"
    fields = {"task_losses.reconstruction": 1.0, "inference.choice": "bank"}
    fields |= {"eval.protocols": "few_shot,zero_shot,explored", "eval.strategy": "posterior"}
    overrides = [f"--config.{path}={value}" for path, value in fields.items()]
    assert cli.main(["train", source, *overrides, "--workdir=run"]) == 0
    assert results.read("run")["inference"] == "bank"
    agent = metastar.load("run")
    bank = likelihood.read("run", results.read("run")["params_sha256"])
    np.testing.assert_allclose(agent.params.bank, bank, rtol=1e-6)
    assert cli.main(["evaluate", "--workdir=run", "--inference=encoder"]) == 0
    assert results.read("run")["inference"] == "encoder"
    assert cli.main(["audit", "--workdir=run"]) == 0
    audited = files.read_json("run/audit.json", "")
    assert audited["inference"] == "bank"
    assert "was evaluated with inference.choice='encoder'" in audited["cost"]["not_computed"]
    assert cli.main(["audit", "--workdir=run", "--inference=banks"]) == 2
    assert "did you mean 'bank'" in capsys.readouterr().err
