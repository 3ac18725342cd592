import hashlib
import os
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import Dataset, Subset, TensorDataset

from sepconc.data import views
from sepconc.data.images import ArrayImages, FolderImages
from sepconc.data.torch_dataset import TorchDatasetImages
from sepconc.errors import BadInput, BadParameter


def array(count=10, channels=3, side=8, dtype=np.uint8):
    return np.random.default_rng(0).integers(0, 256, (count, channels, side, side)).astype(dtype)


def cut(order, size):
    return [np.asarray(order)[k : k + size] for k in range(0, len(order), size)]


@pytest.fixture
def folder(photo_files):
    files = [str(path.relative_to(photo_files[0].parents[1])) for path in photo_files[:12]]
    return FolderImages(photo_files[0].parents[1], files, np.arange(12) % 3, side=48, resize=54, name="photos")


# In memory


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
def test_arrays_keep_their_type_and_are_not_copied(dtype):
    images = array(dtype=dtype)
    for given in (images, torch.from_numpy(images)):
        kept = ArrayImages(given, np.arange(10))
        assert np.shares_memory(kept.images, images)
        assert kept.image_shape == (3, 8, 8)
        assert kept.in_memory
        batch = kept.batch(np.array([7, 2, 2]))
        assert np.array_equal(batch.numpy(), images[[7, 2, 2]])
        assert batch.numpy().dtype == dtype
        batch.zero_()  # a batch is memory of its own
        assert images[7].any()


def test_a_read_only_memory_map_is_read_batch_by_batch(tmp_path):
    np.save(tmp_path / "a.npy", array())
    kept = ArrayImages(np.load(tmp_path / "a.npy", mmap_mode="r"))
    assert isinstance(kept.images, np.memmap)
    assert np.array_equal(kept.batch([1, 3]).numpy(), array()[[1, 3]])
    assert np.array_equal(kept.batch(slice(2, 4)).numpy(), array()[2:4])


@pytest.mark.parametrize(
    ("images", "labels", "text"),
    [
        (array()[0], None, r"\(n, C, H, W\)"),
        (array(dtype=np.int64), None, "got .* of int64"),
        (array(), np.arange(9), r"shape \(10,\); got \(9,\)"),
        (array(), np.zeros((10, 2)), r"got \(10, 2\)"),
    ],
)
def test_arrays_that_are_no_images(images, labels, text):
    with pytest.raises(BadInput, match=text):
        ArrayImages(images, labels)


def test_subsets_by_number_mask_and_slice():
    whole = ArrayImages(array(), np.arange(10), classes=list("abcdefghij"), split="train")
    by_number = whole.subset([8, 1])
    assert by_number.labels.tolist() == [8, 1]
    assert np.array_equal(by_number.images, array()[[8, 1]])
    assert (by_number.split, by_number.classes) == ("train", whole.classes)
    assert whole.subset(whole.labels > 6).labels.tolist() == [7, 8, 9]
    assert len(whole.subset([])) == 0
    assert np.shares_memory(whole.subset(slice(2, None)).images, whole.images)  # most of it: a view
    assert not np.shares_memory(whole.subset(slice(2)).images, whole.images)  # little: the rest may be forgotten
    assert len(whole) == 10
    with pytest.raises(BadInput, match="below 10"):
        whole.batch([10])


def test_the_checksum_is_that_of_the_content():
    whole = ArrayImages(array(), np.arange(10))
    assert whole.checksum() == ArrayImages(array(), np.arange(10)).checksum()
    assert len(bytes.fromhex(whole.checksum())) == hashlib.sha256().digest_size
    changed = array()
    changed[9, 2, 7, 7] ^= 1
    others = [
        ArrayImages(changed, np.arange(10)),
        ArrayImages(array(), np.arange(10)[::-1]),
        ArrayImages(array()),
        ArrayImages(array().reshape(10, 3, 4, 16), np.arange(10)),
        ArrayImages(array(dtype=np.float32), np.arange(10)),
        whole.subset(slice(9)),
    ]
    assert len({whole.checksum(), *(other.checksum() for other in others)}) == 7


