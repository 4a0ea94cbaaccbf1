"""A file outside that is no good extension ends a command in one sentence, which names the file."""

import sys

import pytest

import make_config
import stub_run
from hostile.test_command_lines import SOURCE
from hostile.tries import asked, check, refused
from metastar import config, registry

HEAD = 'from metastar.config import Field\nKIND = "task loss"\nDEFAULTS = {}\n'
MAKE = "def make(cfg, spec, code_dim): pass\n"
FAMILY = HEAD.replace("task loss", "family")
WRONG = {  # file: its content, and words of the sentence
    "no_kind": ("", "must define KIND, one of 'method'"),
    "odd_kind": ("KIND = ['task loss']\n", "must define KIND"),
    "lacks_make": (HEAD, "does not define make"),
    "lacks_defaults": ('KIND = "agent"\ndef make(cfg, rows): pass\n', "does not define DEFAULTS"),
    "lacks_data": (FAMILY, "does not define DATA, FAMILY"),
    "make_is_none": (f"{HEAD}make = None\n", "make of task loss 'make_is_none' must be a function"),
    "no_family": (f"{FAMILY}DATA = {{}}\nFAMILY = 3\n", "must be a Family, not 3"),
    "no_dict": (f"{HEAD}{MAKE}DEFAULTS = 3\n", "DEFAULTS of task loss 'no_dict' must be a dict"),
    "raises": ("1 / 0\n", "fails with ZeroDivisionError: division by zero (raises.py, line 1)"),
    "syntax": ("def make(\n", "fails with SyntaxError"),
    "lines": ("raise ValueError('a\\nb')\n", "ValueError: a b"),
    "exits": ("import sys\nsys.exit(3)\n", "fails with SystemExit: 3 (exits.py, line 2)"),
    "needs": ("import no_such_module\n", "needs the module 'no_such_module'"),
    "no_utf8": (b"\xff\xfe\x00", "fails with SyntaxError"),
}
CHOSEN = {  # by task_losses.<name>=1, which takes the file into the config
    "no_field": (
        f"{HEAD}{MAKE}DEFAULTS = {{'a': 1}}\n",
        "must be names and their Field, but 'a' has 1",
    ),
    "no_range": (f"{HEAD}{MAKE}DEFAULTS = {{'a': Field(1, '[0 inf')}}\n", "is '[0 inf' but must"),
    "bad_value": (f"{HEAD}{MAKE}DEFAULTS = {{'a': Field(-1, '[0, inf)')}}\n", "is -1 but must lie"),
    "no_sections": (f"{HEAD}{MAKE}SECTIONS = 3\n", "SECTIONS of no_sections must be a dict"),
    "no_parts": (f"{HEAD}{MAKE}SECTIONS = {{'a': (3,)}}\n", "SECTIONS of no_parts must be a dict"),
    "check_exits": (f"{HEAD}{MAKE}def check(cfg):\n    raise SystemExit(3)\n", "SystemExit: 3"),
    "check_raises": (
        f"{HEAD}{MAKE}def check(cfg):\n    cfg.nothing\n",
        "check of 'check_raises' fails with AttributeError: \"'nothing'\" (check_raises.py, line",
    ),
    "check_says": (
        f"{HEAD}{MAKE}from metastar.errors import UserError\n"
        "def check(cfg):\n    raise UserError('no; yes')\n",
        "metastar: no; yes\n",
    ),
}
RECORDS = {  # what `make` returns, for words of the sentence
    "None": "must return a TaskLoss, not None",
    "3": "must return a TaskLoss, not 3",
    "Encoder(None, None)": "must return a TaskLoss, not Encoder(init=None",
    "('context',), None": "must return a TaskLoss, not (('context',), None)",
    "cfg.nothing": "make of 'made' fails with AttributeError",
    "int('x')": "fails with ValueError: invalid literal",
    "UserError": "must return a TaskLoss",
}


@pytest.fixture
def place(tmp_path, monkeypatch):
    """Writes a file that can be imported, until the test ends."""
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    written = []

    def write(name, content):
        (tmp_path / f"{name}.py").write_bytes(content if name == "no_utf8" else content.encode())
        written.append(name)

    yield write
    for name in written:
        sys.modules.pop(name, None)


@pytest.mark.parametrize("name", WRONG)
def test_what_cannot_be_imported_is_refused(name, place):
    content, words = WRONG[name]
    place(name, content)
    argv = ["train", f"--config={SOURCE}", "--workdir=w", f"--config.imports={name}"]
    sentence = refused(argv)
    assert words in sentence and repr(name) in sentence


@pytest.mark.parametrize("name", CHOSEN)
def test_what_a_config_selects_is_refused(name, place, tmp_path):
    content, words = CHOSEN[name]
    place(name, content)
    argv = ["train", f"--config={SOURCE}", "--workdir=w", f"--config.imports={name}"]
    assert words in refused([*argv, f"--config.task_losses.{name}=1"])
    assert not (tmp_path / "w").exists()


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", "a/b", "os", "os.path", ".os", "os.", "a b", "no_such", "²", "1", "\0"],
)
def test_what_is_no_name_of_an_extension_is_refused(name, place, tmp_path):
    refused(["train", f"--config={SOURCE}", "--workdir=w", "--config.imports", f"os,{name}"])
    assert not (tmp_path / "w").exists()


@pytest.mark.parametrize("kind", [k for k, kind in registry.KINDS.items() if "make" in kind.needs])
def test_every_kind_makes_a_record_of_its_own(kind, place):
    place("none", f"{HEAD}NEEDS_MODEL = False\nKIND = {kind!r}\ndef make(*args): pass\n")
    registry.register(["none"])
    outcome = asked(registry.make, kind, "none")
    check(outcome)
    assert f"make of {kind} 'none' must return a" in outcome.err and ", not None;" in outcome.err


@pytest.mark.parametrize("made", RECORDS)
def test_what_is_made_must_be_the_record_of_the_kind(made, place):
    imports = "from metastar.errors import UserError\nfrom metastar.types import Encoder\n"
    place("made", f"{imports}{HEAD}{MAKE.replace('pass', f'return {made}')}")
    cfg = make_config.base(imports=("made",), task_losses__made=1.0)
    outcome = asked(config.make, cfg, "task loss", "made", None, 5)
    check(outcome)
    assert RECORDS[made] in outcome.err


def test_a_defect_in_a_file_of_the_package_keeps_its_traceback(monkeypatch):
    def fail(cfg, spec, code_dim):
        raise ValueError("a defect")

    monkeypatch.setattr(registry.find("task loss", "distance"), "make", fail)
    with pytest.raises(ValueError, match="a defect"):
        config.make(make_config.base(), "task loss", "distance", None, 5)


@pytest.mark.parametrize("collected", [True, False])
def test_a_method_that_cannot_be_made_claims_no_workdir(collected, place, tmp_path):
    place("broken", 'KIND = "method"\nDEFAULTS = {}\ndef make(cfg, spec):\n    spec.nothing\n')
    words = ["--config.imports=broken", "--config.method=broken", "--config.data.dir=data"]
    if collected:
        stub_run.save_data(tmp_path / "data", config.load(SOURCE, words))
    sentence = refused(["train", f"--config={SOURCE}", *words, "--workdir=runs/w"])
    assert "make of 'broken' fails with AttributeError" in sentence
    assert not (tmp_path / "runs/w/config.json").exists()
    assert (tmp_path / "data").exists() == collected  # it fails before data are made
