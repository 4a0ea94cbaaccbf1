"""Films: what is shown is what happened, and every mistake is one sentence, without a renderer."""

import io
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest
from PIL import Image

import make_config
import stub_run
from metastar import config, files, registry
from metastar import main as cli
from metastar.data import choose, store
from metastar.envs.backends import point_mass
from metastar.envs.bodies import half_cheetah
from metastar.envs.families import cheetah_dir, cheetah_vel, point_robot_sparse
from metastar.envs.make import make_env
from metastar.envs.rollout import make_rollout, no_adaptation, uniform_policy
from metastar.errors import UserError
from metastar.tools.render import films, pictures, recordings, render
from metastar.tools.render.pictures import Recording
from metastar.training import restore
from metastar.types import Policy

TASKS = {"goal": np.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0]])}  # angles 0, pi, pi/2


def make_subject(family=point_robot_sparse, tasks=TASKS, **fields):
    cfg = make_config.base(family=family.FAMILY.name)
    split = {"train": [0], "test": [1, 2]}
    subject = recordings.Subject(cfg, family.FAMILY, None, None, None, tasks, split)
    return subject._replace(**fields)


def make_recording(num_steps=4, title="task 1", **fields):
    state = np.stack([np.arange(num_steps + 1.0), np.zeros(num_steps + 1)], 1)
    recording = Recording(
        title, "nobody", state, np.full(num_steps, 0.5), {"goal": np.array([0.0, 2.0])}
    )
    return recording._replace(**fields)


def flat_painters(num, size=(90, 140)):
    return [lambda t, i=i: np.full((*size, 3), 10 * i + t, np.uint8) for i in range(num)]


@pytest.fixture
def fake_renderer(monkeypatch):
    """Stands in for MuJoCo's; returns the positions that it was asked to draw."""
    drawn = []

    class Renderer:
        def __init__(self, model, height, width):
            self.model, self.scene, self.size = model, mujoco.MjvScene(), (height, width, 3)

        def update_scene(self, data, camera):
            drawn.append(data.qpos.copy())

        def render(self):
            return np.full(self.size, len(drawn) % 256, np.uint8)

        def close(self):
            drawn.append("closed")

    monkeypatch.setattr(mujoco, "Renderer", Renderer, raising=False)
    return drawn


@pytest.fixture
def runs(tmp_path, monkeypatch):
    """Workdirs "knower" and "seeker" on the stub's data; returns their folder."""
    monkeypatch.chdir(tmp_path)
    methods = {"knower": stub_run.knower(), "seeker": stub_run.seeker()}
    cfg = stub_run.tiny_config(**{"data.dir": "data", "sampler.with_replacement": True})
    stub_run.save_data(tmp_path / "data", cfg)
    for name in methods:
        (tmp_path / name).mkdir()
        files.write_json(tmp_path / name / "config.json", config.to_dict(cfg))

    def fake_restore(path):
        method = methods[Path(path).name]._replace(export=lambda state: state)
        return restore.Restored(cfg, None, method, stub_run.PARAMS, 7, {}, {})

    monkeypatch.setattr(restore, "restore", fake_restore)
    return tmp_path


def made(policy, workdir=None, family=None, data=None, source=None, tasks=()):
    policy, run = render._cast(workdir, family, policy, data, source)
    num, make = render._MAKERS[policy](render._subject(run, family, data, source), tasks)
    found = make()
    assert len(found) == num
    return found


# What happened


@pytest.mark.parametrize("family", [cheetah_dir, cheetah_vel])
def test_the_states_of_a_simulated_robot_are_those_that_were_rewarded(family):
    tasks = family.FAMILY.law["own"](np.random.default_rng(0), 3)
    resting = Policy(lambda params, adaptation: (), lambda *args: (jnp.zeros(6), ()))
    subject = make_subject(family, tasks)
    found = recordings._play(subject, [2, 0], ["a", "b"], resting, (), no_adaptation(2, 1))
    (value,) = tasks.values()
    for recording, task in zip(found, [2, 0]):
        assert recording.state.shape == (201, 9) and recording.reward.shape == (200,)
        speed = np.diff(recording.state[:, 0]) / 0.05  # at no cost: the action is zero
        if family is cheetah_dir:
            np.testing.assert_allclose(recording.reward, value[task] * speed, atol=1e-5)
        else:
            np.testing.assert_allclose(recording.reward, -np.abs(speed - value[task]), atol=1e-5)
        assert recording.task == {name: x[task] for name, x in tasks.items()}
    assert found[0].note == "a" and not np.array_equal(found[0].state[0], found[1].state[0])


