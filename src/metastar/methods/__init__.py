"""Offline meta-RL systems: one file each, found by its name."""
