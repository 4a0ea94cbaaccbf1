"""Files that are whole or absent, whenever the process dies; JSON with a checksum."""

import hashlib
import json
import os
from pathlib import Path

from metastar.errors import UserError

_SEAL = "sha256"  # key of the checksum of everything else


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


def write_json(path: Path, content: dict) -> None:
    """Writes a JSON object with the key "sha256", its checksum; errors are those of `save`."""
    save(path, sealed(content))


def sealed(content: dict) -> str:
    """The text that `write_json` writes."""
    content = json.loads(json.dumps(content, allow_nan=False))  # as a reader will find it
    return json.dumps({**content, _SEAL: _digest(content)}, indent=2, allow_nan=False) + "\n"


def read_json(path: str | Path, remedy: str, sealed: bool = True) -> dict:
    """Returns the object that `write_json` wrote, once its checksum is found to be right.

    Args:
        path: the file.
        remedy: what the user is told to do if it cannot be had.
        sealed: whether the checksum must be there; one that is there must be right.

    Raises:
        UserError: the file is missing, unreadable, no JSON object, edited, or lacks the checksum.
    """
    try:
        content = json.loads(Path(path).read_bytes())
    except FileNotFoundError:
        raise UserError(f"{path} is missing; {remedy}") from None
    except OSError as error:
        raise UserError(f"cannot read {path} ({error.strerror}); {remedy}") from None
    except ValueError:
        raise UserError(f"{path} is damaged: it is not JSON; {remedy}") from None
    if not isinstance(content, dict):
        raise UserError(f"{path} is damaged: it holds no JSON object; {remedy}")
    if _SEAL not in content:
        if sealed:
            raise UserError(f"{path} is damaged: it has no checksum (sha256); {remedy}")
        return content
    if content.pop(_SEAL) != _digest(content):
        raise UserError(f"{path} is damaged: its content does not match its SHA-256; {remedy}")
    return content


def _digest(content: dict) -> str:
    """SHA-256 of an object, independent of layout and order."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
