"""Batches shared among devices: every image counts once, and the numbers are those of one device."""

import threading

import numpy as np
import pytest
import torch

from sepconc.data.clips import ArrayClips
from sepconc.data.images import ArrayImages
from sepconc.errors import BadInput
from sepconc.evaluation import plan_measurement, run_measurement

S, K = 12, 6
CPU = torch.device("cpu")


class Linear:
    """A classifier that is one matrix on pixels; each copy remembers its threads and its batches."""

    image_shape_, eval_resize_ = (3, S, S), None

    def __init__(self):
        generator = torch.Generator().manual_seed(1)
        self.matrix = 0.3 * torch.randn(3 * S * S, K, generator=generator)
        self.copies, self.busy = [], []

    def label_indices(self, labels):
        return np.asarray(labels)

    def log_proba_function(self, normalize=True, device=None):
        matrix, seen, lock = self.matrix.to(device).clone(), [], threading.Lock()
        self.copies.append((device, seen))

        def log_proba(images):
            assert lock.acquire(blocking=False), "a copy is used by two threads at a time"
            try:
                assert not torch.is_grad_enabled()
                seen.append(len(images))
                x = images.to(device).float() / 255 - 0.5
                return (4 * x.flatten(1) @ matrix).log_softmax(1).cpu()
            finally:
                lock.release()

        return log_proba


def images_of(count=23):
    rng = np.random.default_rng(0)
    return ArrayImages(rng.integers(0, 256, (count, 3, 16, 16), dtype=np.uint8), rng.integers(0, K, count))


def clips_of(count=23):
    rng = np.random.default_rng(0)
    return ArrayClips(rng.integers(0, 256, (count, 7, 16, 16, 3), dtype=np.uint8), rng.integers(0, K, count))


def measure(images, devices, batch_size=4, progress=None, classifier=None, **options):
    classifier = classifier or Linear()
    plan = plan_measurement(classifier, images, **options)
    result = run_measurement(
        plan, classifier, images, batch_size=batch_size, devices=devices, progress=progress, workers=2
    )
    return {metric: score() for metric, score in result.scores.items()}, classifier


MODES = [
    (images_of, {"eval_mode": "onecrop"}),
    (images_of, {"eval_mode": "tencrops", "metrics": ["top1_5", "average_precision"]}),
    (images_of, {"eval_mode": "shifts", "metrics": ["mfr", "kldiv", "top1_5"], "max_shift": 3}),
    (clips_of, {"eval_mode": "perturbations", "metrics": ["mfr", "kldiv", "top1_5", "average_precision"]}),
]


@pytest.mark.parametrize(("make", "options"), MODES, ids=[options["eval_mode"] for _, options in MODES])
@pytest.mark.parametrize("batch_size", [1, 4, 9, 23, 100])
def test_three_copies_give_the_numbers_of_one(make, options, batch_size):
    alone, _ = measure(make(), None, batch_size, **options)
    shared, classifier = measure(make(), [CPU] * 3, batch_size, **options)
    assert shared == alone  # also the divergences, to the last bit: they are added in the order of the batches
    assert len(classifier.copies) == 3
    views = {"onecrop": 1, "tencrops": 10, "shifts": 4, "perturbations": 7}[options["eval_mode"]]
    assert sum(sum(seen) for _, seen in classifier.copies) == 23 * views  # the ragged end once


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 7, 12])
def test_numbers_of_images_that_the_devices_do_not_divide(count):
    alone, _ = measure(images_of(count), None, 2)
    shared, classifier = measure(images_of(count), [CPU] * 3, 2)
    assert shared == alone
    assert sum(sum(seen) for _, seen in classifier.copies) == count


def test_the_devices_work_at_the_same_time():
    """Each of two copies waits for the other one; by turns they would never get on."""
    meeting = threading.Barrier(2, timeout=60)

    class Meeting(Linear):
        def log_proba_function(self, normalize=True, device=None):
            inner = super().log_proba_function(normalize, device)

            def log_proba(images):
                meeting.wait()
                return inner(images)

            return log_proba

    _, classifier = measure(images_of(16), [CPU] * 2, 4, classifier=Meeting())
    assert [sum(seen) for _, seen in classifier.copies] == [8, 8]


def test_one_device_of_a_list_computes_there():
    alone, _ = measure(images_of(), None)
    shared, classifier = measure(images_of(), [CPU])
    assert shared == alone
    assert [device for device, _ in classifier.copies] == [CPU]


def test_progress_comes_in_the_order_of_the_images():
    seen = []
    measure(images_of(), [CPU] * 3, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(4, 23), (8, 23), (12, 23), (16, 23), (20, 23), (23, 23)]


def test_an_interruption_ends_the_other_threads():
    before = threading.active_count()

    def interrupt(done, total):
        raise KeyboardInterrupt

    classifier = Linear()
    with pytest.raises(KeyboardInterrupt):
        measure(images_of(4000), [CPU] * 3, batch_size=1, progress=interrupt, classifier=classifier)
    assert threading.active_count() == before
    assert sum(sum(seen) for _, seen in classifier.copies) < 4000


def test_an_error_in_a_thread_is_raised_as_it_is():
    pixels = np.zeros((23, 3, S, S), dtype=np.float32)
    pixels[17] = np.nan
    with pytest.raises(BadInput, match="image 17 has NaN"):
        measure(ArrayImages(pixels, np.zeros(23, int)), [CPU] * 3)


def test_a_set_of_images_has_one_reader_at_a_time():
    class Single(ArrayImages):
        lock = threading.Lock()

        def batch(self, indices):
            assert self.lock.acquire(blocking=False), "two readers"
            try:
                return super().batch(indices)
            finally:
                self.lock.release()

    images = images_of(60)
    single = Single(images.images, images.labels)
    assert measure(single, [CPU] * 3, 1)[0] == measure(images, None, 1)[0]


@pytest.mark.gpu
def test_a_graphics_card_and_the_processor():
    devices = [torch.device("cuda"), CPU, torch.device("cuda")]
    for make, options in MODES:
        alone, _ = measure(make(), None, **options)
        shared, classifier = measure(make(), devices, **options)
        assert [device for device, _ in classifier.copies] == devices
        divergences = (each.pop("kldiv", []) for each in (shared, alone))
        np.testing.assert_allclose(*divergences, rtol=1e-4, atol=1e-5)
        assert shared == alone
