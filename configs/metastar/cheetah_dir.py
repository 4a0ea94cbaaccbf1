"""MetaSTAR on Cheetah-Dir.

Command:
    metastar train --config=configs/metastar/cheetah_dir.py:quick \\
        --workdir=runs/cheetah_dir_quick
Presets: "" (default), quick, debug (seconds, for tests), paper (the reference's values).
Time and expected result: docs/results.md lists what was measured.
"""

from metastar.config import presets


def get_config(preset: str = ""):
    return presets.make("metastar", "cheetah_dir", preset)
