"""Behaviours: the policies that act when a data set is made, one file each, found by its name.

A file has `make(cfg, env) -> Behavior` (`collection/behavior.py`). The learners share the loop of
`online.py`.
"""
