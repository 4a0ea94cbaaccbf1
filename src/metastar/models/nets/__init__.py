"""Linen modules (floor F1). Parameters are plain dicts, the `"params"` collection alone."""
