"""Sets of clips: several frames of one picture each, in an order, as the perturbed test sets have them::

    ImageSet
    └── ClipSet
        ├── ArrayClips   one array (n, frames, H, W, 3), in memory or mapped from a file
        └── FolderClips  a video file, or a folder of numbered frames, per clip

A clip is never in memory as a whole: its frames are decoded one after the other.
"""

from __future__ import annotations

import contextlib
import math
import os
import re
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sepconc.data import decode, formats
from sepconc.data.images import ImageSet
from sepconc.data.video import VIDEO_SUFFIXES, video_frames
from sepconc.errors import BadInput

_HASH_BYTES = 1 << 24


class ClipSet(ImageSet):
    """Clips with one label each, perhaps of different lengths; they are measured, not trained on."""

    has_clips = True

    def batch(self, indices: Any) -> torch.Tensor:
        """Refuse: a clip isn't one image."""
        message = (
            f"{self.name} holds clips, not single images; they are measured with "
            'eval_mode="perturbations" (-em perturbations).'
        )
        raise BadInput(message)

    def clip_name(self, i: int) -> str:
        """What clip ``i`` is called in messages."""
        raise NotImplementedError

    def frames(self, i: int) -> Generator[Any]:
        """Yield the frames of clip ``i`` in order: PIL images, or arrays (H, W, 3).

        Raises
        ------
        BadInput
            A frame can't be read.
        """
        raise NotImplementedError


class ArrayClips(ClipSet):
    """Clips in one array; the :meth:`~ImageSet.checksum` covers its shape and numbers, and the labels.

    Parameters
    ----------
    clips : array (n, frames, H, W, 3), uint8
        Not copied; may be mapped from a file.
    labels : array (n,) or None
    **
        The other attributes of :class:`ImageSet`, by keyword.

    Raises
    ------
    BadInput
        Another shape or type.
    """

    def __init__(self, clips: np.ndarray, labels: Any = None, **about: Any) -> None:
        if clips.ndim != 5 or clips.shape[-1] not in (1, 3) or clips.dtype != np.uint8 or 0 in clips.shape[1:]:
            message = f"clips must be an array (n, frames, H, W, 3) of uint8; got {clips.shape} of {clips.dtype}."
            raise BadInput(message)
        self.clips = clips
        self._rows = np.arange(len(clips))
        super().__init__(labels, **about)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(C, H, W) of a frame."""
        height, width, channels = self.clips.shape[2:]
        return channels, height, width

    def __len__(self) -> int:
        return len(self._rows)

    def clip_name(self, i: int) -> str:
        return f"clip {self._rows[i]} of {self.name}"

    def frames(self, i: int) -> Generator[np.ndarray]:
        yield from (np.asarray(frame) for frame in self.clips[self._rows[i]])

    def _keep(self, rows: np.ndarray) -> None:
        self._rows = self._rows[rows]

    def _hash_images(self, digest: Any) -> None:
        digest.update(f"{self.clips.dtype} {(len(self), *self.clips.shape[1:])}".encode())
        step = max(1, _HASH_BYTES // math.prod(self.clips.shape[1:]))
        for start in range(0, len(self), step):
            digest.update(np.ascontiguousarray(self.clips[self._rows[start : start + step]]).data)


class FolderClips(ClipSet):
    """Clips in files: a video, or a folder of frames that are ordered by the numbers in their names.

    Their :meth:`~ImageSet.checksum` covers the names of the files relative to ``root`` with their sizes in bytes, in
    order, and the labels.

    Parameters
    ----------
    root : path
        Folder that the names start from.
    clips : sequence of str or bytes
        Names of video files and of folders, relative to ``root``.
    labels : array (n,) or None
    side : int
        Side of the frames as the set is published, pixels.
    **
        The other attributes of :class:`ImageSet`, by keyword.
    """

    identity_covers = "names and sizes of files, and labels"

    def __init__(self, root: str | Path, clips: Sequence[str | bytes], labels: Any, *, side: int, **about: Any) -> None:
        self.root, self.image_shape = Path(root), (3, side, side)
        self._clips = np.asarray([os.fsencode(name) for name in clips], dtype=np.bytes_)
        super().__init__(labels, **about)

    def __len__(self) -> int:
        return len(self._clips)

    def path(self, i: int) -> Path:
        """Video file or folder of clip ``i``."""
        return self.root / os.fsdecode(bytes(self._clips[i]))

    def clip_name(self, i: int) -> str:
        return str(self.path(i))

    def frames(self, i: int) -> Generator[Any]:
        path = self.path(i)
        if path.is_dir():
            yield from (decode.open_rgb(frame) for frame in frame_files(path))
        else:
            yield from video_frames(path)

    def _keep(self, rows: np.ndarray) -> None:
        self._clips = self._clips[rows]

    def _files(self, i: int) -> list[Path]:
        return frame_files(self.path(i)) if self.path(i).is_dir() else [self.path(i)]

    def _hash_images(self, digest: Any) -> None:
        digest.update(f"clips {len(self)}".encode())
        for i in range(len(self)):
            digest.update(b"%b\0" % bytes(self._clips[i]))
            for file in self._files(i):
                digest.update(b"%b\0%d\0" % (os.fsencode(file.name), file.stat().st_size))


def frame_files(folder: Path) -> list[Path]:
    """The frames of a clip, ordered by the numbers in their names: ``frame2`` comes before ``frame10``."""
    with os.scandir(folder) as entries:
        names = [entry.name for entry in entries if entry.name[0] != "." and _is_picture(entry.name)]
    return [folder / name for name in sorted(names, key=_by_number)]


def clip_names(folder: Path, name: str) -> list[str]:
    """Sorted names, ``name/…``, of the videos and the folders of frames in the sub-folder ``name`` of ``folder``."""
    with os.scandir(folder / name) as entries:
        found = [entry.name for entry in entries if entry.name[0] != "." and (entry.is_dir() or _is_video(entry.name))]
    return [os.path.join(name, clip) for clip in sorted(found)]


def frames_in_step(clips: ClipSet, indices: Sequence[int], workers: int = 0) -> Iterator[tuple[np.ndarray, list[Any]]]:
    """Yield the first frames of several clips, then their second ones, and so on until the longest clip ends.

    Parameters
    ----------
    clips : ClipSet
    indices : sequence of int
        Which clips.
    workers : int
        Threads that decode.

    Yields
    ------
    rows : ndarray
        Places in ``indices`` of the clips that have this frame, ascending.
    frames : list
        Their frames.
    """
    with contextlib.ExitStack() as stack, ThreadPoolExecutor(max(workers, 1)) as pool:
        opened = [stack.enter_context(contextlib.closing(clips.frames(int(i)))) for i in indices]
        rows = np.arange(len(opened))
        each = pool.map if workers > 1 else map  # decoding leaves Python's lock
        while True:
            frames = list(each(lambda row: next(opened[row], None), rows))
            rows = rows[[frame is not None for frame in frames]]
            if not len(rows):
                return
            yield rows, [frame for frame in frames if frame is not None]


def _is_picture(name: str) -> bool:
    return name.lower().endswith(formats.IMAGE_SUFFIXES)


def _is_video(name: str) -> bool:
    return name.lower().endswith(VIDEO_SUFFIXES)


def _by_number(name: str) -> list[str | int]:
    """Texts and numbers by turns."""
    return [int(part) if k % 2 else part for k, part in enumerate(re.split(r"(\d+)", name))]