def test_reading_from_memory_slices():
    whole = ArrayImages(array(), np.arange(10))
    order = np.array([9, 0, 8, 1, 7, 2, 6])
    for workers in (0, 2):
        batches = list(whole.read(cut(order, 3), workers))
        assert [len(batch) for batch in batches] == [3, 3, 1]
        assert np.array_equal(torch.cat(batches).numpy(), array()[order])
    assert list(whole.read([])) == []
    with pytest.raises(BadParameter, match="workers"):
        whole.read(cut(order, 3), -1)


# Files


def test_a_folder_gives_the_evaluation_view(folder):
    assert folder.image_shape == (3, 48, 48)
    assert not folder.in_memory
    batch = folder.batch([5, 0])
    assert batch.dtype == torch.uint8
    assert torch.equal(batch, views.onecrop([folder.raw(5), folder.raw(0)], 48, 54))
    assert torch.equal(folder.with_view(32).batch([5]), views.onecrop([folder.raw(5)], 32))
    assert folder.side == 48


def test_workers_change_nothing(folder):
    order = np.array([11, 3, 4, 0, 7, 1, 2])
    for seed in (None, 5):
        alone = list(folder.read(cut(order, 3), 0, seed))
        together = list(folder.read(cut(order, 3), 2, seed))
        assert [len(batch) for batch in together] == [3, 3, 1]
        assert all(torch.equal(a, b) for a, b in zip(alone, together, strict=True))
    assert torch.equal(folder.augmented_batch(order, 5), torch.cat(alone))
    assert torch.equal(folder.augmented_batch(order, 5, workers=2), torch.cat(alone))


def test_reading_may_be_left_half_way(folder):
    batches = folder.read(cut(np.arange(12), 2), 2)
    assert len(next(batches)) == 2
    batches.close()


def test_the_global_generators_are_left_alone(folder):
    before = torch.random.get_rng_state()
    list(folder.read(cut(np.arange(4), 2), 2, 1))
    assert torch.equal(before, torch.random.get_rng_state())


def test_a_training_view_depends_on_seed_and_index_only(folder):
    views_ = folder.augmented_batch([4, 9], 5)
    assert views_.shape == (2, 3, 48, 48)
    assert torch.equal(folder.augmented_batch([9, 4, 0], 5)[:2], views_.flip(0))
    assert not torch.equal(folder.augmented_batch([4, 9], 6), views_)
    assert torch.equal(folder.augmented_batch([-3], 5)[0], views_[1])
    same = FolderImages(folder.root, [folder._files[0]] * 12, None, side=48)
    assert len({view.numpy().tobytes() for view in same.augmented_batch(np.arange(12), 5)}) == 12


@pytest.mark.parametrize("workers", [0, 2])
def test_a_truncated_file_is_named(tmp_path, photo_files, workers):
    shutil.copy(photo_files[0], tmp_path / "good.JPEG")
    (tmp_path / "cut.JPEG").write_bytes(photo_files[1].read_bytes()[:3000])
    images = FolderImages(tmp_path, ["good.JPEG", "cut.JPEG"], [0, 1], side=32)
    with pytest.raises(BadInput, match=r"cut\.JPEG can't be read as an image") as caught:
        list(images.read(cut([0, 1], 1), workers))
    assert "\n" not in str(caught.value)


def test_a_grey_file_among_coloured_ones(tmp_path):
    Image.new("L", (40, 30), 77).save(tmp_path / "grey.png")
    Image.new("RGB", (30, 40), (1, 2, 3)).save(tmp_path / "colour.png")
    batch = FolderImages(tmp_path, ["grey.png", "colour.png"], [0, 1], side=16).batch([0, 1])
    assert batch[0].unique().tolist() == [77]
    assert [band.unique().tolist() for band in batch[1]] == [[1], [2], [3]]


