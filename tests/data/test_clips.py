"""Sets of clips: arrays, folders of numbered frames, videos, and several of them at a time."""

import numpy as np
import pytest
from PIL import Image

from sepconc.data.clips import ArrayClips, FolderClips, clip_names, frames_in_step
from sepconc.errors import BadInput


def random_clips(count=5, frames=4, side=8, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, frames, side, side, 3), dtype=np.uint8)


def write_frames(folder, frames, name="{}.png"):
    folder.mkdir(parents=True)
    for number, frame in enumerate(frames):
        Image.fromarray(frame).save(folder / name.format(number))


@pytest.fixture
def folder_clips(tmp_path):
    """Three clips of 12, 1 and 3 frames in folders, and their frames."""
    frames = [random_clips(1, count)[0] + np.uint8(count) for count in (12, 1, 3)]
    for number, clip in enumerate(frames):
        write_frames(tmp_path / "cat" / f"clip{number}", clip)
    return FolderClips(tmp_path, clip_names(tmp_path, "cat"), [0, 1, 2], side=8, name="some"), frames


def stacked(frames):
    return np.stack([np.asarray(frame) for frame in frames])


def test_arrays():
    content = random_clips()
    clips = ArrayClips(content, np.arange(5), name="some")
    assert (len(clips), clips.image_shape, clips.has_clips) == (5, (3, 8, 8), True)
    np.testing.assert_array_equal(stacked(clips.frames(3)), content[3])
    assert clips.clip_name(3) == "clip 3 of some"


def test_a_subset_keeps_labels_and_names_of_the_whole():
    content = random_clips()
    clips = ArrayClips(content, np.arange(5), name="some").subset([4, 1])
    assert (len(clips), clips.labels.tolist(), clips.is_part) == (2, [4, 1], True)
    np.testing.assert_array_equal(stacked(clips.frames(1)), content[1])
    assert clips.clip_name(0) == "clip 4 of some"


def test_mapped_arrays_stay_on_the_disk(tmp_path):
    np.save(tmp_path / "clips.npy", random_clips())
    mapped = np.load(tmp_path / "clips.npy", mmap_mode="r")
    clips = ArrayClips(mapped)
    assert clips.subset([1, 3]).clips is mapped
    assert clips.checksum() == ArrayClips(random_clips()).checksum()
    assert clips.subset([1, 3]).checksum() == ArrayClips(random_clips()[[1, 3]]).checksum()
    assert clips.checksum() != ArrayClips(random_clips(seed=1)).checksum()


@pytest.mark.parametrize(
    "clips",
    [np.zeros((2, 3, 8, 8), np.uint8), np.zeros((2, 3, 8, 8, 3)), np.zeros((2, 0, 8, 8, 3), np.uint8)],
    ids=["images", "floats", "no frames"],
)
def test_other_arrays_are_refused(clips):
    with pytest.raises(BadInput, match=r"clips must be an array \(n, frames, H, W, 3\) of uint8; got"):
        ArrayClips(clips)


def test_frames_are_ordered_by_number(folder_clips):
    clips, frames = folder_clips
    assert (len(clips), clips.image_shape) == (3, (3, 8, 8))
    for number, clip in enumerate(frames):  # 10.png and 11.png after 9.png
        np.testing.assert_array_equal(stacked(clips.frames(number)), clip)
    assert clips.clip_name(2).endswith("cat/clip2")


def test_numbers_count_wherever_they_stand_in_a_name(tmp_path):
    content = random_clips(1, 12)[0]
    write_frames(tmp_path / "cat" / "clip", content, "frame_{}_of.png")
    (tmp_path / "cat" / "clip" / ".hidden.png").touch()
    (tmp_path / "cat" / "clip" / "readme.txt").touch()
    clips = FolderClips(tmp_path, clip_names(tmp_path, "cat"), [0], side=8)
    np.testing.assert_array_equal(stacked(clips.frames(0)), content)


def test_the_checksum_is_that_of_names_sizes_and_labels(folder_clips, tmp_path):
    clips, _ = folder_clips
    before = clips.checksum()
    assert clips.subset(slice(None)).checksum() == before
    assert clips.subset([0, 1]).checksum() != before
    frame = tmp_path / "cat" / "clip0" / "3.png"
    frame.write_bytes(frame.read_bytes() + b"\0")
    assert clips.subset(slice(None)).checksum() != before


def test_an_unreadable_frame_is_named(folder_clips, tmp_path):
    (tmp_path / "cat" / "clip0" / "3.png").write_bytes(b"nothing")
    frames = folder_clips[0].frames(0)
    for _ in range(3):
        next(frames)
    with pytest.raises(BadInput, match=r"clip0/3\.png can't be read as an image"):
        next(frames)


def test_clips_are_not_images():
    with pytest.raises(BadInput, match=r'some holds clips, not single images.*eval_mode="perturbations"'):
        ArrayClips(random_clips(), name="some").batch([0])


@pytest.mark.parametrize("workers", [0, 3])
def test_several_clips_step_by_step(folder_clips, workers):
    clips, frames = folder_clips
    steps = list(frames_in_step(clips, [2, 0, 1], workers))
    assert [rows.tolist() for rows, _ in steps] == [[0, 1, 2], [0, 1], [0, 1], *[[1]] * 9]
    for step, (rows, shown) in enumerate(steps):
        for row, frame in zip(rows, shown, strict=True):
            np.testing.assert_array_equal(np.asarray(frame), frames[[2, 0, 1][row]][step])


class Counted(ArrayClips):
    """Counts the frames that were made, and the clips that were closed."""

    made = closed = 0

    def frames(self, i):
        try:
            for frame in super().frames(i):
                self.made += 1
                yield frame
        finally:
            self.closed += 1


@pytest.mark.parametrize("workers", [0, 2])
def test_frames_are_made_when_they_are_needed_and_clips_are_closed(workers):
    clips = Counted(random_clips(3, 50))
    steps = frames_in_step(clips, [0, 1, 2], workers)
    next(steps)
    next(steps)
    assert clips.made == 6
    steps.close()
    assert (clips.made, clips.closed) == (6, 3)


def test_videos_and_folders_in_one_class(make_video, tmp_path):
    content = np.random.default_rng(0).integers(0, 256, (2, 5, 16, 16, 3), dtype=np.uint8)
    write_frames(tmp_path / "cat" / "a", content[0])
    make_video(tmp_path / "cat" / "b.mkv", content[1])
    (tmp_path / "cat" / "notes.txt").touch()
    clips = FolderClips(tmp_path, clip_names(tmp_path, "cat"), [0, 0], side=16)
    assert len(clips) == 2
    for number in range(2):
        np.testing.assert_array_equal(stacked(clips.frames(number)), content[number])
    assert clips.checksum() == clips.subset([0, 1]).checksum()
