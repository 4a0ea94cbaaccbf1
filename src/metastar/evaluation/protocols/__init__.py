"""How an agent gets its context: `<name>.py` with `DEFAULTS` and `make(cfg, method, spec)`."""
