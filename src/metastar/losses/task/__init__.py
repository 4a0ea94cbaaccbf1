"""Terms of the task objective, which train the task code: one file each, found by its name."""