def test_uniform_actions_on_a_point_robot():
    num, make = recordings.of_random(make_subject(), [])
    found = make()
    assert num == len(found) == 2
    titles = ["task 2: goal angle 1.57 rad", "task 1: goal angle 3.14 rad"]
    assert [recording.title for recording in found] == titles
    for recording in found:
        inside = np.linalg.norm(recording.state[1:] - recording.task["goal"], axis=1) <= 0.2
        np.testing.assert_array_equal(recording.reward, inside)
        steps = np.abs(np.diff(recording.state, axis=0))
        assert recording.state.shape == (61, 2) and 0.09 < steps.max() < 0.1001
    again = recordings.of_random(make_subject(), [])[1]()
    np.testing.assert_array_equal(again[0].state, found[0].state)


def test_an_episode_that_ends_early_is_cut(monkeypatch):
    spec = point_robot_sparse.SPEC._replace(done_ends_episode=True)
    family = point_robot_sparse.FAMILY._replace(
        specs={"default": spec}, done=lambda xp, before, after, action, task: after[..., 0] > -9
    )
    monkeypatch.setattr(point_robot_sparse, "FAMILY", family)
    subject = make_subject()
    for recording in recordings.of_random(subject, [])[1]():
        assert recording.state.shape == (2, 2) and recording.reward.shape == (1,)


def test_a_run_that_knows_the_goal_collects_the_optimum(runs):
    for recording in made(None, "knower"):
        optimum = point_robot_sparse.optimum(recording.state[0], recording.task)
        assert recording.reward.sum() == optimum > 0 and recording.note == "metastar"


def test_a_runs_agent_sees_a_window_of_the_very_task(runs):
    """The seeker finds the goal exactly where its context holds a reward, and else stays."""
    found = made(None, "seeker", tasks=[4, 0, 1, 2, 3])
    words = [recording.note for recording in found]
    assert set(words) == {"metastar, context with reward", "metastar, context without reward"}
    assert found[0].title.startswith("task 4: ") and found[1].title.startswith("training task 0: ")
    for recording in found:
        if "without" in recording.note:
            np.testing.assert_array_equal(recording.state[0], recording.state[-1])
        else:
            assert recording.reward[-1] == 1
            np.testing.assert_allclose(recording.state[-1], recording.task["goal"], atol=1e-5)


def test_recorded_episodes_are_the_last_of_their_source(runs):
    found = made("behavior", "seeker")
    assert [recording.note for recording in found] == ["stub expert, episode 2"] * 2
    assert all(recording.reward.sum() == 60 for recording in found)
    for recording in made(None, data="data", source="stub medium", tasks=[4, 1]):
        assert recording.reward.sum() == 30 and recording.note == "stub medium, episode 1"
        np.testing.assert_allclose(recording.state[-1], recording.task["goal"], atol=1e-6)
    with pytest.raises(UserError, match=r"no task 0 to show; choose among \[1, 2, 3, 4\]"):
        made(None, data="data", source="stub medium", tasks=[0])
    with pytest.raises(UserError, match=r"no episodes of 'stub mediun'; did you mean 'stub medium"):
        made(None, data="data", source="stub mediun")


def test_of_several_expert_episodes_the_last_is_shown_and_no_cross_task_one(runs, monkeypatch):
    path, manifest, fields = store.verify("data")
    fields["stage"] = np.array([0, 2, 2] * 5)
    fields["length"] = np.append(fields["length"][:-1], 0)  # the last episode of the last task
    fields |= {name: fields[name][:-60] for name in ("obs", "action", "reward", "done")}
    monkeypatch.setattr(store, "verify", lambda *args: store.DataSet(path, manifest, fields))
    found = made("behavior", "seeker", tasks=[3, 4])
    assert [recording.note for recording in found] == [
        "stub expert, episode 2",
        "stub expert, episode 1",
    ]
    assert [recording.reward.sum() for recording in found] == [60, 30]
    fields["policy"] = np.array([0, 0, 1] * 5)
    others = manifest._replace(policies=("stub", choose.CROSS_TASK))
    monkeypatch.setattr(store, "verify", lambda *args: store.DataSet(path, others, fields))
    assert made("behavior", "seeker")[0].note == "stub expert, episode 1"


