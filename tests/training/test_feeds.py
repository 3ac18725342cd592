"""From images to batches."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sepconc.data.images import ArrayImages
from sepconc.training.feeds import FeatureFeed, ImageFeed, Normalisation, split
from sepconc.training.randomness import RandomStreams

CPU = torch.device("cpu")


class Recorded:
    """Images that write down how they were read; they may choose random views themselves, as files do."""

    def __init__(self, images, *, has_random_views=False):
        self.images, self.has_random_views, self.in_memory, self.calls = images, has_random_views, False, []

    def __len__(self):
        return len(self.images)

    def read(self, batches, workers=0, view_seed=None):
        self.calls.append((workers, view_seed))
        for indices in batches:
            yield torch.from_numpy(self.images[indices])


def pixels(n=10, dtype=np.uint8, channels=2, side=6, seed=0):
    values = np.random.default_rng(seed).integers(0, 256, (n, channels, side, side))
    return values.astype(np.uint8) if dtype == np.uint8 else (values / 255).astype(dtype)


def feed(images, normalisation=Normalisation(), **options):  # noqa: B008
    return ImageFeed(images, np.arange(len(images)) % 3, normalisation, device=CPU, **options)


# ---------------------------------------------------------------------- split


@given(n=st.integers(1, 60), size=st.integers(2, 12))
def test_split_keeps_the_order_and_leaves_no_batch_of_one(n, size):
    order = np.arange(n)[::-1]
    batches = split(order, size)
    assert np.array_equal(np.concatenate(batches), order)
    assert all(len(batch) == size for batch in batches[:-1])
    assert len(batches[-1]) <= size + 1
    assert n == 1 or len(batches[-1]) > 1


@pytest.mark.parametrize(
    ("n", "size", "expected"),
    [(7, 3, [3, 4]), (8, 3, [3, 3, 2]), (9, 3, [3, 3, 3]), (1, 3, [1]), (4, 3, [4]), (0, 3, [])],
)
def test_sizes(n, size, expected):
    assert [len(batch) for batch in split(np.arange(n), size)] == expected


# ---------------------------------------------------------------------- normalisation


def test_bytes_are_divided_by_255_and_floats_are_taken_as_they_are():
    as_bytes, as_floats = torch.from_numpy(pixels()), torch.from_numpy(pixels(dtype=np.float64))
    plain = Normalisation()
    torch.testing.assert_close(plain(as_bytes, torch.float64), as_floats, rtol=0, atol=1e-15)
    assert torch.equal(plain(300 * as_floats, torch.float64), 300 * as_floats)
    assert plain(as_bytes, torch.float32).dtype == torch.float32
    assert torch.equal(as_bytes, torch.from_numpy(pixels()))  # the images themselves stay


@pytest.mark.parametrize(("mean", "std"), [((0.1, 0.6), (0.5, 0.25)), ((0.3,), (2.0,))])
def test_normalisation_per_channel(mean, std):
    x = torch.from_numpy(pixels(dtype=np.float64))
    expected = (x - torch.tensor(mean).double().view(-1, 1, 1)) / torch.tensor(std).double().view(-1, 1, 1)
    torch.testing.assert_close(Normalisation(mean, std)(x, torch.float64), expected, rtol=1e-6, atol=1e-7)


# ---------------------------------------------------------------------- images


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
def test_batches_in_the_order_that_is_asked(dtype):
    images = ArrayImages(pixels(dtype=dtype))
    batches = [np.array([3, 1]), np.array([9, 0, 3])]
    found = list(feed(images).batches(batches))
    assert [len(y) for _, y in found] == [2, 3]
    for (x, y), indices in zip(found, batches, strict=True):
        assert (x.dtype, y.dtype) == (torch.float32, torch.int64)
        assert torch.equal(y, torch.from_numpy(indices % 3))
        torch.testing.assert_close(x, torch.from_numpy(pixels(dtype=np.float32)[indices]))


def test_augmentation_needs_streams():
    images = ArrayImages(pixels(40))
    one = feed(images, augmentation="flip")
    everything = [np.arange(40)]
    (plain, _), (augmented, _) = (next(one.batches(everything, streams)) for streams in (None, RandomStreams(0, CPU)))
    torch.testing.assert_close(plain, torch.from_numpy(pixels(40, np.float32)))
    flipped = [not torch.equal(a, b) for a, b in zip(plain, augmented, strict=True)]
    assert 8 <= sum(flipped) <= 32
    assert all(torch.equal(a.flip(-1), b) for a, b, turned in zip(plain, augmented, flipped, strict=True) if turned)


def test_augmentation_depends_on_the_streams_alone():
    images = ArrayImages(pixels(40))
    one = feed(images, augmentation="pad-crop-flip")
    batches = [np.arange(20), np.arange(20, 40)]
    first, second = (torch.cat([x for x, _ in one.batches(batches, RandomStreams(0, CPU))]) for _ in range(2))
    assert torch.equal(first, second)
    other = torch.cat([x for x, _ in one.batches(batches, RandomStreams(1, CPU))])
    assert not torch.equal(first, other)


def test_a_batch_is_augmented_when_it_is_asked_and_not_earlier():
    """An interrupted epoch goes on with the random numbers of the next batch."""
    images = ArrayImages(pixels(30))
    one = feed(images, augmentation="pad-crop-flip")
    batches = [np.arange(10), np.arange(10, 20), np.arange(20, 30)]
    whole = [x for x, _ in one.batches(batches, RandomStreams(0, CPU))]
    streams = RandomStreams(0, CPU)
    start = one.batches(batches, streams)
    assert torch.equal(next(start)[0], whole[0])
    start.close()
    rest = [x for x, _ in one.batches(batches[1:], streams)]
    assert all(torch.equal(a, b) for a, b in zip(rest, whole[1:], strict=True))


def test_sets_with_random_views_choose_them_with_the_epochs_seed():
    streams = RandomStreams(0, CPU)
    images = Recorded(pixels(), has_random_views=True)
    one = feed(images, augmentation="resized-crop-flip", workers=3)
    state = streams.augmentation.get_state()
    for epoch in (1, 2):
        list(one.batches([np.arange(4)], streams, epoch))
    list(one.batches([np.arange(4)]))
    assert images.calls == [(3, streams.epoch_seed(1)), (3, streams.epoch_seed(2)), (3, None)]
    assert torch.equal(streams.augmentation.get_state(), state)


def test_other_augmentations_of_such_sets_are_done_here():
    images = Recorded(pixels(40), has_random_views=True)
    (x, _), *_ = feed(images, augmentation="flip").batches([np.arange(40)], RandomStreams(0, CPU))
    assert images.calls == [(0, None)]
    assert not torch.equal(x, torch.from_numpy(pixels(40, np.float32)))


def test_images_of_another_kind_than_the_labels_count():
    assert len(feed(ArrayImages(pixels(7)))) == 7


# ---------------------------------------------------------------------- features


@pytest.mark.parametrize("mapped", [False, True])
def test_features(mapped, tmp_path):
    values = np.random.default_rng(0).random((9, 4, 2, 2), dtype=np.float32)
    features = torch.from_numpy(values)
    if mapped:
        np.save(tmp_path / "features.npy", values)
        features = np.load(tmp_path / "features.npy", mmap_mode="r")
    one = FeatureFeed(features, np.arange(9) % 2, device=CPU)
    assert len(one) == 9
    assert one.from_front_end
    (x, y), (last, _) = one.batches([np.array([8, 0, 3]), np.array([1, 1])], RandomStreams(0, CPU), 1)
    assert torch.equal(x, torch.from_numpy(values[[8, 0, 3]]))
    assert torch.equal(y, torch.tensor([0, 0, 1]))
    x += 1  # a batch is a copy
    assert torch.equal(last, torch.from_numpy(values[[1, 1]]))
    assert np.array_equal(np.asarray(features), values)
