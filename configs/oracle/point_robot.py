"""The oracle, which is told the true task, on Point-Robot: an upper bound.

Command:
    metastar train --config=configs/oracle/point_robot.py:quick \\
        --workdir=runs/oracle_point_robot_quick
Presets: "" (default), quick, debug (seconds, for tests), paper (the reference's values).
Time and expected result: docs/results.md lists what was measured.
"""

from metastar.config import presets


def get_config(preset: str = ""):
    return presets.make("oracle", "point_robot", preset)
