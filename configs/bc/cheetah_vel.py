"""Context-conditioned behaviour cloning on Cheetah-Vel: what imitation alone gets.

Command:
    metastar train --config=configs/bc/cheetah_vel.py:quick \\
        --workdir=runs/bc_cheetah_vel_quick
Presets: "" (default), quick, debug (seconds, for tests), paper (the reference's values).
Time and expected result: docs/results.md lists what was measured.
"""

from metastar.config import presets


def get_config(preset: str = ""):
    return presets.make("bc", "cheetah_vel", preset)
