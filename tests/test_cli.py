"""The command line: quick help, one sentence and status 2 for every mistake, thin commands."""

import errno
import importlib
import subprocess
import sys
import types
from pathlib import Path

import pytest

from metastar import config
from metastar import main as cli
from metastar.errors import UserError

ROOT = Path(__file__).parent.parent
CONFIG = str(ROOT / "configs/metastar.py") + ":point_robot_sparse"
COMMANDS = [
    "config",
    "doctor",
    "collect",
    "train",
    "evaluate",
    "audit",
    "data",
    "report",
    "compare",
]
COMMANDS += ["render", "bench", "sweep"]


@pytest.fixture
def stub(monkeypatch):
    """Replaces a module that a command imports; returns the list of the calls made to it."""

    def install(name, *functions):
        calls = []

        def record(function):
            def call(*args, **kwargs):
                calls.append((function, args, kwargs))
                return f"{function} done"

            return call

        real = vars(importlib.import_module(f"metastar.{name}"))
        module = types.SimpleNamespace(**real | {f: record(f) for f in functions})
        package, _, leaf = f"metastar.{name}".rpartition(".")
        monkeypatch.setitem(sys.modules, f"metastar.{name}", module)
        monkeypatch.setattr(__import__(package, fromlist=["_"]), leaf, module, raising=False)
        return calls

    return install


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_prints_usage_and_exits_zero(command, capsys):
    with pytest.raises(SystemExit) as caught:
        cli.main([*command.split(), "--help"])
    assert caught.value.code == 0
    assert f"usage: metastar {command}".strip() in capsys.readouterr().out


