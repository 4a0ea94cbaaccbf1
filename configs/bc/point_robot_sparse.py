"""Context-conditioned behaviour cloning on Point-Robot-Sparse: what imitation alone gets.

Command:
    metastar train --config=configs/bc/point_robot_sparse.py:quick \\
        --workdir=runs/bc_point_robot_sparse_quick
Presets: "" (default), quick, debug (seconds, for tests), paper (the reference's values).
Time and expected result: docs/results.md lists what was measured.
"""

from metastar.config import presets


def get_config(preset: str = ""):
    return presets.make("bc", "point_robot_sparse", preset)
