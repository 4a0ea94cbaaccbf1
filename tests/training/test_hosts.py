"""Several processes that train one program: two on this machine, which talk over loopback."""

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from fake_method import claimed, make_cfg, make_data, make_method
from metastar import main
from metastar.training import hosts
from metastar.training.checkpoint import params_sha256
from metastar.training.loop import fit
from metastar.training.metrics import TIMES, read_rows
from metastar.training.runs import Run

HERE = Path(__file__).parent
CONFIG = f"--config={HERE.parents[1]}/configs/bc.py:point_robot,debug"
METASTAR = CONFIG.replace("bc.py", "metastar.py")
LOST = "metastar: this process was killed, or another one of the program is gone"


def free_port():
    with socket.socket() as probe:
        probe.bind(("", 0))
        return str(probe.getsockname()[1])


def both(command, folder, own_env=lambda process, port: {}, timeout=300):
    """Stderr and status of the two processes of `command(process, port)`."""
    port = free_port()
    started = [
        subprocess.Popen(
            [sys.executable, *map(str, command(process, port))],
            env=environment() | own_env(process, port),
            cwd=folder,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for process in (0, 1)
    ]
    try:
        return [(child.communicate(timeout=timeout)[1], child.returncode) for child in started]
    finally:
        for child in started:
            child.kill()


def environment():
    paths = [str(HERE.parents[1] / "src"), str(HERE.parent), os.environ.get("PYTHONPATH", "")]
    return os.environ | {"PYTHONPATH": os.pathsep.join(paths), "JAX_NUM_CPU_DEVICES": "1"}


def train_both(folder, *options):
    script = HERE / "on_two_hosts.py"
    return both(lambda process, port: [script, process, port, folder, *options], folder)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Digests of the runs of `on_two_hosts.py`, of one process on one device, and their folder."""
    folder, runs = tmp_path_factory.mktemp("whole"), []
    for seed in range(4):
        cfg = make_cfg()
        cfg.seed = seed
        runs.append(claimed(Run(cfg, folder / str(seed))))
    look = lambda state, step: {"step": step}  # noqa: E731
    done = fit(runs, make_method(24, 0), make_data(), [{"scale": 1.0}] * 4, look)
    return [params_sha256(loop) for loop in done.loops], folder


def rows_of(folder, seed):
    rows = read_rows(folder / str(seed) / "metrics.jsonl")
    return [{k: x for k, x in row.items() if k not in TIMES} for row in rows]


def test_two_processes_train_what_one_does_and_one_of_them_writes(tmp_path, whole):
    digests, folder = whole
    ends = train_both(tmp_path)
    assert [status for _, status in ends] == [0, 0], ends
    found = [json.loads(text.splitlines()[-1]) for text, _ in ends]
    assert [own["digests"] for own in found] == [digests, digests]
    assert all(rows_of(tmp_path, seed) == rows_of(folder, seed) for seed in range(4))
    assert len(list((tmp_path / "0" / "tensorboard").iterdir())) == 1
    for own in found:
        odd, one, many = own["refused"]
        assert odd.startswith("mesh.run x mesh.task is 3, which 2 processes do not divide; all")
        assert one.startswith("mesh.run x mesh.task is 1, which 2 processes do not divide; all")
        assert many.startswith("mesh.run x mesh.task asks for 2 devices and JAX sees 1 in one of")
        assert own["alike"] == [None, "differ"]
        assert own["signal"] == signal.SIGINT


@pytest.mark.slow
def test_killed_or_stopped_processes_end_both_with_a_sentence_and_the_same_commands_go_on(
    tmp_path, whole
):
    for victim in (1, 0):
        ends = train_both(tmp_path, int(signal.SIGKILL), victim)
        assert ends[victim][1] == -signal.SIGKILL
        assert ends[1 - victim][1] in (-signal.SIGABRT, 128 + signal.SIGABRT)  # by JAX, or by us
        assert all(text.count(LOST) == 1 for text, _ in ends), ends
    ends = train_both(tmp_path, int(signal.SIGTERM), 1)
    assert [status for _, status in ends] == [143, 143], ends
    assert all("stopped by SIGTERM after update 20; the checkpoint is" in text for text, _ in ends)
    assert not any(LOST in text for text, _ in ends)
    ends = train_both(tmp_path)
    assert [json.loads(text.splitlines()[-1])["digests"] for text, _ in ends] == [whole[0]] * 2
    assert all(rows_of(tmp_path, seed) == rows_of(whole[1], seed) for seed in range(4))


@pytest.mark.slow
@pytest.mark.parametrize("mesh", ["run", "task"])
def test_the_command_line_on_two_processes_ends_as_on_two_devices_of_one(tmp_path, mesh):
    values = {
        f"mesh.{mesh}": 2,
        "num_seeds": 4 if mesh == "run" else 1,
        "data.dir": "data",
        "imports": "examples.blind_method",  # compiles soon
        "method": "blind_method",
        "agent.name": "td3_bc",
        "agent.td3_bc.hidden": "(16,16)",
        "blind_method.context_len": 10,
        "sampler.meta_batch": 2,
        "train.updates": 8,
    }
    words = [METASTAR, *(f"--config.{name}={value}" for name, value in values.items())]
    train = ["-m", "metastar", "train", *words]

    def command(process, port):
        several = [f"--coordinator=127.0.0.1:{port}", f"--process={process}", "--processes=2"]
        return [*train, "--workdir=two", *(several if mesh == "run" else ["--coordinator=auto"])]

    def slurm(process, port):
        told = {"JOB_ID": "1", "STEP_NODELIST": "localhost", "NTASKS": "2", "LOCALID": "0"}
        told = {f"SLURM_{name}": value for name, value in {**told, "PROCID": str(process)}.items()}
        return {**told, "JAX_COORDINATOR_PORT": port}

    for _ in range(2):  # a complete run is left as it is
        ends = both(command, tmp_path, slurm, 900)
        assert [status for _, status in ends] == [0, 0], ends
    env = environment() | {"JAX_NUM_CPU_DEVICES": "2"}
    subprocess.run([sys.executable, *train, "--workdir=one"], env=env, cwd=tmp_path, check=True)
    found = [sorted((tmp_path / name).rglob("results.json")) for name in ("one", "two")]
    digests = [[json.loads(f.read_text())["params_sha256"] for f in files] for files in found]
    assert digests[0] == digests[1] and len(digests[0]) == (4 if mesh == "run" else 1)


@pytest.mark.slow
def test_nothing_to_detect_is_one_sentence(tmp_path):
    words = ["-m", "metastar", "train", CONFIG, "--workdir=w", "--coordinator=auto"]
    env = {name: x for name, x in environment().items() if not name.startswith(("SLURM_", "OMPI"))}
    done = subprocess.run(
        [sys.executable, *words], env=env, cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith("metastar: nothing here says which processes there are")


@pytest.mark.parametrize(
    "words, sentence",
    [
        (["--process=1"], "--process and --processes need --coordinator=HOST:PORT"),
        (["--coordinator=h"], "--coordinator is 'h' but must be HOST:PORT or auto"),
        (["--coordinator=h:99999"], "--coordinator is 'h:99999' but must be HOST:PORT or auto"),
        (["--coordinator=h:9"], "--coordinator needs --process and --processes"),
        (
            ["--coordinator=h:9", "--process=2", "--processes=2"],
            "--process is 2 but must lie in [0, 2), see --processes",
        ),
        (["--coordinator=h:9", "--dry-run"], "a dry run is made by one process"),
    ],
)
def test_wrong_options_are_one_sentence(words, sentence, tmp_path, capsys):
    assert main.main(["train", CONFIG, f"--workdir={tmp_path / 'w'}", *words]) == 2
    assert capsys.readouterr().err.startswith(f"metastar: {sentence}")
    assert not list(tmp_path.iterdir())


def test_a_coordinator_that_does_not_answer_or_cannot_listen_is_one_sentence(
    tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr(hosts, "SECONDS", 0.1)
    words = ["train", CONFIG, f"--workdir={tmp_path / 'w'}", "--processes=2"]
    address = f"127.0.0.1:{free_port()}"
    assert main.main([*words, f"--coordinator={address}", "--process=1"]) == 2
    assert f"the coordinator {address} does not answer within 0.1 sec" in capsys.readouterr().err
    with socket.socket() as taken:
        taken.bind(("", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert main.main([*words, f"--coordinator=127.0.0.1:{port}", "--process=0"]) == 2
    assert f"process 0 cannot listen on port {port} (" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
