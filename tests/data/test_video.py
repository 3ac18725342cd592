"""Frames of videos, and files that aren't videos."""

import importlib.util
import sys

import numpy as np
import pytest
from PIL import Image

from sepconc.data.video import video_frames
from sepconc.errors import BadInput, MissingPackage

needs_library = pytest.mark.skipif(
    importlib.util.find_spec("av") is None, reason='videos need PyAV: pip install "sepconc[video]"'
)


def test_a_lossless_video_gives_the_frames_that_were_written(make_video, tmp_path):
    frames = np.random.default_rng(0).integers(0, 256, (7, 24, 32, 3), dtype=np.uint8)
    decoded = list(video_frames(make_video(tmp_path / "clip.mkv", frames)))
    assert all(isinstance(frame, Image.Image) and frame.mode == "RGB" for frame in decoded)
    np.testing.assert_array_equal(np.stack([np.asarray(frame) for frame in decoded]), frames)


def test_the_frames_of_an_mp4_come_in_order(make_video, tmp_path):
    levels = np.arange(31) * 8
    frames = np.broadcast_to(levels.astype(np.uint8)[:, None, None, None], (31, 32, 48, 3))
    decoded = [np.asarray(frame) for frame in video_frames(make_video(tmp_path / "clip.mp4", frames))]
    assert [frame.shape for frame in decoded] == [(32, 48, 3)] * 31
    np.testing.assert_allclose([frame.mean() for frame in decoded], levels, atol=4)  # lossy


@needs_library
@pytest.mark.parametrize("content", [b"", b"not a video", b"\0" * 5000])
def test_what_is_not_a_video_is_named(content, tmp_path):
    path = tmp_path / "clip.mp4"
    path.write_bytes(content)
    with pytest.raises(BadInput, match=r"clip\.mp4 can't be read as a video") as caught:
        list(video_frames(path))
    assert "\n" not in str(caught.value)


@needs_library
def test_a_missing_video_is_named(tmp_path):
    with pytest.raises(BadInput, match=r"nothing\.mp4 can't be read as a video"):
        next(video_frames(tmp_path / "nothing.mp4"))


@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_a_video_that_was_cut_short_is_refused(share, make_video, tmp_path):
    frames = np.random.default_rng(0).integers(0, 256, (20, 32, 48, 3), dtype=np.uint8)
    path = make_video(tmp_path / "clip.mp4", frames, {"movflags": "faststart"})  # the table comes first
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(BadInput, match="can't be read as a video"):
        list(video_frames(path))


def test_without_the_library_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(MissingPackage, match=r"PyAV.*pip install \"sepconc\[video\]\"") as caught:
        next(video_frames(tmp_path / "clip.mp4"))
    assert "\n" not in str(caught.value)
