"""MetaSTAR on Point-Robot-Sparse.

Command:
    metastar train --config=configs/metastar/point_robot_sparse.py:quick \\
        --workdir=runs/point_robot_sparse_quick
Presets: "" (default), quick, debug (seconds, for tests), paper (the reference's values).
Time and expected result: docs/results.md lists what was measured.
"""

from metastar.config import presets


def get_config(preset: str = ""):
    return presets.make("metastar", "point_robot_sparse", preset)
