"""Terms that shape the task code: one file each, found by its name."""
