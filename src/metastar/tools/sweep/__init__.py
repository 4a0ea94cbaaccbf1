"""`metastar sweep`: a grid of runs, each a process of its own, from one file."""
