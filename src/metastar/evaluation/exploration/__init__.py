"""Strategies of exploration: `<name>.py` with `NEEDS_MODEL` and `make(method, spec)`."""
