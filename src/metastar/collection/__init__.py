"""Data sets: behaviour policies learn online, and what they did is stored."""
