"""How an agent comes by its context: `<name>.py` with `DEFAULTS` and `make(cfg, method, spec)`."""
