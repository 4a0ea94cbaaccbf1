"""Where the cells of a sweep run: one file each, found by its name (`--on`)."""
