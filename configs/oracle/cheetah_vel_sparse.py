"""The oracle, which is told the true task, on Cheetah-Vel-Sparse: an upper bound.

Command:
    metastar train --config=configs/oracle/cheetah_vel_sparse.py:quick \\
        --workdir=runs/oracle_cheetah_vel_sparse_quick
Presets: "" (default), quick, debug (seconds, for tests), paper (the reference's values).
Time and expected result: docs/results.md lists what was measured.
"""

from metastar.config import presets


def get_config(preset: str = ""):
    return presets.make("oracle", "cheetah_vel_sparse", preset)