def test_help_takes_under_a_second_of_the_processor_and_does_not_import_jax():
    code = (
        "import sys, time; from metastar.main import main\n"
        "try: main(['train', '--help'])\n"
        "except SystemExit: pass\n"
        "heavy = any(name in sys.modules for name in ('jax', 'flax', 'mujoco', 'matplotlib'))\n"
        "sys.exit(heavy or time.process_time() > 1)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


@pytest.mark.parametrize(
    "argv, words",
    [
        ([], "COMMAND"),
        (["trian"], "unknown command 'trian'; did you mean 'train'?"),
        (["train", "--workdir=w"], "--config"),
        (["train", f"--config={CONFIG}"], "train needs --workdir=DIR"),
        (["train", "--config=none.py"], "config file 'none.py' does not exist"),
        (
            ["train", f"--config={CONFIG},quik"],
            "unknown preset 'quik' of configs/metastar.py; did you mean 'quick'?",
        ),
        (["data", "look", "path"], "invalid choice: 'look'"),
        (["report", "--workdir=w", "--config.seed=1"], "unknown argument '--config.seed=1'"),
    ],
)
def test_a_wrong_command_is_one_sentence_and_status_two(argv, words, capsys):
    assert cli.main(argv) == 2
    out, err = capsys.readouterr()
    assert words in err and err.startswith("metastar: ") and err.count("\n") == 1 and not out


@pytest.mark.parametrize(
    "override, words",
    [
        ("--config.sed=1", "unknown config field 'sed'; did you mean 'seed'?"),
        ("--config.agent.gama=1", "unknown config field 'agent.gama'"),
        ("--config.agent.gamma=1", "'agent.gamma' is now 'agent.conservative.gamma'"),
        ("--config.collect.td3.lr=1", "select it with collect.behavior=td3"),
        ("--config.imports=no.such", "no module 'no'; put its folder on PYTHONPATH"),
        ("--config.sweep.gradient=1,2", "sweep.gradient names nothing that can be swept"),
        (
            "--config.agent.conservative.gamma.x=1",
            "unknown config field 'agent.conservative.gamma.x'",
        ),
        ("--config.seed=x", "config field 'seed' is 'x' but must be of type int"),
        ("--config.seed=1.5", "config field 'seed' is '1.5' but must be of type int"),
        ("--config.seed=true", "config field 'seed' is 'true' but must be of type int"),
        ("--config.train.deterministic=maybe", "config field 'train.deterministic' is 'maybe'"),
        ("--config.agent=3", "config field 'agent' is '3'"),
        (
            "--config.agent.conservative.hidden=a",
            "agent.conservative.hidden is ('a',) but must be of type tuple of ints",
        ),
        (
            "--config.agent.conservative.gamma=nan",
            "agent.conservative.gamma is nan but must lie in [0, 1)",
        ),
        (
            "--config.agent.conservative.gamma=2",
            "agent.conservative.gamma is 2.0 but must lie in [0, 1)",
        ),
        ("--config.imagine.context_len=30", "position table"),
        ("--config.task_losses.distanc=1", "unknown task loss 'distanc'"),
        ("--config.task_losses.a.b=1", "unknown config field 'task_losses.a.b'"),
        ("--config.sweep.hidden=32,64", "sweep.hidden names nothing that can be swept"),
        ("--config.sweep.agent.beta=1,2", "sweep.agent.beta names nothing that can be swept"),
        ("--config.sweep.beta=a", "sweep.agent.conservative.beta is ('a',) but must be numbers"),
        (
            "--config.sweep.beta=1,-1",
            "sweep.agent.conservative.beta is (1, -1) but must lie in [0, inf)",
        ),
        ("--config.num_seeds=0", "num_seeds is 0 but must lie in [1, inf)"),
        ("--config.seed", "Missing value for flag --config.seed"),
        ("--confg.seed=1", "unknown option '--confg.seed'"),
        ("--seed=1", "unknown option '--seed'"),
        ("word", "unknown argument 'word'"),
    ],
)
def test_a_wrong_override_is_one_sentence_and_status_two(override, words, capsys):
    assert cli.main(["train", f"--config={CONFIG},quick", "--workdir=w", override]) == 2
    err = capsys.readouterr().err
    assert words in err and err.count("\n") == 1


def test_overrides_reach_the_config():
    cfg = config.load(
        f"{CONFIG},quick",
        [
            "--config.seed=7",
            "--config.agent.conservative.alpha=1",
            "--config.agent.conservative.hidden=32,16",
            "--config.train.deterministic",
            "--noconfig.sampler.normalize_obs",
            "--config.task_losses.distance",
            "0.5",
            "--config.num_seeds=8",
            "--config.sweep.beta=0.5,1,5",
            "--config.sweep.infonce=2",
        ],
    )
    assert cfg.num_seeds == 8 and config.flatten(cfg.sweep) == {
        "agent.conservative.beta": (0.5, 1, 5),
        "task_losses.infonce": (2,),
    }
    assert cfg.seed == 7 and cfg.agent.conservative.hidden == (32, 16)
    assert type(cfg.agent.conservative.alpha) is float and cfg.task_losses.distance == 0.5
    assert cfg.train.deterministic and not cfg.sampler.normalize_obs


def test_train_passes_config_workdir_and_dry_run(stub):
    calls = stub("train", "train")
    argv = ["train", f"--config={CONFIG},debug", "--config.seed=3"]
    assert cli.main([*argv, "--workdir=w"]) == 0
    assert cli.main([*argv, "--dry-run"]) == 0
    (_, (cfg, workdir), kwargs), (_, (_, no_workdir), dry) = calls
    assert (cfg.seed, cfg.preset, workdir, kwargs["dry_run"]) == (3, "debug", "w", False)
    assert kwargs["command"].startswith("metastar train --config=")
    assert no_workdir is None and dry["dry_run"]


def test_collect_evaluate_report_and_data(stub, capsys):
    collect, card = (
        stub("collection.collect", "ensure"),
        stub("tools.card.card", "inspect", "verify"),
    )
    report, train = (
        stub("tools.report.report", "write", "summary"),
        stub("train", "evaluate_workdir"),
    )
    assert cli.main(["collect", f"--config={CONFIG},debug"]) == 0
    assert cli.main(["evaluate", "--workdir=w"]) == 0
    assert cli.main(["evaluate", "--workdir=w", "--explore=posterior,idaq"]) == 0
    assert cli.main(["evaluate", "--workdir=w", "--oracle=o", "--protocols=swapped"]) == 0
    assert cli.main(["report", "--workdir=w"]) == 0
    assert cli.main(["data", "inspect", "d"]) == 0
    assert cli.main(["data", "inspect", "d", "--out=o"]) == 0
    assert cli.main(["data", "verify", "d"]) == 0
    assert collect[0][1][0].preset == "debug"
    assert [c[:2] for c in train] == [
        ("evaluate_workdir", ("w", [], None, [], None)),
        ("evaluate_workdir", ("w", ["posterior", "idaq"], None, [], None)),
        ("evaluate_workdir", ("w", [], "o", ["swapped"], None)),
    ]
    assert [c[0] for c in report] == ["summary", "summary", "summary", "write", "summary"]
    assert [c[:2] for c in card] == [
        ("inspect", ("d", "d")),
        ("inspect", ("d", "o")),
        ("verify", ("d",)),
    ]
    assert "verify done" in capsys.readouterr().out


def test_audit_passes_both_runs(stub, capsys):
    calls = stub("tools.audit.audit", "audit")
    assert cli.main(["audit", "--workdir=w"]) == 0
    assert cli.main(["audit", "--workdir=w", "--against=v"]) == 0
    assert [args for _, args, _ in calls] == [("w", None), ("w", "v")]
    assert capsys.readouterr().out == 2 * "audit done\n"


def test_a_user_error_of_a_command_has_no_traceback(stub, monkeypatch, capsys):
    stub("tools.report.report", "write")

    def fail(workdir):
        raise UserError(f"{workdir!r} is not a run; give the folder of one")

    monkeypatch.setattr(sys.modules["metastar.tools.report.report"], "write", fail)
    assert cli.main(["report", "--workdir=w"]) == 2
    assert capsys.readouterr().err == "metastar: 'w' is not a run; give the folder of one\n"


def test_a_full_or_read_only_disk_is_one_sentence(stub, monkeypatch, capsys):
    stub("tools.report.report", "write")

    def fail(workdir):
        raise OSError(errno.ENOSPC, "No space left on device", f"{workdir}/report.md")

    monkeypatch.setattr(sys.modules["metastar.tools.report.report"], "write", fail)
    assert cli.main(["report", "--workdir=w"]) == 2
    err = capsys.readouterr().err
    assert err.startswith("metastar: w/report.md: No space left") and err.count("\n") == 1


def test_load_is_a_function_and_is_imported_on_first_use():
    code = (
        "import sys, metastar; assert 'jax' not in sys.modules; from metastar import load;"
        "assert callable(load) and metastar.load is load"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_python_dash_m_runs_the_same_program():
    done = subprocess.run(
        [sys.executable, "-m", "metastar", "trian"], capture_output=True, text=True
    )
    assert done.returncode == 2 and "did you mean 'train'?" in done.stderr
