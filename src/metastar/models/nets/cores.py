"""The sequence cores of the world model, by their name in a config."""

from metastar.models.nets.recurrent import Memoryless, Recurrent
from metastar.models.nets.transformer import Transformer

CORES = {"transformer": Transformer, "gru": Recurrent, "mlp": Memoryless}