def test_the_checksum_of_a_folder(folder, tmp_path):
    moved = tmp_path / "elsewhere"
    for i in range(12):
        target = moved / folder.path(i).relative_to(folder.root)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(folder.path(i).read_bytes())
    same = FolderImages(moved, folder._files, folder.labels, side=48, resize=54)
    assert same.checksum() == folder.checksum()
    with open(same.path(3), "ab") as file:
        file.write(b"\0")
    others = [
        FolderImages(moved, folder._files, folder.labels, side=48, resize=54),
        folder.with_view(32, 36),
        folder.subset(slice(11)),
        FolderImages(folder.root, folder._files, folder.labels[::-1], side=48, resize=54),
    ]
    assert len({folder.checksum(), *(other.checksum() for other in others)}) == 5


def test_names_that_are_not_ascii(tmp_path):
    name = "Vögel/größe 1.png"
    (tmp_path / "Vögel").mkdir()
    Image.new("RGB", (9, 9)).save(tmp_path / name)
    images = FolderImages(tmp_path, [name], [0], side=8)
    assert images.path(0) == tmp_path / name
    assert images.batch([0]).shape == (1, 3, 8, 8)


def test_a_view_larger_than_its_resize(folder):
    with pytest.raises(BadParameter, match=r"at most resize \(32\); got 48"):
        folder.with_view(48, 32)


# torch data sets


class Items(Dataset):
    """A list as a map-style data set."""

    def __init__(self, items):
        self.items = items

    def __len__(self):
        return len(self.items)

    def __getitem__(self, i):
        return self.items[i]


@pytest.mark.parametrize("form", [torch.from_numpy, np.asarray, lambda x: Image.fromarray(x[0])])
def test_items_of_each_form(form):
    images = TorchDatasetImages(Items([(form(x), 10 + k) for k, x in enumerate(array(5, 1))]))
    assert images.image_shape == (1, 8, 8)
    assert images.labels.tolist() == [10, 11, 12, 13, 14]
    assert np.array_equal(images.batch([3, 1]).numpy(), array(5, 1)[[3, 1]])
    assert images.subset([4, 2]).batch([1]).numpy().tobytes() == array(5, 1)[2].tobytes()
    assert images.subset([4, 2]).labels.tolist() == [14, 12]
    for workers in (0, 2):
        batches = list(images.read(cut([4, 0, 2], 2), workers))
        assert np.array_equal(torch.cat(batches).numpy(), array(5, 1)[[4, 0, 2]])


def test_planes_colour_images_and_labels_of_any_kind():
    planes = TorchDatasetImages(Items([(torch.zeros(6, 7), torch.tensor(2)), (torch.ones(6, 7), torch.tensor(0))]))
    assert planes.image_shape == (1, 6, 7)
    assert planes.labels.tolist() == [2, 0]
    colour = TorchDatasetImages(Items([(Image.new("RGBA", (7, 6), (1, 2, 3, 255)), "cat")]))
    assert colour.batch([0])[0, :, 0, 0].tolist() == [1, 2, 3]
    assert colour.labels.tolist() == ["cat"]
    unlabelled = TorchDatasetImages(TensorDataset(torch.zeros(3, 1, 4, 4)))
    assert unlabelled.labels is None
    assert unlabelled.subset([1]).batch([0]).shape == (1, 1, 4, 4)


class Targets(Items):
    targets = (5, 6, 7)
    target_transform = None

    def __getitem__(self, i):
        if i > 0:
            pytest.fail("the images needn't be read for their labels")
        return self.items[i]


def test_targets_are_used_where_the_items_hold_them():
    items = [(torch.zeros(1, 4, 4), 5 + k) for k in range(3)]
    assert TorchDatasetImages(Targets(items)).labels.tolist() == [5, 6, 7]
    assert TorchDatasetImages(Subset(Targets(items), [0, 2])).labels.tolist() == [5, 7]
    changed = Items([(torch.zeros(1, 4, 4), 2 * k) for k in range(3)])
    changed.targets = [5, 6, 7]
    assert TorchDatasetImages(changed).labels.tolist() == [0, 2, 4]


