"""What the files of recorded numbers hold, and that all of it is compared somewhere."""

import re
from pathlib import Path

import numpy as np
import pytest

import golden_npz
from golden_npz import COMPARED, GOLDEN, KINDS, LAYOUTS

layouts = [pytest.param(name, marks=pytest.mark.parity(name)) for name in LAYOUTS]


@pytest.mark.parametrize("layout", layouts)
def test_every_array_is_compared_by_one_record_or_left_out_for_a_reason(layout, pytestconfig):
    with np.load(golden_npz.file_of(layout, pytestconfig)) as file:
        assert not golden_npz.unclear(file.files, layout)
        assert golden_npz.unclear([*file.files, "expected64/nothing/of/this"], layout)


def test_every_record_is_read_by_a_test_of_its_name():
    source = {path: path.read_text() for path in Path(__file__).parents[1].rglob("*.py")}
    readers = [s for path, s in source.items() if re.search("parity|record|scores", path.stem)]
    for layout, parts in COMPARED.items():
        own = "".join(text for text in readers if f'"{layout}"' in text)
        missing = {name for name in parts if f'"{name}"' not in own}
        assert (missing <= set(KINDS) and "= KINDS" in own) or not missing


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_file_is_told_apart_by_its_keys(layout):
    assert golden_npz.layout_of(GOLDEN / LAYOUTS[layout].file) == layout


def test_a_file_of_no_known_layout_is_one_sentence(tmp_path):
    np.savez(tmp_path / "other.npz", **{"cfg/seed": 0})
    (tmp_path / "text.npz").write_text("no archive")
    np.save(tmp_path / "array.npy", np.zeros(2))
    cases = {"other.npz": "none of the known", "text.npz": "be read", "array.npy": "be read"}
    for name, sentence in {**cases, "missing.npz": "be read"}.items():
        with pytest.raises(ValueError, match=sentence) as caught:
            golden_npz.layout_of(tmp_path / name)
        assert name in str(caught.value) and "\n" not in str(caught.value)
