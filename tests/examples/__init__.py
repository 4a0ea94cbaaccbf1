"""Worked examples of `docs/extending.md`: one file each, run by `tests/test_docs.py`."""
