"""`docs/own_data.md`, run as it stands: own arrays, a family of gymnasium, training, an agent."""

import re
import shlex
import sys

import gymnasium
import pytest

from metastar import main as cli
from test_docs import ROOT, commands

PAGE = ROOT / "docs/own_data.md"
BLOCK = re.compile(r"(?:^`(\S+)`:\n\n)?^```(\w*)\n(.*?)^```$", re.M | re.S)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The folder that the page speaks of."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    sys.modules.pop("cart_family", None)


def test_the_page_leads_from_own_arrays_to_an_agent_that_acts(folder, monkeypatch, capsys):
    typed = iter(commands(PAGE))
    for name, language, text in BLOCK.findall(PAGE.read_text()):
        if name:
            (folder / name).write_text(text)
        elif language == "python":
            exec(compile(text, PAGE.name, "exec"), {})
        else:
            words = shlex.split(next(typed).replace(":quick", ":debug"))
            if words[0] == "train":
                words += ["--config.eval.protocols=few_shot", "--config.train.updates=4"]
            assert cli.main(words) == 0, capsys.readouterr().err
    printed = capsys.readouterr().out
    assert "8 tasks (6 train, 2 test) x 10 episodes" in printed
    assert "metastar.data.own, from a simulated cart" in printed
    assert "contextual on cart_family, 2 test tasks" in printed
    assert -200 < float(re.search(r"^return (\S+)$", printed, re.M)[1]) < 0
    assert (folder / "runs/cart/report.md").exists() and not list(typed)
    refuses_in_one_sentence(monkeypatch, capsys)


def refuses_in_one_sentence(monkeypatch, capsys):
    """What users of the page may mistake, each found before anything is trained."""

    def error(*options):
        line = ["train", "--config=cart_config.py:debug", "--workdir=runs/other", *options]
        assert cli.main(line) == 2
        out, sentence = capsys.readouterr()
        assert "compiled" not in out and sentence.count("\n") == 1
        return sentence

    assert "no data can be made in data/crt" in error("--config.data.dir=data/crt")
    assert "has no data preset 'quick'; there is none" in error("--config.data.preset=quick")
    assert "data.test_tasks=2, but the config has 3" in error("--config.data.test_tasks=3")
    wide = gymnasium.spaces.Box(-1, 1, (3,))
    monkeypatch.setattr(sys.modules["cart_family"].Cart, "observation_space", wide)
    assert "(3,), float32), but must be a Box of shape (2,)" in error()
