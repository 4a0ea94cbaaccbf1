import pytest

from metastar import presets
from metastar.errors import UserError
from metastar.methods import metastar
from metastar.types import DataSpec

SPEC = DataSpec("point_robot", 2, 2, 2, 4, 20, (0.0, 0.0), (1.0, 1.0), 1.0, 2, 3)


def test_positives_of_another_behavior_need_two_behaviors():
    cfg = presets.make("metastar", "point_robot", "debug")
    metastar.make(cfg, SPEC._replace(num_behaviors=2))
    with pytest.raises(UserError, match="'other_behavior' needs windows of two behaviours"):
        metastar.make(cfg, SPEC)  # names do not count, only episodes in use
    cfg.sampler.positive = "any"
    metastar.make(cfg, SPEC)
