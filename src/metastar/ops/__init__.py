"""Mathematics on arrays: no parameters, no networks, no config."""
