"""The frames of a video file, decoded with PyAV, which is imported here only."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from PIL import Image

from sepconc.errors import BadInput, MissingPackage

VIDEO_SUFFIXES = (".mp4", ".avi", ".mkv", ".mov", ".webm", ".m4v")


def video_frames(path: Path) -> Iterator[Image.Image]:
    """Yield the frames of a video in RGB at its own size, in order; one of them is in memory at a time.

    Raises
    ------
    BadInput
        The file is missing, isn't a video, or ends before the frames that it announces.
    MissingPackage
        PyAV isn't installed.
    """
    av = _library()
    count = 0
    try:
        with av.open(str(path)) as container:
            stream = _stream(container)
            for frame in container.decode(stream):
                count += 1
                yield frame.to_image()
            announced = stream.frames  # 0 where the format doesn't say
    except (av.error.FFmpegError, OSError, ValueError) as error:
        raise _unreadable(path, " ".join(str(error).split())) from error
    if count < announced or count == 0:
        reason = f"it has {count} frames of the {announced} that it announces" if count else "it has no frames"
        raise _unreadable(path, reason)


def _library() -> Any:
    try:
        import av
    except ImportError as error:
        message = 'Videos are decoded by PyAV, which isn\'t installed; install it with: pip install "sepconc[video]"'
        raise MissingPackage(message) from error
    return av


def _stream(container: Any) -> Any:
    """The first stream of pictures, decoded by one thread: many clips are open at a time."""
    if not container.streams.video:
        message = "it has no pictures"
        raise ValueError(message)
    stream = container.streams.video[0]
    with contextlib.suppress(AttributeError):
        stream.codec_context.thread_count = 1
    return stream


def _unreadable(path: Path, reason: str) -> BadInput:
    return BadInput(f"{path} can't be read as a video ({reason}). Replace the file, or remove it from the folder.")