def test_data_without_an_expert_stage_say_what_they_have(runs, monkeypatch):
    monkeypatch.setattr(stub_run, "STAGES", ("random", "early", "late"))
    stub_run.save_data(runs / "other", stub_run.tiny_config())
    with pytest.raises(UserError, match=r"'expert'; known are stub early, stub late, stub random"):
        made(None, data="other")


# From observations to states


def test_positions_of_recorded_observations():
    rng = np.random.default_rng(0)
    state = half_cheetah.State(rng.normal(size=(5, 9)), rng.normal(size=(5, 9)))
    positions = half_cheetah.BODY.positions
    exact = positions(half_cheetah.observe(np, state, "reference"), "reference")
    np.testing.assert_array_equal(exact, state.qpos)
    state.qvel[:, 0] = [0.0, 2.0, 2.0, -4.0, 0.0]  # areas 0.05, 0.1, -0.05, -0.1
    found = positions(half_cheetah.observe(np, state, "default"), "default")
    np.testing.assert_array_equal(found[:, 1:], state.qpos[:, 1:])
    np.testing.assert_allclose(found[:, 0], [0.0, 0.05, 0.15, 0.1, 0.0], atol=1e-12)
    walk = rng.normal(size=(5, 2))
    np.testing.assert_array_equal(point_mass.BODY.positions(walk, "default"), walk)


def test_the_integrated_speed_follows_the_simulator():
    cfg = make_config.base(family="cheetah_vel", env__profile="reference")
    run = make_rollout(make_env(cfg), uniform_policy(6), episodes=1)
    tasks = {"velocity": jnp.ones(3)}
    obs = run((), no_adaptation(3, 1), tasks, jax.random.key(0)).obs[:, 0, 0]
    for episode in obs:
        exact = half_cheetah.positions(episode, "reference")[:, 0]
        found = half_cheetah.positions(episode[:, :17], "default")[:, 0]
        np.testing.assert_allclose(found, exact - exact[0], atol=0.15)
        assert np.ptp(exact) > 0.5


# Films


def test_a_caption_counts_the_steps_that_were_made():
    recording = make_recording(reward=np.array([1.0, -0.5, 0.0, 2.0]))
    found = [films.caption(recording, t, 0.05) for t in (0, 1, 3, 9)]
    words = ["0.0 s, return 0.0", "0.1 s, return 1.0", "0.2 s, return 0.5", "0.2 s, return 2.5"]
    assert found == words
    assert films.caption(recording, 2, None) == "step 2, return 0.5"
    assert films.caption(make_recording(reward=np.array([-0.01])), 1, None) == "step 1, return 0.0"


@pytest.mark.parametrize(
    ("num_steps", "seconds", "num_frames", "pace"),
    [(60, None, 61, 0.1), (100, 0.05, 101, 0.05), (200, 0.05, 101, 0.1), (150, 0.05, 76, 0.1)],
)
def test_a_long_film_skips_steps_and_keeps_its_pace(num_steps, seconds, num_frames, pace):
    recording, asked = make_recording(num_steps), []

    def paint(t):
        asked.append(t)
        return np.zeros((20, 160, 3), np.uint8)

    frames, found = films.film([recording], [paint], seconds)
    assert len(frames) == num_frames and found == pytest.approx(pace)
    assert asked == list(range(0, num_steps + 1, 1 if num_steps <= 100 else 2))


