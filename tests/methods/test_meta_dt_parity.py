"""Meta-DT against numbers recorded from its authors' code: parts, gradients, updates, acting."""

import jax
import pytest

from golden_npz import PRECISIONS, file_of, traced
from meta_dt_record import HistoryModelRecord, PromptsRecord, TransformerRecord

pytestmark = pytest.mark.parity("meta_dt")
RECORDS = {
    "history_model": HistoryModelRecord,
    "prompts": PromptsRecord,
    "transformer": TransformerRecord,
}


@pytest.fixture(scope="module", params=PRECISIONS)
def recorded(request):
    """Makes the record of a name."""
    with jax.enable_x64(request.param == 64):
        path = file_of("meta_dt", request.config)
        yield lambda name: RECORDS[name](name, request.param, path)


@pytest.mark.parametrize("name", RECORDS)
def test_every_recorded_number(recorded, name):
    record = recorded(name)
    assert not record.misses(traced(record.results, record.start()))
