"""Any command line is taken, or refused in one sentence: overrides, configs, presets, folders."""

from pathlib import Path

import pytest
from hypothesis import strategies as st

import stub_run
from hostile import tries
from hostile.tries import attempt, few_or_many, for_all, refused
from metastar import config
from metastar.config import schema
from metastar.config.fields import example

CONFIGS = Path(__file__).parents[2] / "configs"
SOURCE = f"{CONFIGS / 'metastar.py'}:point_robot_sparse,debug"
FIELDS = schema.of(config.flatten(config.load_preset(SOURCE))).fields
KNOWN = st.sampled_from(sorted(FIELDS))
PATHS = st.one_of(
    KNOWN,
    KNOWN.map("sweep.{}".format),
    st.sampled_from(["", ".", "..", "a", "agent", "agent.", ".seed", "seed.", "seed.a", "sweep"]),
    st.sampled_from(["task_losses.", "task_losses.os", "task_losses.a.b", "sweep.", "sweep.beta"]),
    st.text(max_size=6),
)
WRITTEN = st.one_of(
    tries.TEXTS,
    tries.NUMBERS.map(str),
    st.floats().map(str),
    st.integers().map(str),
    st.lists(tries.NUMBERS.map(str), max_size=4).map(",".join),
    st.sampled_from(["()", "(1,)", "(1, 2", "[1]", "1,", ",", "'a'", "True", "-", "--", "1_0"]),
)
NUMERIC = [p for p, field in FIELDS.items() if type(example(field)) in (int, float)]
LIKELY = st.one_of(  # most of these are taken
    st.sampled_from(NUMERIC).map(lambda path: f"--config.{path}={example(FIELDS[path])}"),
    st.tuples(st.sampled_from(NUMERIC), st.integers(0, 9)).map("--config.{0[0]}={0[1]}".format),
    st.tuples(st.sampled_from(NUMERIC), st.floats(0, 1)).map("--config.{0[0]}={0[1]}".format),
)
OVERRIDES = st.lists(
    st.one_of(
        LIKELY,
        st.tuples(PATHS, WRITTEN).map("--config.{0[0]}={0[1]}".format),
        st.tuples(KNOWN, WRITTEN).map("--config.{0[0]}={0[1]}".format),
        PATHS.map("--config.{}".format),
        PATHS.map("--noconfig.{}".format),
        tries.TEXTS,
    ),
    min_size=1,
    max_size=2,
)
SOURCES = st.one_of(
    st.tuples(st.sampled_from(["metastar", "bc"]), tries.TEXTS, tries.TEXTS).map(
        lambda parts: f"{CONFIGS / parts[0]}.py:{parts[1]},{parts[2]}"
    ),
    tries.TEXTS,
    tries.TEXTS.map("{}.py:point_robot,debug".format),
    tries.TEXTS.map("configs/metastar.py:{}".format),
    st.sampled_from([str(CONFIGS), f"{CONFIGS}/", "metastar.py", "metastar.py:", ":", ".py:", ","]),
)
# None of these trains, collects, films or times anything.
COMMANDS = st.sampled_from(["config", "evaluate", "report", "compare", "audit", "data", "render"])
OPTIONS = ["--workdir", "--config", "--out", "--against", "--explore", "--oracle", "--sizes"]
OPTIONS += ["--repeats", "--policy", "--data", "--source", "--task", "--format", "-", "--"]
WORDS = st.one_of(
    st.tuples(st.sampled_from(OPTIONS), tries.TEXTS).map("{0[0]}={0[1]}".format),
    st.sampled_from([*OPTIONS, "inspect", "verify"]),
    tries.TEXTS,
)


@few_or_many(150, 5000)
def test_any_override_is_taken_or_one_sentence(num):
    for_all(OVERRIDES, num, lambda words: attempt(["config", f"--config={SOURCE}", *words]))


@few_or_many(60, 1000)
def test_any_config_is_taken_or_one_sentence(num):
    for_all(SOURCES, num, lambda source: attempt(["config", f"--config={source}"]))


@few_or_many(100, 2000)
def test_any_words_are_taken_or_one_sentence(num, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    lines = st.tuples(st.one_of(COMMANDS, tries.TEXTS), st.lists(WORDS, max_size=3))
    for_all(lines, num, lambda line: attempt([line[0], *line[1]]))


WRONG = [
    *("seed=nan", "seed=1e400", "seed=", "seed=1.0", "seed=١٢", "seed=²", "seed=-1", "seed=1,2"),
    *(
        "seed=" + "9" * 30,
        "seed=" + "9" * 5000,
        "train.chunk=" + "9" * 30,
        "train.chunk=2147483648",
    ),
    *("imagine.penalty=nan", "imagine.penalty=inf", "imagine.penalty=1e39", "imagine.penalty=１"),
    *("agent.conservative.hidden=", "agent.conservative.hidden=()", "sweep.beta=1e400"),
    *("agent.conservative.hidden=a", "agent.conservative.hidden=1,٢", "sweep.beta=1,٢"),
    *("family=", "family=os", "family=..", "method=a/b", "data.preset=nope", "eval.protocols=,"),
    *("preset=a\nb", "preset=\x1b[31m", "data.dir=\0", "eval.oracle=\udcff", "imports=\udcff"),
    *("no.such=1", "seed.x=1", ".=1", "agent=1", "sweep=1", "task_losses.os.path=1"),
    *("train.deterministic=maybe", "sampler.windows=True", "train.pretrained=a\tb"),
]


@pytest.mark.parametrize("override", WRONG, ids=ascii)
def test_a_value_that_no_run_has_is_refused(override):
    sentence = refused(["config", f"--config={SOURCE}", f"--config.{override}"])
    assert len(sentence) < 1000


@pytest.mark.parametrize("line", ["compare a\0b", "report --workdir=\0", "data verify \0"])
def test_a_nul_in_a_name_is_refused(line):
    assert "NUL" in refused(line.split(" "))


@pytest.mark.parametrize("field", ["windows", "curve_windows", "episodes", "zero_shot_streams"])
def test_more_episodes_than_memory_holds_are_refused_before_the_training(
    field, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    words = ["--config.data.dir=data", f"--config.eval.{field}=1000000000"]
    stub_run.save_data(tmp_path / "data", config.load(SOURCE, words))
    sentence = refused(["train", f"--config={SOURCE}", *words, "--workdir=runs/w"])
    assert "streams of" in sentence and "GiB of memory" in sentence
    assert not (tmp_path / "runs/w/config.json").exists()


@pytest.mark.parametrize("option", ["--repeats", "--max-steps", "--sizes=horizon"])
@pytest.mark.parametrize("number", ["١", "1_0", "nan", "", "9" * 40, "-1"])
def test_a_number_of_bench_is_refused(option, number, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    refused(["bench", "imagine", f"--config={SOURCE}", f"{option}={number}"])
