"""`metastar train` hashes every file of its data once and holds every array on the device once."""

import gc
import hashlib
from collections import Counter

import jax
import pytest

import stub_run
from metastar import train
from metastar.evaluation import evaluate
from metastar.training import memory, placement, workdir
from metastar.training.chunk import LoopState
from metastar.training.loop import Fit
from metastar.training.runs import Run
from metastar.types import Learner


def held():
    """Bytes of all arrays on the device."""
    gc.collect()
    return sum(array.nbytes for array in jax.live_arrays())


@pytest.fixture
def counted(tmp_path, monkeypatch):
    """Trains a run on the tiny data set in words only; returns hashes by file, and bytes held."""
    cfg = stub_run.tiny_config(**{"data.dir": str(tmp_path / "data")})
    stub_run.save_data(tmp_path / "data", cfg)
    hashes, sizes, before = Counter(), {}, held()
    digest, make_final = hashlib.file_digest, evaluate.make_final
    method = stub_run.seeker()._replace(export=lambda state: state["stub"].params)

    def count(stream, name):
        hashes[stream.name.rpartition("/")[2]] += 1
        return digest(stream, name)

    def fit(runs, method, data, hps, evaluate_fn, tell, begin, place):
        state = {"stub": Learner(stub_run.PARAMS)}
        assert len(data.count) == stub_run.NUM_TRAIN  # no other task is in the program
        begin()
        evaluate_fn(state, 1)
        sizes["training"] = held() - before
        return Fit([LoopState(state, -1, ())], 1.0, {})

    def final(*args):
        made = make_final(*args)
        sizes["evaluation"] = held() - before
        return made

    monkeypatch.setattr(hashlib, "file_digest", count)
    monkeypatch.setattr(train.runs, "make_method", lambda cfg, spec: method)
    monkeypatch.setattr(memory, "expect_possible", lambda method, data, num: None)  # no `init`
    monkeypatch.setattr(train, "fit", fit)
    monkeypatch.setattr(evaluate, "make_final", final)
    with workdir.opened(cfg, tmp_path / "run") as path:
        train._train_all(
            path, [Run(cfg, path)], "metastar train", lambda *words, **changes: None, placement.ONE
        )
    return cfg, hashes, sizes


def test_data_are_hashed_once_and_held_once(counted):
    cfg, hashes, sizes = counted
    assert set(hashes.values()) == {1}, hashes
    data = train.store.load(train.store.verify(cfg.data.dir), "all", cfg)
    copies = {name: round(size / memory.size(data), 2) for name, size in sizes.items()}
    assert all(0.9 < num < 1.2 for num in copies.values()), copies
