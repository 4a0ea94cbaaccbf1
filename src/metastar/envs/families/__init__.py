"""Task families, one file each, found by its name; `(xp, ...)` functions run on every back end."""
