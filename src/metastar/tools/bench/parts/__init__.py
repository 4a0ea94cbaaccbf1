"""Parts of systems to be timed alone, built from their public functions: one file per method.

A file has `parts(cfg, spec)`, updates of the last phase by name, and may have
`plain(cfg, spec)`, the method in the form that its speed is measured against.
"""
