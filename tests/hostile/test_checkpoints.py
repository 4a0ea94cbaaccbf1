"""Any record of a checkpoint, whose digest is right, is restored, gone back before, or refused."""

import json

import jax.numpy as jnp
import pytest

from hostile import tries
from hostile.tries import asked, few_or_many, for_all
from metastar.training import checkpoint
from metastar.training.workdir import Identity

STATE = {"a": jnp.arange(3.0), "b": {"c": jnp.ones((2, 2))}}
OWNER = Identity({"config": "1" * 64, "spec": "2" * 64}, 3)


@pytest.fixture
def saved(tmp_path):
    checkpoint.save(tmp_path / "checkpoints", 7, STATE, {"wall_seconds": 1.0}, OWNER.digests)
    return tmp_path / "checkpoints"


@few_or_many(80, 1000)
def test_any_record_is_one_sentence(num, saved):
    file = saved / "7" / "record.json"
    clean = json.loads(file.read_text())

    def one(content):
        tries.write(file, content)
        return asked(checkpoint.restore_latest, saved, STATE, OWNER)

    for_all(tries.changed(clean), num, one)


@few_or_many(20, 100)
def test_any_bytes_of_a_record_are_damage(num, saved):
    def one(content):
        (saved / "7" / "record.json").write_bytes(content)
        return asked(checkpoint.restore_latest, saved, STATE, OWNER)

    for_all(tries.RAW, num, one)