def test_tiles_stand_in_a_grid_and_short_recordings_wait():
    shown = [make_recording(n) for n in (4, 2, 3)]
    frames, _ = films.film(shown, flat_painters(3), 0.05)
    assert len(frames) == 5 and {frame.shape for frame in frames} == {frames[0].shape}
    height, width, _ = frames[0].shape
    assert width == 2 * (140 + 2 * films.GAP)
    last = frames[-1][height // 2 - films.GAP - 1]  # the lowest line of the upper tiles
    assert last[20, 0] == 4 and last[-20, 0] == 14
    assert (frames[0][height // 2 :, width // 2 :] == 255).all()  # there is no fourth
    sheet = films.contact_sheet(shown, flat_painters(3), 0.05)
    assert sheet.shape[1] == films.SHEET_COLUMNS * (140 + 2 * films.GAP) + 2 * films.GAP
    assert [films.tile_width(n) for n in (1, 2, 4, 5, 9)] == [320, 270, 270, 180, 180]


def test_a_gif_keeps_frames_time_and_colours():
    colors = np.array([[200, 30, 30], [30, 200, 30], [30, 30, 200]], np.uint8)
    frames = [np.broadcast_to(color, (20, 30, 3)).copy() for color in colors]
    film = Image.open(io.BytesIO(films.gif(frames, 0.1)))
    assert film.n_frames == 3 and film.info["loop"] == 0 and film.size == (30, 20)
    for i, color in enumerate(colors):
        film.seek(i)
        assert film.info["duration"] == 100
        assert np.abs(np.asarray(film.convert("RGB"), int) - color).max() < 12


def test_mp4_goes_through_ffmpeg(monkeypatch, tmp_path):
    with pytest.raises(UserError, match="unknown film format 'gift'; did you mean 'gif'"):
        films.encoder("gift")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="install it, or use --format=gif"):
        films.encoder("mp4")
    program = tmp_path / "ffmpeg"  # stores its arguments and input as the film
    program.write_text(
        f"#!{sys.executable}\nimport sys\n"
        "open(sys.argv[-1], 'wb').write(' '.join(sys.argv).encode() + sys.stdin.buffer.read())\n"
    )
    program.chmod(0o755)
    frames = [np.full((21, 31, 3), 7, np.uint8)] * 2
    film = films.encoder("mp4")(frames, 0.05)
    assert b"-video_size 30x20" in film and b"-framerate 20.0" in film
    assert film.endswith(b"mp4" + bytes([7]) * (2 * 20 * 30 * 3))
    program.write_text(f"#!{sys.executable}\nimport sys\nsys.exit('no\\nsuch codec')\n")
    with pytest.raises(UserError, match=r"ffmpeg failed \(such codec\)"):
        films.mp4(frames, 0.05)


def test_point_robots_share_axes_and_show_goal_and_path():
    family, shown = pictures.find_family("point_robot"), [make_recording(), make_recording()]
    with pictures.studio(family, 200) as draw:
        one, _ = draw(shown)
    with pictures.studio(family._replace(goal=None, goal_radius=None), 200) as draw:
        _, other = draw(shown)
    start, end = one(0), one(4)
    assert start.shape == (200, 200, 3) and start.dtype == np.uint8
    np.testing.assert_array_equal(one(9), end)
    blue, green = np.array([0x20, 0x66, 0xA8]), np.array([0x2F, 0x9E, 0x6B])

    def count(picture, color, tolerance):
        return (np.abs(picture.astype(int) - color).max(-1) < tolerance).sum()

    assert count(start, blue, 60) == 0 < count(end, blue, 60)
    faint = 255 - 0.35 * (255 - green)
    assert count(end, faint, 6) > 50 and count(other(4), faint, 6) == 0


# The command


def test_a_family_is_filmed(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["render", "--family=point_robot", "--task", "3", "1", "--task=2"]) == 0
    files = [f"render/point_robot_random.{kind}" for kind in ("gif", "png")]
    assert capsys.readouterr().out.split() == files
    assert sorted(p.name for p in (tmp_path / "render").iterdir()) == sorted(
        Path(file).name for file in files
    )
    assert Image.open(files[0]).n_frames == 61
    assert Image.open(files[1]).format == "PNG"


@pytest.mark.slow
@pytest.mark.parametrize("family", registry.names("family"))
def test_every_family_is_filmed(family, tmp_path, fake_renderer):
    for file in render.render(family=family, tasks=[0], out=str(tmp_path)):
        assert file.stem == f"{family}_random" and Image.open(file).width > 300


def test_a_run_of_a_simulated_robot_is_filmed_state_by_state(tmp_path, fake_renderer):
    render.render(family="cheetah_dir", tasks=[1], out=str(tmp_path))
    (recording,) = made("random", family="cheetah_dir", tasks=[1])
    assert fake_renderer.pop() == "closed"
    moments = [*range(0, 201, 2), 0, 40, 80, 120, 160, 200]
    np.testing.assert_array_equal(fake_renderer, recording.state[moments])


def test_an_unwritable_folder_is_one_sentence(tmp_path, capsys):
    (tmp_path / "file").touch()
    assert cli.main(["render", "--family=point_robot", f"--out={tmp_path}/file"]) == 2
    assert "name another with --out" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        ("", "nothing to show; give --workdir=RUN, --family=NAME or --data=DIR"),
        ("--family=point_robt", "unknown family 'point_robt'; did you mean 'point_robot'?"),
        ("--family=point_robot --policy=randon", "policy 'randon' is neither a name nor"),
        ("--family=point_robot --policy=agent", "policy 'agent' needs a run"),
        ("--family=point_robot --policy=behavior", "give --workdir=RUN or --data=DIR"),
        ("--family=point_robot --source=sac", "go with --policy=behavior only"),
        ("--family=point_robot --task=40", "there is no task 40 to show; choose among [0, 1,"),
        ("--family=point_robot --task 1 2 3 4 5 6 7 8 9 10", "one film holds 9"),
        ("--family=point_robot --task=x", "'x' is no whole number"),
        ("--family=point_robot --format=avi", "invalid choice: 'avi'"),
        ("--data=seeker", "no data set in seeker"),
        ("--workdir=data", "data is not a workdir"),
        ("--workdir=seeker --data=data --policy=behavior", "give --workdir or --data, not both"),
        ("--workdir=seeker --policy=knower", "--policy=RUN goes with --family=NAME"),
        ("--workdir=seeker --family=point_robot", "is of family 'point_robot_sparse', but"),
        ("--policy=seeker --family=point_robot", "is of family 'point_robot_sparse', but"),
        ("--data=data --family=point_robot", "is of family 'point_robot_sparse', but"),
        ("--workdir=seeker --policy=behavior --source=td3", "no episodes of 'td3'"),
    ],
)
def test_a_mistake_is_one_sentence_and_writes_nothing(argv, words, runs, capsys):
    before = sorted(runs.rglob("*"))
    assert cli.main(["render", *argv.split()]) == 2
    out, err = capsys.readouterr()
    assert words in err and err.startswith("metastar: ") and err.count("\n") == 1 and not out
    assert sorted(p for p in runs.rglob("*") if p.suffix != ".lock") == before


