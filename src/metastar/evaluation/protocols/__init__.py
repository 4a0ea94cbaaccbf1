"""How a policy comes by its context: one file each."""