@pytest.mark.parametrize(
    ("items", "text"),
    [
        ([], "at least one image"),
        ([(np.zeros((8, 8, 3), dtype=np.uint8), 0)], r"channels last.*transpose\(2, 0, 1\)"),
        ([(np.zeros((1, 8, 8), dtype=np.int64), 0)], "got .* of int64"),
        ([("a.png", 0)], "got str"),
        ([(torch.zeros(1, 4, 4), 0), torch.zeros(1, 4, 4)], "item 1 has none"),
    ],
)
def test_items_that_are_no_images(items, text):
    with pytest.raises(BadInput, match=text):
        TorchDatasetImages(Items(items))


def test_items_of_differing_shapes_are_named():
    images = TorchDatasetImages(Items([(torch.zeros(1, 4, 4), 0), (torch.zeros(1, 4, 5), 1)]))
    with pytest.raises(BadInput, match=r"item 1 .*\(1, 4, 4\).*got \(1, 4, 5\)"):
        images.batch([0, 1])


def test_a_stream_is_refused():
    with pytest.raises(BadInput, match="Collect its images in an array"):
        TorchDatasetImages(iter([]))


def test_more_workers_than_processors_are_not_started(folder, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0})
    assert len(list(folder.read(cut(np.arange(4), 1), 64))) == 4  # torch would warn, and warnings are errors


# What tells sets apart


def test_the_time_of_a_file_is_its_freshness_not_its_identity(tmp_path):
    for k in range(3):
        Image.fromarray(array(side=3 + k)[0].transpose(1, 2, 0)).save(tmp_path / f"{k}.png")
    images = FolderImages(tmp_path, ["0.png", "1.png", "2.png"], [0, 1, 0], side=3)
    before = images.freshness(), images.identity(), images.with_view().checksum()
    assert images.freshness() == before[0]
    os.utime(tmp_path / "1.png", ns=(1, 1))
    assert images.freshness() != before[0]
    assert (images.identity(), images.with_view().checksum()) == before[1:]
    assert images.subset([0, 2]).freshness() != images.freshness()


def test_the_content_of_files_follows_their_bytes_not_their_time(tmp_path):
    for k in range(3):
        Image.fromarray(array(side=3 + k)[0].transpose(1, 2, 0)).save(tmp_path / f"{k}.png")
    images = FolderImages(tmp_path, ["0.png", "1.png", "2.png"], [0, 1, 0], side=3)
    before = images.content()
    os.utime(tmp_path / "1.png", ns=(1, 1))
    assert images.content() == before
    data = bytearray((tmp_path / "1.png").read_bytes())
    data[-1] ^= 1
    (tmp_path / "1.png").write_bytes(data)
    assert images.content() != before
    assert images.with_view(4).content() != images.content()


def test_images_in_memory_need_no_freshness():
    assert ArrayImages(array()).content() == ArrayImages(array()).checksum()
    assert ArrayImages(array()).freshness() == ""


class Restless(Dataset):
    """Items that are never the same."""

    def __init__(self, labels):
        self.labels, self.generator = labels, np.random.default_rng()

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, k):
        return torch.from_numpy(self.generator.random((1, 4, 4), dtype=np.float32)), self.labels[k]


def test_items_that_never_repeat_have_one_identity():
    one, again, other = (TorchDatasetImages(Restless(labels)) for labels in ([0, 1, 2], [0, 1, 2], [0, 2, 1]))
    assert one.identity() == again.identity() != other.identity()
    assert one.checksum() != again.checksum()


def test_a_subset_says_that_it_is_a_part():
    images = ArrayImages(array(), np.arange(10))
    assert not images.is_part
    assert not images.subset(slice(None)).is_part
    part = images.subset(slice(9))
    assert part.is_part
    assert part.subset(slice(None)).is_part
