"""Figures of an audit: every part that is there is drawn, and no axes stand empty."""

import itertools

import numpy as np
import pytest

from metastar.tools.audit import figures
from metastar.tools.audit.codes import Codes

TASKS, WINDOWS = 4, 6
SIDE = np.array(["train", "train", "test", "test"])
MISSING = {"not_computed": "too few tasks"}
PROBE = {"accuracy": 0.5, "upper95": 0.6, "shuffled": 0.3}
EXPLAINED = {"r2": 0.4, "ci95": [0.3, 0.5]}


def make_codes(sources=3, dim=5):
    rng = np.random.default_rng(0)
    shape = (TASKS, sources, WINDOWS)
    keep = np.ones(shape, bool)
    code = rng.normal(size=(*shape, dim))
    return Codes(code, keep, keep, np.ones(shape[:2], bool), {})


def block(parts):
    """What is measured on a split: energy distances, the task probe and probes of the source."""
    value = [[0.1, 0.5], [0.5, None]]
    energy = {"sources": ["a", "b"], "relative": value, "share_differing": value}
    task = {"sources": ["a", "b"], "rmse": value, "linear": EXPLAINED}
    found = {
        "energy": energy,
        "task": task,
        "identity": {"chance": 0.5, "linear": PROBE, "mlp": PROBE},
        "statistics": {"mean action": {"within_task": EXPLAINED}},
    }
    return {"all": {name: found[name] if name in parts else MISSING for name in found}}


def visible(figure):
    return [axis for axis in figure.axes if axis.axison]


def drawn_on(axis):
    return axis.images or axis.patches or axis.lines


@pytest.mark.parametrize(
    "parts", list(itertools.product([(), ("energy",), ("task",), ("energy", "task")], repeat=2))
)
def test_each_matrix_has_axes_and_no_others_are_seen(parts):
    splits = {split: block(names) for split, names in zip(("train", "test"), parts)}
    figure = figures.matrices(splits)
    if not any(parts):
        assert figure is None
        return
    assert all(drawn_on(axis) for axis in visible(figure))
    titles = {axis.get_title(): axis for axis in visible(figure)}
    kinds = {"energy": "relative energy distance", "task": "error of the task probe"}
    wanted = {f"{split} tasks: {kinds[k]}" for split, names in zip(splits, parts) for k in names}
    assert set(titles) == wanted and len(titles) == len(visible(figure))
    for title, axis in titles.items():  # a row of a split, a column of a kind
        place = axis.get_subplotspec()
        others = [a.get_subplotspec() for t, a in titles.items() if t[:4] == title[:4]]
        assert {other.rowspan for other in others} == {place.rowspan}
        others = [a.get_subplotspec() for t, a in titles.items() if t[-6:] == title[-6:]]
        assert {other.colspan for other in others} == {place.colspan}


@pytest.mark.parametrize("parts", [("identity",), ("statistics",), ("identity", "statistics")])
def test_probes_have_axes_only_for_what_there_is(parts):
    figure = figures.probes({"train": block(parts), "test": block(())})
    assert len(visible(figure)) == len(parts)
    for axis in visible(figure):
        assert axis.patches and len(axis.get_yticks()) == len(axis.patches)


@pytest.mark.parametrize("dim", [1, 2, 3, 16])
def test_the_axes_of_codes_tell_the_share_of_the_variance_that_they_show(dim):
    codes = make_codes(dim=dim)
    figure = figures.within_task(codes, SIDE, ["a", "b", "c"])
    left, right = visible(figure)
    x = codes.code - codes.code.mean((1, 2), keepdims=True)
    variance = np.linalg.eigvalsh(np.atleast_2d(np.cov(x.reshape(-1, dim).T)))[::-1]
    shares = [*variance / variance.sum(), 0][:2]
    for axis in (left, right):
        assert f"({shares[0]:.0%} of the variance" in axis.get_xlabel()
    assert f"({shares[1]:.0%}" in left.get_ylabel()


def test_a_source_of_one_split_alone_is_in_the_legend():
    codes = make_codes()
    codes.keep[SIDE == "train", 2] = False
    figure = figures.within_task(codes, SIDE, ["a", "b", "c"])
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["a", "b", "c"]


def test_there_are_no_clouds_to_compare_of_one_source():
    assert figures.within_task(make_codes(sources=1), SIDE, ["a"]) is None


@pytest.mark.parametrize("oracle", [None, -10.0])
def test_the_cost_shows_every_source(oracle):
    by_source = {name: {"return": -20.0 - i} for i, name in enumerate("abc")}
    figure = figures.cost({"by_source": by_source, "random": -50.0, "oracle": oracle})
    (axis,) = visible(figure)
    assert [x.get_text() for x in axis.get_yticklabels()] == [f"{n} context" for n in "abc"]
    assert len(axis.lines) == 2 + (oracle is not None)
