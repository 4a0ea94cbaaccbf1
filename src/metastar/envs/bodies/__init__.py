"""Robots: a model file, how an episode starts and what is observed; families add tasks."""
