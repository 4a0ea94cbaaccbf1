"""Agents, which act and learn values, for methods and behaviours: one file each."""
