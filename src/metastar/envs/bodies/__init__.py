"""Robots: a model file, how an episode starts and what is seen; families add tasks to them."""
