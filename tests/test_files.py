"""JSON files with a checksum: what is read is what was written, or one sentence."""

import json

import pytest

from metastar import files
from metastar.errors import UserError

CONTENT = {"name": "é", "pair": (1, 2.5), "steps": {10: "b", 9: "a"}, "none": None}


def read(path, **how):
    """The sentence that `read_json` refuses a file with."""
    with pytest.raises(UserError) as caught:
        files.read_json(path, "make it again", **how)
    sentence = str(caught.value)
    assert str(path) in sentence and sentence.endswith("; make it again") and "\n" not in sentence
    return sentence


@pytest.mark.parametrize("sealed", [True, False])
def test_what_was_written_is_read(tmp_path, sealed):
    path = tmp_path / "a.json"
    files.write_json(path, CONTENT)
    found = files.read_json(path, "", sealed)
    assert found == {**CONTENT, "pair": [1, 2.5], "steps": {"10": "b", "9": "a"}}
    path.write_text(json.dumps(json.loads(path.read_text()), sort_keys=True))  # layout is free
    assert files.read_json(path, "", sealed) == found


@pytest.mark.parametrize("sealed", [True, False])
def test_an_edited_file_is_refused(tmp_path, sealed):
    path = tmp_path / "a.json"
    files.write_json(path, CONTENT)
    path.write_text(path.read_text().replace("2.5", "2.6"))
    assert "does not match its SHA-256" in read(path, sealed=sealed)


def test_a_file_without_a_checksum_is_read_where_that_is_allowed(tmp_path):
    path = tmp_path / "a.json"
    path.write_text('{"a": 1}')
    assert "has no checksum" in read(path)
    assert files.read_json(path, "", sealed=False) == {"a": 1}


@pytest.mark.parametrize(
    "content, words",
    [
        (b"{", "is damaged: it is not JSON"),
        (b"\xff\xfe", "is damaged: it is not JSON"),
        (b"[1]", "is damaged: it holds no JSON object"),
    ],
)
def test_what_is_no_object_is_refused(tmp_path, content, words):
    path = tmp_path / "a.json"
    path.write_bytes(content)
    assert words in read(path, sealed=False)


def test_a_file_that_is_not_there_or_cannot_be_read_or_written_is_one_sentence(tmp_path):
    assert "is missing" in read(tmp_path / "a.json")
    assert "cannot read" in read(tmp_path)
    with pytest.raises(UserError, match="make its folder writable"):
        files.write_json(tmp_path / "nowhere" / "a.json", {})
    with pytest.raises(ValueError, match="Out of range"):
        files.write_json(tmp_path / "a.json", {"a": float("nan")})
    assert not (tmp_path / "a.json").exists()
