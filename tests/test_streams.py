"""The command line where its output goes nowhere, and configs that are none: one sentence."""

import errno
import io
import os
import sys

import pytest

from metastar import main as cli
from metastar.errors import UserError, ending, one_line
from test_cli import CONFIG

DESCRIBE = ["config", f"--config={CONFIG},debug"]


def test_a_reader_that_has_seen_enough_is_no_mistake(monkeypatch, capsys):
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "w") as stream:
        monkeypatch.setattr(sys, "stdout", stream)
        assert cli.main(DESCRIBE) == 141
    assert capsys.readouterr().err == ""


def test_a_full_disk_behind_the_output_is_one_sentence(monkeypatch, capsys):
    with open("/dev/full", "w") as stream:
        monkeypatch.setattr(sys, "stdout", stream)
        assert cli.main(DESCRIBE) == 2
    err = capsys.readouterr().err
    assert err == (
        "metastar: a file cannot be written: No space left on device; make room or choose another "
        "folder\n"
    )


def test_output_that_was_closed_before_the_start_is_none(monkeypatch):
    monkeypatch.setattr(sys, "stdout", None)
    assert cli.main(DESCRIBE) == 0


def test_what_the_terminal_has_no_letter_for_is_a_question_mark(monkeypatch):
    content = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(content, "ascii"))
    monkeypatch.setattr(cli, "_config", lambda args: print("return – of 3 · tasks"))
    assert cli.main(DESCRIBE) == 0
    assert content.getvalue() == b"return ? of 3 ? tasks\n"


@pytest.mark.parametrize(
    "source, words",
    [
        ("", "config file '' does not exist"),
        ("/dev/zero", "config '/dev/zero' is no regular file, and may have no end"),
        ("fifo.py:point_robot", "config 'fifo.py' is no regular file"),
        (".", "config '.' is a folder"),
        ("a" * 5000 + ".py", "File name too long; give a shorter name"),
        ("exit.py", "config file 'exit.py' fails with SystemExit: 3 (exit.py, line 2); it must"),
        ("lines.py", "fails with ValueError: one two (lines.py, line 1); it must"),
    ],
)
def test_a_config_that_is_none_is_one_sentence(source, words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    os.mkfifo("fifo.py")
    (tmp_path / "exit.py").write_text("import sys\nsys.exit(3)\n")
    (tmp_path / "lines.py").write_text("raise ValueError('one\\ntwo')\n")
    assert cli.main(["config", f"--config={source}"]) == 2
    err = capsys.readouterr().err
    assert words in err and err.startswith("metastar: ") and err.count("\n") == 1


def test_an_argument_that_no_file_could_hold_is_one_sentence(capsys):
    assert cli.main([*DESCRIBE, "--workdir=\udcff"]) == 2
    assert r"argument '--workdir=\udcff' is not UTF-8" in capsys.readouterr().err


@pytest.mark.parametrize(
    "error, expected",
    [
        (UserError("a\n  b\x1b[0m\tc"), (2, "a b [0m c")),
        (OSError(errno.ENOSPC, "No space", "w/x"), (2, "w/x: No space; make room or")),
        (OSError(errno.ENOENT, "No such file", "w/x"), (None, "")),
        (MemoryError(), (2, "there is not enough memory; lower")),
        (RuntimeError("RESOURCE_EXHAUSTED: Out of memory"), (2, "there is not enough memory")),
        (KeyboardInterrupt(), (130, "interrupted")),
        (SystemExit(0), (None, "")),
        (ValueError("a defect"), (None, "")),
    ],
)
def test_the_ending_of_a_command(error, expected):
    status, sentence = ending(error)
    assert status == expected[0] and sentence.startswith(expected[1])
    assert bool(sentence) == bool(expected[1])


def test_a_sentence_has_one_line():
    assert one_line("\n a \r\n\u2028b  c \n") == "a b  c"