def test_data_that_are_missing_are_not_collected(runs):
    (runs / "data").rename(runs / "away")
    with pytest.raises(UserError, match="no data set in data"):
        render.render(workdir="seeker")
    assert not (runs / "data").exists()


def test_no_renderer_is_one_sentence_before_anything_is_played(tmp_path, monkeypatch):
    def fail(*args):
        raise RuntimeError("no display\nat all")

    monkeypatch.setenv("MUJOCO_GL", "osmesa")
    monkeypatch.setattr(mujoco, "Renderer", fail, raising=False)
    monkeypatch.setattr(recordings, "_play", lambda *args: pytest.fail("played in vain"))
    with pytest.raises(UserError, match=r"MUJOCO_GL=osmesa \(RuntimeError: no display\); install"):
        render.render(family="cheetah_vel", out=str(tmp_path / "out"))
    monkeypatch.delattr(mujoco, "Renderer")
    with pytest.raises(UserError, match="MuJoCo cannot draw"):
        render.render(family="cheetah_vel", out=str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_a_mujoco_that_does_not_start_is_one_sentence(monkeypatch):
    def fail(*args):
        raise AttributeError("'NoneType' object has no attribute 'glGetError'")

    monkeypatch.setattr(registry, "find", fail)
    with pytest.raises(UserError, match=r"MuJoCo cannot draw .*glGetError.*metastar doctor"):
        pictures.find_family("cheetah_vel")


def test_the_engine_draws_a_cheetah():
    """In a process of its own: MuJoCo settles what draws when it is first imported."""
    code = (
        "import numpy as np\n"
        "from metastar.tools.render import pictures\n"
        "from metastar.errors import UserError\n"
        "family = pictures.find_family('cheetah_vel')\n"
        "state = np.zeros((3, 9)); state[1, 0], state[2, 2] = 100.3, 1.5\n"
        "recording = pictures.Recording('', '', state, np.zeros(2), {})\n"
        "try:\n"
        "    with pictures.studio(family, 140) as draw:\n"
        "        (paint,) = draw([recording])\n"
        "        still, moved, turned = (paint(t).astype(int) for t in range(3))\n"
        "except UserError as error:\n"
        "    raise SystemExit(str(error))\n"
        "assert still.shape == (90, 140, 3) and still.std() > 20\n"
        "brown = [((p[..., 0] - p[..., 2]) > 25).sum() for p in (still, moved, turned)]\n"
        "assert min(brown) > 100, brown\n"  # 100 m away the camera still has it in view
        "assert (still != moved).any() and (still != turned).sum() > 500\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    if "MuJoCo cannot draw" in done.stderr:
        pytest.skip(done.stderr.strip())
    assert done.returncode == 0, done.stderr
