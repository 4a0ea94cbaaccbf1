"""A run, its results and its data set to damage."""

import shutil
from pathlib import Path

import pytest

import stub_run
from hostile import tries
from metastar import config, files
from metastar.data import store
from metastar.evaluation import results
from metastar.training import workdir

OLD = Path(__file__).parents[1] / "old_run"


@pytest.fixture(autouse=True)
def counted(request, monkeypatch):
    """Sends the number of tries with the report of a test: `tests/conftest.py` adds them up."""
    monkeypatch.setattr(tries, "counts", dict.fromkeys(tries.KINDS, 0))
    request.node.user_properties.append(("tries", tries.counts))


@pytest.fixture(scope="session")
def clean_data(tmp_path_factory):
    return stub_run.save_data(tmp_path_factory.mktemp("clean") / "data")


@pytest.fixture
def data(clean_data, tmp_path):
    """A data set that a test may damage."""
    return shutil.copytree(clean_data, tmp_path / "data")


@pytest.fixture
def run(clean_data, tmp_path, monkeypatch):
    """The folder of a run with results, without checkpoints or data, in the current folder."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "run"
    folder.mkdir()
    cfg = stub_run.tiny_config()
    files.write_json(folder / "config.json", config.to_dict(cfg))
    tasks = store.tasks_of(store.verify(clean_data), cfg)
    workdir.write_spec(folder, store.data_spec(tasks.manifest, tasks.train))
    scored = results.read(OLD / "runs/old")
    results.write(folder, {**scored, "digests": workdir.digests(folder)})
    for name in (results.ARRAYS_FILE, "metrics.jsonl"):
        shutil.copy(OLD / "runs/old" / name, folder)
    return folder
