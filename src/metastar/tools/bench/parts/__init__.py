"""Parts of systems to be timed alone, bound from their public functions: one file a method.

A file has `parts(cfg, spec)`, updates of the last phase by name, and may have
`plain(cfg, spec)`, the method in the form that its speed is measured against.
"""
