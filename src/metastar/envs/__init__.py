"""Simulators: task families, the engines that run them, and rollouts of a policy."""
