"""Any manifest and any array of a data set, whose digests are right, are read or one sentence."""

import hashlib
import io
import json
import re
import struct
import sys

import numpy as np
import pytest
from hypothesis import strategies as st

from hostile import tries
from hostile.tries import attempt, few_or_many, for_all, refused
from metastar.data import layout, store
from metastar.data.manifest import read_manifest
from metastar.tools.card.describe import describe


def reseal(data, name, content: bytes):
    """Puts bytes in the place of an array, with its digest in the manifest made anew."""
    (data / f"{name}.npy").write_bytes(content)
    manifest = json.loads((data / "manifest.json").read_text())
    manifest["files"][name]["sha256"] = hashlib.sha256(content).hexdigest()
    tries.write(data / "manifest.json", manifest)


def npy(array, **how):
    stream = io.BytesIO()
    np.lib.format.write_array(stream, np.asanyarray(array), allow_pickle=True, **how)
    return stream.getvalue()


def with_header(text: str, body: bytes, version=(1, 0)) -> bytes:
    head = text.encode("latin1", "replace")
    size = struct.pack("<H" if version == (1, 0) else "<I", len(head))
    return b"\x93NUMPY" + bytes(version) + size + head + body


@few_or_many(130, 2000)
def test_any_manifest_is_taken_or_one_sentence(num, data):
    file = data / "manifest.json"

    def one(content):
        tries.write(file, content)
        return attempt(["data", "verify", data])

    for_all(tries.changed(json.loads(file.read_text())), num, one)


@few_or_many(20, 100)
def test_any_bytes_for_a_manifest_are_one_sentence(num, data):
    def one(content):
        (data / "manifest.json").write_bytes(content)
        return attempt(["data", "verify", data])

    for_all(tries.RAW, num, one)


SHAPES = st.one_of(
    st.lists(st.sampled_from([0, 1, 2, -1, 5, 15, 900, 2**31, 2**63, 2**64, 10**30]), max_size=3),
    st.just(["a"]),
).map(tuple)
DESCRS = st.sampled_from(
    [
        "<f4",
        ">f4",
        "<f8",
        "<i4",
        "|b1",
        "|O",
        "<U9",
        "|V4",
        "<M8[s]",
        "",
        "f",
        "x",
        "<f99",
        "<c8",
        [("a", "<f4")],
        None,
        4,
    ]
)


@st.composite
def arrays(draw, name, clean):
    """The content of a `.npy` file: of another array, or with another header."""
    how = draw(st.sampled_from(["cast", "shape", "value", "header", "order", "version", "bytes"]))
    if how == "cast":
        kinds = ["float32", "float64", "int32", "int64", "bool", "O", "U3", "complex64", ">f4"]
        return npy(clean.astype(draw(st.sampled_from([*kinds, "float16", "uint8"]))))
    if how == "shape":
        other = [clean[:-1], clean[:0], clean[None], clean.ravel(), clean.reshape(-1, 1)]
        other += [np.concatenate([clean, clean]), clean.astype(clean.dtype)[..., None], clean[0]]
        return npy(draw(st.sampled_from(other)))
    if how == "value":
        changed = clean.copy()
        at = draw(st.integers(0, clean.size - 1))
        kinds = [0, 1, -1, 7, -(2**31), 2**31 - 1, 1e30, 3e38, -1e30, np.nan, np.inf, 1e-40, 1e20]
        with np.errstate(all="ignore"):
            changed.flat[at] = np.array(draw(st.sampled_from(kinds))).astype(clean.dtype)
        return npy(changed)
    if how == "header":
        header = {"descr": draw(DESCRS), "fortran_order": draw(st.sampled_from([True, False, 1])),
                  "shape": draw(SHAPES)}  # fmt: skip
        header = dict(draw(st.lists(st.sampled_from(sorted(header.items(), key=str)), min_size=2)))
        text = draw(st.one_of(st.just(repr(header)), tries.TEXTS, st.just("(" * 3000)))
        version = draw(st.sampled_from([(1, 0), (2, 0), (3, 0), (9, 9)]))
        return with_header(text, clean.tobytes(), version)
    if how == "order":
        return npy(np.asfortranarray(clean))
    if how == "version":
        return npy(clean, version=draw(st.sampled_from([(2, 0), (3, 0)])))
    whole = npy(clean)
    cut = draw(st.integers(0, min(len(whole) - 1, 200)))
    return draw(st.sampled_from([whole[:cut], whole[:-cut], whole + b"\0", b"PK\x03\x04", b""]))


@pytest.mark.parametrize("name", layout.FIELDS)
@few_or_many(25, 300)
def test_any_array_is_taken_or_one_sentence(name, num, data):
    clean = np.load(data / f"{name}.npy")

    def one(content):
        reseal(data, name, content)
        return attempt(["data", "verify", data])

    for_all(arrays(name, clean), num, one)


