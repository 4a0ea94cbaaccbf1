"""Losses as pure functions of parameters, batch and noise (floor F4)."""
