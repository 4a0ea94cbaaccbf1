"""Mathematics on arrays: no parameters, no networks, no config (floor F1)."""
