"""Films and contact sheets out of pictures: labels, grids, and the bytes of GIF, MP4 and PNG.

A picture is an array, uint8 [H, W, 3].
"""

import io
import math
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from metastar.errors import UserError, did_you_mean
from metastar.tools.render.pictures import Recording

MAX_RECORDINGS = 9
MAX_WIDTH = 320  # pixels of a tile
GRID_WIDTH = 540  # pixels of a film, about: bounds its size whatever the number of recordings
GAP = 2  # pixels around each tile
MAX_STEPS_SHOWN = 100  # of a longer episode steps are left out, at the same speed
SHEET_COLUMNS = 6
GIF_COLORS, PNG_COLORS = 48, 128
POINT_SECONDS = 0.1  # per step of a point robot, which has no time of its own


def columns(num_recordings: int) -> int:
    """How many tiles of a film stand side by side."""
    return math.ceil(math.sqrt(num_recordings))


def tile_width(num_recordings: int) -> int:
    """Pixels of a tile of a film with this many recordings."""
    return min(MAX_WIDTH, GRID_WIDTH // columns(num_recordings))


def film(
    recordings: Sequence[Recording], painters: Sequence[Callable], seconds: float | None
) -> tuple[list[np.ndarray], float]:
    """Films recordings side by side, each under its title, its note, the time and the return.

    Args:
        recordings: 1 to `MAX_RECORDINGS`.
        painters: of `pictures.studio`, one for each.
        seconds: of one step; None for robots that know steps only.

    Returns:
        The frames, and how many seconds each is shown: `seconds` (or `POINT_SECONDS`) times the
        steps between two frames, which are 1 up to `MAX_STEPS_SHOWN` steps.
    """
    num_steps = max(len(recording.reward) for recording in recordings)
    every = max(1, math.ceil(num_steps / MAX_STEPS_SHOWN))
    frames = []
    for t in range(0, num_steps + 1, every):
        tiles = [
            labelled(paint(t), [recording.title, recording.note, caption(recording, t, seconds)])
            for recording, paint in zip(recordings, painters)
        ]
        width = columns(len(tiles))
        frames.append(grid([tiles[i : i + width] for i in range(0, len(tiles), width)]))
    return frames, every * (seconds or POINT_SECONDS)


def contact_sheet(
    recordings: Sequence[Recording], painters: Sequence[Callable], seconds: float | None
) -> np.ndarray:
    """One picture: a row for each recording, `SHEET_COLUMNS` moments from its start to its end."""
    rows = []
    for recording, paint in zip(recordings, painters):
        moments = np.linspace(0, len(recording.reward), SHEET_COLUMNS).round().astype(int).tolist()
        tiles = [labelled(paint(t), [caption(recording, t, seconds)]) for t in moments]
        row = grid([tiles])
        rows.append([labelled(row, [f"{recording.title}; {recording.note}"], tiles[0].shape[1])])
    return grid(rows)


def caption(recording: Recording, t: int, seconds: float | None) -> str:
    """Time and undiscounted return after t steps of a recording, or after its last one."""
    t = min(t, len(recording.reward))
    clock = f"step {t}" if seconds is None else f"{t * seconds:.1f} s"
    return f"{clock}, return {recording.reward[:t].sum():z.1f}"


def labelled(picture: np.ndarray, lines: Sequence[str], width: int | None = None) -> np.ndarray:
    """Puts lines of text on a white strip above a picture, sized for one `width` pixels wide."""
    size = max(8, (width or picture.shape[1]) // 21)
    file = Path(matplotlib.get_data_path(), "fonts/ttf/DejaVuSans.ttf")
    font = ImageFont.truetype(str(file), size)  # Pillow 10.0 takes no Path
    height = round(1.3 * size)
    strip = Image.new("RGB", (picture.shape[1], height * len(lines) + 4), "white")
    for i, line in enumerate(lines):
        ImageDraw.Draw(strip).text((4, 2 + i * height), line, fill="black", font=font)
    return np.concatenate([np.asarray(strip), picture])


def grid(rows: Sequence[Sequence[np.ndarray]]) -> np.ndarray:
    """Joins pictures of one size, white between them and where the last row has none."""
    blank = np.full_like(rows[0][0], 255)
    full = [[*row, *[blank] * (len(rows[0]) - len(row))] for row in rows]
    edge = ((GAP, GAP), (GAP, GAP), (0, 0))
    framed = [[np.pad(tile, edge, constant_values=255) for tile in row] for row in full]
    return np.concatenate([np.concatenate(row, 1) for row in framed])


def encoder(name: str) -> Callable:
    """Returns `(frames, seconds per frame) -> bytes` for "gif" or "mp4".

    Raises:
        UserError: the name is another, or there is no ffmpeg, which MP4 needs.
    """
    encoders = {"gif": gif, "mp4": mp4}
    if name not in encoders:
        raise UserError(f"unknown film format {name!r}{did_you_mean(name, encoders)}")
    if name == "mp4" and not shutil.which("ffmpeg"):
        raise UserError(
            "MP4 needs the program ffmpeg, which is not installed; install it, or use --format=gif"
        )
    return encoders[name]


def gif(frames: Sequence[np.ndarray], seconds: float) -> bytes:
    """Encodes a GIF that repeats; all frames share one palette, so that nothing flickers."""
    spread = np.linspace(0, len(frames) - 1, min(8, len(frames))).astype(int)
    palette = Image.fromarray(np.concatenate([frames[i] for i in spread])).quantize(GIF_COLORS)
    first, *rest = (
        Image.fromarray(frame).quantize(palette=palette, dither=Image.Dither.NONE)
        for frame in frames
    )
    buffer = io.BytesIO()
    options = {"duration": round(1000 * seconds), "loop": 0}
    first.save(buffer, "GIF", save_all=True, append_images=rest, **options)
    return buffer.getvalue()


def mp4(frames: Sequence[np.ndarray], seconds: float) -> bytes:
    """Encodes an MP4 with ffmpeg; raises `UserError` with its last words if it fails."""
    height, width = (size // 2 * 2 for size in frames[0].shape[:2])  # 4:2:0 wants even numbers
    raw = b"".join(np.ascontiguousarray(frame[:height, :width]).tobytes() for frame in frames)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "film.mp4")
        form = f"-f rawvideo -pix_fmt rgb24 -video_size {width}x{height} -framerate {1 / seconds}"
        command = ["ffmpeg", "-loglevel", "error", *form.split(), "-i", "-", "-pix_fmt", "yuv420p"]
        done = subprocess.run([*command, str(file)], input=raw, capture_output=True)
        if done.returncode:
            words = done.stderr.decode(errors="replace").strip().splitlines()
            raise UserError(
                f"ffmpeg failed ({words[-1] if words else done.returncode}); use --format=gif"
            )
        return file.read_bytes()


def png(picture: np.ndarray) -> bytes:
    """Encodes a picture as a PNG of at most `PNG_COLORS` colours."""
    buffer = io.BytesIO()
    Image.fromarray(picture).quantize(PNG_COLORS).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()
