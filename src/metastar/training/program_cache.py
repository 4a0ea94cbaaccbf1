"""Where compiled programs are kept from one command to the next (imports no JAX)."""

import os
from collections.abc import MutableMapping
from pathlib import Path


def keep(environ: MutableMapping[str, str] = os.environ) -> None:
    """Asks JAX to keep programs that took a second or more to compile; call before importing it.

    They lie in `metastar/jax` of the user's cache folder, `$XDG_CACHE_HOME` or `~/.cache`, unless
    `JAX_COMPILATION_CACHE_DIR` says otherwise; `JAX_ENABLE_COMPILATION_CACHE=false` switches it
    off. JAX finds a program by a hash of its code, its versions, its options and the device. An
    entry that was cut off by a kill fails to decompress: JAX warns and compiles again. The folder
    may be deleted at any time.
    """
    home = environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(Path(home) / "metastar" / "jax"))


def keep_none(environ: MutableMapping[str, str] = os.environ) -> None:
    """Asks JAX neither to keep nor to look up programs, for a command that times compilation."""
    environ["JAX_ENABLE_COMPILATION_CACHE"] = "false"
