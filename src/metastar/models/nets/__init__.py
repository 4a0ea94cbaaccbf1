"""Linen modules. Parameters are plain dicts, the `"params"` collection alone."""
