"""Soft actor-critic that learns online: `agents/sac.py`, by default with small networks."""

from ml_collections import ConfigDict

from metastar.agents import sac
from metastar.collection import online
from metastar.collection.behavior import Behavior
from metastar.types import Env

DEFAULTS = online.settings(sac, hidden=(32, 32)) | online.BATCH_SIZE
SECTIONS = {"collect": (online,)}


def make(cfg: ConfigDict, env: Env) -> Behavior:
    """Builds the behaviour of `online.make` with soft actor-critic learners."""
    return online.learner("sac", sac, cfg, env)
