"""Cells on Ray: the arithmetic without it, and a cluster of two nodes, one of which is lost."""

import os
import re
import socket
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

import sweep_files
from metastar import files
from metastar.errors import UserError
from metastar.main import main
from metastar.tools.sweep import process
from metastar.tools.sweep.executor import Share
from metastar.tools.sweep.executors import ray as on_ray

GIB = process.GIB
SETTINGS = {name: field.value for name, field in on_ray.DEFAULTS.items()}
CELLS = 12


def test_room_is_counted_node_by_node_and_only_where_a_node_is_alive():
    small = {"CPU": 3.0, "memory": 40.0 * GIB}
    large = {"CPU": 8.0, "memory": 9.0 * GIB, "GPU": 1.0}
    nodes = [{"Alive": True, "Resources": r} for r in (small, large)]
    nodes.append({"Alive": False, "Resources": large})
    ray = SimpleNamespace(nodes=lambda: nodes)
    assert on_ray._room(ray, {"CPU": 2, "memory": 4 * GIB, "GPU": 0}) == 1 + 2
    assert on_ray._room(ray, {"CPU": 1, "memory": 4 * GIB, "GPU": 0.1}) == 2
    assert on_ray._room(ray, {"CPU": 1, "memory": GIB // 4, "GPU": 0.1}) == 8
    assert on_ray._room(ray, {"CPU": 1, "memory": GIB // 4, "GPU": 1 / 3}) == 3
    assert on_ray._room(ray, {"CPU": 9, "memory": GIB, "GPU": 0}) == 0


def test_a_command_sees_no_gpu_or_its_part_of_one(monkeypatch):
    monkeypatch.setenv("JAX_PLATFORMS", "tpu")  # of the machine that drives
    monkeypatch.setenv("JAX_ENABLE_X64", "1")
    none, third, two = (on_ray._environment(gpus) for gpus in (0.0, 1 / 3, 2.0))
    assert none["JAX_PLATFORMS"] == "cpu" and none["JAX_ENABLE_X64"] == "1"
    assert third["XLA_CLIENT_MEM_FRACTION"] == "0.300" and "JAX_PLATFORMS" not in third
    assert "XLA_CLIENT_MEM_FRACTION" not in two and "HOME" not in two


def test_cores_are_held_by_one_cell_each_as_long_as_there_are(monkeypatch, tmp_path):
    monkeypatch.setattr(process, "cores", lambda: [2, 3, 7])
    monkeypatch.setattr(process.tempfile, "gettempdir", lambda: str(tmp_path))
    with process.free_cores(1) as a, process.free_cores(1) as b, process.free_cores(2) as c:
        assert (a, b, c) == ([2], [3], [7, 2])
    with process.free_cores(2) as again, process.free_cores(3) as confined:
        assert again == [2, 3] and confined == [2, 3, 7]


@pytest.fixture
def fake(monkeypatch):
    """Stands in for Ray: one node of two cores, and tasks that end as its `outcome` says."""
    names = ("TaskCancelledError", "OutOfMemoryError", "RayTaskError", "NodeDiedError")
    base = type("RayError", (Exception,), {})
    kinds = {name: type(name, (base,), {}) for name in names}

    def get(task):
        if isinstance(found.outcome, int):
            return found.outcome
        raise kinds[found.outcome]("a traceback\nImportError: no such thing")

    node = {"Alive": True, "Resources": {"CPU": 2.0, "memory": 8.0 * GIB}}
    found = SimpleNamespace(
        outcome=0,
        asked={},
        exceptions=SimpleNamespace(RayError=base, **kinds),
        init=lambda address, **options: None,
        nodes=lambda: [node],
        wait=lambda tasks, timeout: (tasks, []),
        get=get,
        cancel=lambda task: None,
    )
    found.remote = lambda **wanted: (
        found.asked.update(wanted) or (lambda run: SimpleNamespace(remote=lambda *args: args))
    )
    monkeypatch.setattr(on_ray.executor, "package", lambda name, extra: found)
    return found


def test_tasks_reserve_what_a_cell_takes_and_no_more_start_than_there_is_room_for(fake, tmp_path):
    executor = on_ray.make(SETTINGS, Share(1, 3.0))
    wanted = {"num_cpus": 1, "num_gpus": 0.0, "memory": 3 * GIB, "max_retries": 3}
    assert fake.asked == wanted
    place = executor.place(executor.start(["train"], tmp_path / "a.log", []))
    assert executor.start([], tmp_path / "a.log", [place, place]) is None
    queued = on_ray.make(SETTINGS, Share(4, 3.0), jobs=3)  # for a node that may come
    assert queued.start([], tmp_path / "a.log", [place, place]) is not None
    with pytest.raises(UserError, match="no node of the Ray cluster has 4 cores, 3 GiB and 0 GPUs"):
        on_ray.make(SETTINGS, Share(4, 3.0))
    with pytest.raises(UserError, match=r"ray: gpus is 1\.5, and above 1 it must be whole"):
        on_ray.make(SETTINGS | {"gpus": 1.5}, Share(1, 3.0))


@pytest.mark.parametrize(
    ("outcome", "status", "sentence"),
    [
        (3, 3, ""),
        ("TaskCancelledError", -15, ""),
        ("OutOfMemoryError", 1, "its node had no memory left; raise memory_gb"),
        ("RayTaskError", 1, "the worker failed with ImportError: no such thing"),
        ("NodeDiedError", 1, "was lost more than 3 times (NodeDiedError)"),
    ],
)
def test_how_a_task_ended_is_told(fake, tmp_path, outcome, status, sentence):
    log = tmp_path / "a.log"
    log.touch()
    executor = on_ray.make(SETTINGS, Share(1, 3.0))
    fake.outcome = outcome
    assert executor.poll(executor.start([], log, [])) == status
    assert sentence in log.read_text() and bool(sentence) == ("metastar: " in log.read_text())


@pytest.fixture
def no_token(monkeypatch):
    """Else Ray writes a token into the home folder."""
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    return pytest.importorskip("ray")


@pytest.mark.slow
def test_a_cluster_that_does_not_answer_is_told_within_its_time(no_token):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        settings = SETTINGS | {"address": address, "seconds": 1.0}
        with pytest.raises(UserError, match=r"no answer within 1 s\); start one with `ray start"):
            on_ray.make(settings, Share(1, 1.0))


def sweep(folder: Path, *words: str) -> dict[str, str]:
    """Runs the sweep of that folder; the digest of the parameters of each cell."""
    assert main(["sweep", "s.py", *words]) == 0
    found = [files.read_json(file, "") for file in sorted(folder.glob("results/*.json"))]
    return {cell["cell"]: cell["runs"][0]["results"]["params_sha256"] for cell in found}


def words_below(pid: int) -> list[str]:
    """Those of all commands that a process has started, and that these have."""
    found = []
    try:
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in (task / "children").read_text().split():
                found += Path(f"/proc/{child}/cmdline").read_text().split("\0")
                found += words_below(int(child))
    except OSError:  # it has just ended
        pass
    return found


def in_the_middle(node, folder: Path) -> bool:
    """Whether a node of this machine runs a cell that has a checkpoint and no results."""
    (raylet,) = node.all_processes["raylet"]
    words = [w for w in words_below(raylet.process.pid) if w.startswith("--workdir=")]
    runs = [folder / word.removeprefix("--workdir=") for word in words]
    return any(
        list(run.glob("checkpoints/[0-9]*")) and not (run / "results.json").exists() for run in runs
    )


@pytest.mark.slow
def test_a_lost_node_changes_no_parameter(no_token, tmp_path, monkeypatch):
    from ray.cluster_utils import Cluster

    grid = sweep_files.GRID | {"seeds": tuple(range(CELLS))}
    grid |= {"overrides": {"": (f"data.dir={tmp_path / 'data'}", "train.checkpoint_every=5")}}
    configs = Path(__file__).parents[3] / "configs"
    for name in ("local", "ray"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "configs").symlink_to(configs)
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    lost = cluster.add_node(num_cpus=1)

    def lose():
        results = tmp_path / "ray/results"
        while len(list(results.glob("*.json"))) < 3 or not in_the_middle(lost, tmp_path / "ray"):
            time.sleep(0.1)
        cluster.remove_node(lost, allow_graceful=False)

    fields = {"memory_gb": 4.0, "runs": "runs", "results": "results"}
    sweep_files.write(tmp_path / "local", (grid,), **fields)
    own = {"address": cluster.address}
    sweep_files.write(tmp_path / "ray", (grid,), **fields, ray=own)
    try:
        monkeypatch.chdir(tmp_path / "ray")
        thread = threading.Thread(target=lose, daemon=True)
        thread.start()
        found = sweep(tmp_path / "ray", "--on=ray")
        thread.join()
    finally:
        no_token.shutdown()
        cluster.remove_node(cluster.head_node)
    logs = [file.read_text() for file in (tmp_path / "ray/runs").glob("*.log")]
    starts = [len(re.findall(r"^\$ metastar train", log, re.M)) for log in logs]
    assert sorted(starts) == [1] * (CELLS - 1) + [2]
    monkeypatch.chdir(tmp_path / "local")
    assert found == sweep(tmp_path / "local") and len(found) == CELLS
    assert os.environ["RAY_AUTH_MODE"] == "disabled"
