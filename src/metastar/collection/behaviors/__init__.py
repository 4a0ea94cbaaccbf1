"""Behaviour policies: what acted when a data set was made, one file each, found by its name.

A file has `make(cfg, env) -> types.Behavior`. The learners share the loop of `online.py`.
"""
