"""Codes whose information on the source is known."""

import numpy as np
import pytest

from metastar.ops import probes
from metastar.ops.information import source_information

TASKS, SOURCES, WINDOWS, DIM = 20, 3, 64, 4


def bound(code, keep=None, cells=None):
    keep = np.ones(code.shape[:3], bool) if keep is None else keep
    cells = np.ones(code.shape[:2], bool) if cells is None else cells
    return source_information(code, keep, cells, probes.folds(len(code)))


@pytest.fixture
def noise():
    """Codes of a task and nothing else, far from each other."""
    rng = np.random.default_rng(0)
    task = 100 * rng.normal(size=(TASKS, 1, 1, DIM))
    return task + rng.normal(size=(TASKS, SOURCES, WINDOWS, DIM))


def test_codes_of_the_task_alone_tell_nothing(noise):
    assert abs(bound(noise).mean()) < 0.01


def test_a_code_that_names_the_source_tells_all(noise):
    noise[..., 0] += 50 * np.arange(SOURCES)[:, None]
    np.testing.assert_allclose(bound(noise), np.log(SOURCES), atol=1e-3)


def test_two_gaussians_tell_what_the_integral_says(noise):
    """Two sources whose means differ by one standard deviation in one dimension."""
    code = noise[:, :2]
    code[:, 1, :, 0] += 1
    x = np.linspace(-8, 9, 20_001)
    density = [np.exp(-((x - m) ** 2) / 2) / np.sqrt(2 * np.pi) for m in (0, 1)]
    mixture = sum(density) / 2
    exact = sum((d * np.log(d / mixture)).sum() for d in density) / 2 * (x[1] - x[0])
    assert bound(code).mean() == pytest.approx(exact, abs=0.04)
    assert bound(code).mean() < exact + 0.02


def test_a_source_is_told_by_its_spread_alone(noise):
    code = noise - noise.mean(2, keepdims=True)
    code[:, 1] *= 10
    assert bound(code[:, :2]).mean() > 0.5


def test_a_leak_that_changes_its_sign_by_the_task_counts(noise):
    """What a probe across tasks cannot see: the source's axis is another one in every task."""
    sign = np.where(np.arange(TASKS) % 2, 1, -1)[:, None]
    noise[:, 1, :, 0] += 20 * sign
    assert bound(noise).mean() > 0.5


def test_episodes_are_no_source(noise):
    """Halves of one cell that lie apart, as windows of other episodes do, tell no source."""
    rng = np.random.default_rng(1)
    noise[:, :, WINDOWS // 2 :] += 3 * rng.normal(size=(TASKS, SOURCES, 1, DIM))
    assert abs(bound(noise).mean()) < 0.05


def test_a_few_windows_unlike_all_others_do_not_undo_the_bound():
    """Three strays of a narrow source in one task, as windows without a reward are."""
    rng = np.random.default_rng(0)
    task = rng.normal(size=(10, 1, 1, 16))
    spread = np.array([1.0, 0.3, 0.01])[:, None, None]
    code = task + spread * rng.normal(size=(10, SOURCES, WINDOWS, 16))
    code[5, 2, [7, 8, 60]] += rng.normal(size=(3, 16))
    assert bound(code).mean() > np.log(SOURCES) - 0.05


def test_absent_cells_and_windows_do_not_count(noise):
    noise[..., 0] += 50 * np.arange(SOURCES)[:, None]
    cells = np.ones(noise.shape[:2], bool)
    cells[: TASKS // 2, 2] = False
    keep = np.ones(noise.shape[:3], bool)
    keep[:, :, ::4] = False
    expected = np.log(np.where(np.arange(TASKS) < TASKS // 2, 2, 3))
    spoilt = noise.copy()
    spoilt[: TASKS // 2, 2], spoilt[:, :, ::4] = 1e3, -1e3
    np.testing.assert_allclose(bound(spoilt, keep, cells), expected, atol=1e-3)


def test_one_code_for_all_tells_nothing():
    np.testing.assert_allclose(bound(np.ones((6, 2, 8, 3))), 0, atol=1e-9)
