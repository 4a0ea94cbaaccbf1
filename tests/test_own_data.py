"""`docs/own_data.md`, run as it stands: own arrays, a family of gymnasium, training, an agent."""

import re
import shlex
import sys

import pytest

from metastar import main as cli
from metastar import registry
from test_docs import ROOT, commands

PAGE = ROOT / "docs/own_data.md"
BLOCK = re.compile(r"(?:^`(\S+)`:\n\n)?^```(\w*)\n(.*?)^```$", re.M | re.S)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The folder that the page speaks of; what it makes known is forgotten at the end."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(registry, "_imported", {})
    yield tmp_path
    sys.modules.pop("cart_family", None)


def test_the_page_leads_from_own_arrays_to_an_agent_that_acts(folder, capsys):
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
