"""Files that are whole or absent, whenever the process dies."""

import os
from pathlib import Path

from metastar.errors import UserError


def write_atomic(path: Path, content: str | bytes) -> None:
    """Writes a file under a temporary name, forces it to disk, then renames it into place."""
    path = Path(path)
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_bytes(content.encode() if isinstance(content, str) else content)
    sync(temporary)
    temporary.replace(path)
    sync(path.parent)


def sync(path: Path) -> None:
    """Forces one file, or the entries of one folder, to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_tree(folder: Path) -> None:
    """Forces a folder and everything below it to disk."""
    for root, _, names in os.walk(folder):
        for name in names:
            sync(Path(root, name))
        sync(Path(root))


def save(path: Path, content: str | bytes) -> None:
    """Writes one file, whole or not at all; raises `UserError` if the folder is read-only."""
    try:
        write_atomic(path, content)
    except OSError as error:
        raise UserError(
            f"cannot write {str(path)!r} ({error.strerror}); make its folder writable"
        ) from None
