"""Checkpoints of runs of formats 1 and 2, whose state was not yet divided into learners.

They are read so that their agents can act. Such a run cannot be trained further, so the states of
its optimisers are not restored and become zeros.
"""

import re
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp

LAST_FORMAT = 2  # of runs that have such checkpoints

# Beginnings of paths of leaves, as now -> as then.
_PARAMS = (
    (r"\['(?:agent|clone)'\]", ""),
    (r"\['opponents'\]", "['world_model']['task_losses']"),
    (r"\['world_model'\]", "['world_model']"),
)
_PATHS = (
    *((rf"\.state{part}\.params", rf".params{old}") for part, old in _PARAMS),
    *((rf"\.best\['params'\]{part}", rf".extra['best']['params']{old}") for part, old in _PARAMS),
    (r"\.state\['(?:agent|clone)'\]\.target", ".target"),
    (r"\.state\['(?:agent|clone)'\]\.extra", ".extra"),
    (r"\.best\['loss'\]", ".extra['best']['loss']"),
    (r"\.bad_step", ".extra['bad_step']"),
)


def old_path(path: str) -> str | None:
    """Where the leaf `path` of a `LoopState` was; None for what is not restored.

    >>> old_path(".state['agent'].params['actor']['mean']['bias']")
    ".params['actor']['mean']['bias']"
    >>> old_path(".state['world_model'].opt_state.count") is None
    True
    """
    for now, then in _PATHS:
        if found := re.match(now, path):
            return then + path[found.end() :]
    return None


def expected(abstract: Any) -> dict[str, Any]:
    """The leaves of `chunk.abstract(method)` that such a checkpoint has, by their old paths."""
    leaves = jax.tree_util.tree_leaves_with_path(abstract)
    named = {old_path(jax.tree_util.keystr(path)): leaf for path, leaf in leaves}
    return {path: leaf for path, leaf in named.items() if path}


def read(path: Path) -> dict[str, Any]:
    """All arrays of `path`, the folder of orbax's, but the optimisers', by their old paths."""
    with ocp.StandardCheckpointer() as checkpointer:
        tree = checkpointer.restore(path)
    leaves = {}
    for field in ("params", "target", "extra"):
        for below, leaf in jax.tree_util.tree_leaves_with_path(tree.get(field, {})):
            leaves[f".{field}{jax.tree_util.keystr(below)}"] = leaf
    return leaves


def assemble(abstract: Any, leaves: dict[str, Any]) -> Any:
    """The state whose shapes are `abstract`, out of what `read` gives."""

    def leaf_of(path, leaf):
        old = old_path(jax.tree_util.keystr(path))
        return jnp.zeros(leaf.shape, leaf.dtype) if old is None else jnp.asarray(leaves[old])

    return jax.tree_util.tree_map_with_path(leaf_of, abstract)
