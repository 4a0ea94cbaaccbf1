"""Every file of `configs/` through the command line: what holds for one method holds for all."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from metastar import config
from metastar import main as cli
from metastar.config import schema

ROOT = Path(__file__).parents[1]
RECIPES = sorted(path.stem for path in (ROOT / "configs").glob("*.py"))
PRIVILEGED = ("oracle",)  # no codes to audit


def swept_by(source):
    """A number that runs of one program may differ in: a weight of a task loss, if it has any."""
    flat = config.flatten(config.load_preset(source))
    found = [path for path, field in schema.of(flat).fields.items() if field.swept and path in flat]
    own = [path for path in found if path.startswith("task_losses.") and flat[path] > 0]
    return (own or found)[-1]


@pytest.mark.slow
@pytest.mark.parametrize("recipe", RECIPES)
def test_every_tool_takes_every_recipe(recipe, tmp_path, monkeypatch, capsys):
    """Two runs of one program are killed, resumed, audited, filmed, compared and timed."""
    monkeypatch.chdir(tmp_path)
    source = f"{ROOT / 'configs' / recipe}.py:point_robot_sparse,debug"
    line = ["train", f"--config={source}", "--workdir=w"]
    line.append(f"--config.sweep.{swept_by(source)}=0.25,0.5")
    process = subprocess.Popen([sys.executable, "-m", "metastar", *line], stdout=subprocess.DEVNULL)
    first = tmp_path / "w/seeds/0"
    while process.poll() is None and not any(first.glob("checkpoints/*/*")):
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()

    def ask(*words, status=0):
        assert cli.main(list(words)) == status, (words, capsys.readouterr().err)

    ask(*line)
    scores = [
        json.loads((tmp_path / f"w/seeds/{k}/results.json").read_text())["protocols"]
        for k in range(2)
    ]
    assert all(block["mean"] is not None for block in scores[0].values())
    assert (tmp_path / "w/compare.md").exists()
    ask("audit", f"--workdir={first}", status=2 if recipe in PRIVILEGED else 0)
    ask("render", f"--workdir={first}", "--task=0")
    ask("evaluate", f"--workdir={first}")
    ask("bench", "update", f"--config={source}", "--repeats=1", "--out=bench")
