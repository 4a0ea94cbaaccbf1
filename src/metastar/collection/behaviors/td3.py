"""TD3 that learns online: `agents/td3.py`, by default with small networks."""

from ml_collections import ConfigDict

from metastar.agents import td3
from metastar.collection import online
from metastar.collection.behavior import Behavior
from metastar.types import Env

DEFAULTS = online.settings(td3, hidden=(32, 32)) | online.BATCH_SIZE
SECTIONS = {"collect": (online,)}


def make(cfg: ConfigDict, env: Env) -> Behavior:
    """Builds the behaviour of `online.make` with TD3 learners."""
    return online.learner("td3", td3, cfg, env)
