"""JSON files with a checksum: what is read is what was written, or one sentence."""

import json

import pytest

from metastar import files
from metastar.errors import UserError
from metastar.files import Each, Maybe, MayLack

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
        (b"", "is damaged: it is not JSON"),
        ('{"a": 1}'.encode("utf-16"), "is damaged: it is not JSON"),
        (b'{"b": {"a": 1, "a": 1}}', "is damaged: it names 'a' twice in one object"),
        (b'{"a": NaN}', "is damaged: it holds a number that is not finite"),
        (b'{"a": -Infinity}', "is damaged: it holds a number that is not finite"),
        (b'{"a": 1e400}', "is damaged: it holds a number that is not finite"),
        (b'{"a": 9223372036854775808}', "is damaged: it holds a whole number beyond 64 bits"),
        (b'{"a": ' + b"9" * 5000 + b"}", "is damaged: it holds a whole number beyond 64 bits"),
        (b'{"a": "\\ud800"}', "is damaged: it holds half of a surrogate pair"),
        (b'{"a": ' + b"[" * 60 + b"]" * 60 + b"}", "is damaged: it nests lists and objects more"),
        (b"[" * 100_000, "is damaged: it nests lists and objects more than 50 deep"),
    ],
    ids=lambda x: str(x[:30]),
)
def test_what_is_no_plain_object_is_refused(tmp_path, content, words):
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


def test_the_extremes_that_a_reader_can_hold_are_read():
    text = '{"a": [9223372036854775807, -9223372036854775808, 1e308, "\\ud83d\\ude00"]}'
    assert files.parse_json(text) == {"a": [2**63 - 1, -(2**63), 1e308, "\U0001f600"]}


FORM = {
    "name": str,
    "rows": [{"size": int, "share": Maybe(float), "note": MayLack(str)}],
    "by": Each(bool),
}
RIGHT = {"name": "a", "rows": [{"size": 1, "share": None}], "by": {"x": True}, "more": 1}


def test_a_content_of_its_form_is_taken():
    files.expect(RIGHT, FORM, "a.json is wrong", "do")
    files.expect({**RIGHT, "rows": [{"size": 1, "share": 2, "note": ""}]}, FORM, "", "")


@pytest.mark.parametrize(
    "change, words",
    [
        ({"name": None}, "name is None but must be a text"),
        ({"rows": {}}, "rows is {} but must be a list"),
        ({"rows": [{"share": 1}]}, "rows.0.size is missing"),
        ({"rows": [{"size": 1.0, "share": 1}]}, "rows.0.size is 1.0 but must be a whole number"),
        ({"rows": [{"size": True, "share": 1}]}, "rows.0.size is True but must be a whole number"),
        ({"rows": [{"size": 1, "share": "1"}]}, "rows.0.share is '1' but must be a number"),
        ({"rows": [{"size": 1, "share": 1, "note": None}]}, "rows.0.note is None but must be a"),
        ({"by": {"x": 1}}, "by.x is 1 but must be true or false"),
        ({"by": []}, "by is [] but must be an object"),
    ],
    ids=str,
)
def test_the_first_part_of_another_form_is_one_sentence(change, words):
    with pytest.raises(UserError) as caught:
        files.expect({**RIGHT, **change}, FORM, "a.json is wrong", "do")
    sentence = str(caught.value)
    assert sentence.startswith(f"a.json is wrong: {words}") and sentence.endswith("; do")
