"""The sequence cores of the world model, by their name in a config."""

from metastar.nets.recurrent import Memoryless, Recurrent
from metastar.nets.transformer import Transformer

CORES = {"transformer": Transformer, "gru": Recurrent, "mlp": Memoryless}
