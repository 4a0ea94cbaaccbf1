"""MetaSTAR on Cheetah-Vel.

Command:
    metastar train --config=configs/metastar/cheetah_vel.py:quick \\
        --workdir=runs/cheetah_vel_quick
Presets: "" (default), quick, debug (seconds, for tests), paper (the reference's values).
Time and expected result: docs/results.md lists what was measured.
"""

from metastar.config import presets


def get_config(preset: str = ""):
    return presets.make("metastar", "cheetah_vel", preset)
