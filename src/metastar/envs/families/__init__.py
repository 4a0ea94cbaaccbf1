"""Task families: one file each, found by its name; functions of `(xp, ...)` run on any backend."""
