"""Encoders of a context: one file each, found by its name."""