@pytest.mark.parametrize(
    "name, value, words",
    [
        ("obs", 1e30, "obs in {} holds 1e+30 in task 0"),
        ("reward", -1e30, "reward in {} holds -1e+30 in task 0"),
        ("obs", np.nan, "obs in {} holds a NaN or an infinity, in task 0"),
        ("action", 1.5, "action in {} leaves [-1, 1] in task 0"),
        ("length", -1, "length in {} leaves [0, 60] in task 0"),
        ("length", 2**31 - 1, "length in {} leaves [0, 60] in task 0"),
        ("episodes", -1, "episodes in {} leaves [0, 2147483647] in task 0"),
        ("episodes", 2**31 - 1, "length in {} is int32"),
        ("policy", 1, "policy in {} leaves [0, 0] in task 0"),
    ],
)
def test_a_value_that_no_data_have_is_refused(name, value, words, data):
    array = np.load(data / f"{name}.npy")
    array.flat[0] = value
    reseal(data, name, npy(array))
    assert words.format(data) in refused(["data", "verify", data])


def test_an_array_that_is_not_what_numpy_saves_is_refused(data):
    obs = np.load(data / "obs.npy")
    header = "{{'descr': '<f4', 'fortran_order': False, 'shape': {}}}".format
    for content, words in (
        (npy(obs) + b"\0", "holds more than the array that it describes"),
        (npy(obs.astype(object)), "ValueError: Array can't be memory-mapped: Python objects"),
        (npy(obs.astype(">f4")), "obs in .* is >f4"),
        (npy(obs.astype(float)), "obs in .* is float64"),
        (npy(obs)[:-4], "ValueError: mmap length is greater than file size"),
        (with_header(header((2**62, 4)), obs.tobytes()), "not an array as numpy.save writes it"),
        (with_header(header((-1, 2)), obs.tobytes()), "not an array as numpy.save writes it"),
        (with_header(header((len(obs) - 1, 2)), obs.tobytes()), "holds more than the array"),
    ):
        reseal(data, "obs", content)
        assert re.search(words, refused(["data", "verify", data]))


def test_other_ways_to_store_the_same_array_are_read_alike(data):
    obs = np.load(data / "obs.npy")
    longer_headers = [npy(obs, version=version) for version in ((2, 0), (3, 0))]
    for content in (npy(np.asfortranarray(obs)), *longer_headers):
        reseal(data, "obs", content)
        np.testing.assert_array_equal(store.verify(data).fields["obs"], obs)


def edited(data, **changes):
    """Puts entries into the manifest."""
    manifest = json.loads((data / "manifest.json").read_text())
    tries.write(data / "manifest.json", {**manifest, **changes})


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"format": 3.0}, "its format is 3.0"),
        ({"format": True}, "its format is True"),
        ({"split": {"train": [0, 1, 2, 3, 4], "tset": []}}, "names 'tset'; did you mean 'test'?"),
        ({"split": {"train": [0, 1, 2, True], "test": [4]}}, "train.3 is True but must be a whole"),
        ({"split": {"train": [0, 0, 1, 2], "test": [4]}}, "must name each of 5 tasks exactly once"),
        ({"policies": []}, "policies must be names"),
        ({"stages": ["a", "a", "b"]}, "stages must be names"),
        ({"tasks": {"goal": ["0", "1", "2", "3", "4"]}}, "'goal' .* must be numbers"),
        ({"tasks": {"goal": [[0], [1, 2]]}}, "'goal' .* must be numbers"),
        ({"tasks": {"goal": [0, 1, 2, 3, 1e30]}}, "a task parameter in .* is larger than 1e"),
        ({"config_format": 99}, "config_format is 99"),
        ({"more": 1}, "it has an entry 'more'"),
        ({"files": {}}, "has no field 'obs'"),
    ],
    ids=str,
)
def test_a_manifest_that_no_data_have_is_refused(changes, words, data):
    edited(data, **changes)
    assert re.search(words, refused(["data", "verify", data]))


@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_manifest_imports_nothing(number, data, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "trap.py").write_text("raise SystemExit('imported')\n")
    values = {"imports": ["trap"], "method": "trap", "collect": {"behavior": "trap"}}
    values |= {"env": {"backend": "trap"}, "family": "trap"}
    edited(data, format=number, config_format=min(number, 2), family="trap", config=values)
    for argv in (["data", "verify", data], ["render", f"--data={data}"]):
        outcome = attempt(argv)
        tries.check(outcome)
        assert "trap" not in sys.modules and "imported" not in outcome.err
    edited(data, format=number, config_format=1, family="point_robot_sparse", config=values)
    assert "imported" not in refused(["render", f"--data={data}"])
    assert "trap" not in sys.modules


def test_tasks_that_are_not_the_familys_are_refused_where_the_family_is_needed(data):
    edited(data, tasks={"speed": [0, 1, 2, 3, 4]})
    assert "has task parameters {'speed': ()}" in refused(["render", f"--data={data}"])
    described = describe(read_manifest(data))  # shown as those of a family that is not known
    assert described.label == "speed" and not described.sparse
