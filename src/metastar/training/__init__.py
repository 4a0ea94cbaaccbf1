"""The loop, what it runs, and what it leaves in a workdir."""
