"""The training loop: updates, interruptions, divergence, validation."""

import io
import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from sepconc.data.images import ArrayImages
from sepconc.errors import TrainingDiverged
from sepconc.training.feeds import FeatureFeed, ImageFeed, Normalisation
from sepconc.training.loop import Trainer, validation_errors
from sepconc.training.observers import Observer
from sepconc.training.randomness import RandomStreams
from sepconc.training.schedules import Schedule

CPU = torch.device("cpu")
NORMALISATION = Normalisation((0.5,), (0.25,))


class Net(nn.Module):
    """A small network with everything that can go wrong when it is resumed: batch norm and dropout."""

    def __init__(self, classes=3):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(1, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.3))
        self.linear = nn.Linear(4 * 6 * 6, classes)
        generator = torch.Generator().manual_seed(0)
        for parameter in self.parameters():
            if parameter.ndim > 1:
                nn.init.normal_(parameter, std=0.1, generator=generator)
            else:
                nn.init.zeros_(parameter)
        nn.init.ones_(self.body[1].weight)

    def forward(self, x, *, from_front_end=False):
        return self.linear(self.body(x if not from_front_end else 2 * x).flatten(1))


class Without(Net):
    """The same, without randomness."""

    def __init__(self, classes=3):
        super().__init__(classes)
        self.body[3] = nn.Identity()


class Recorder(Observer):
    def __init__(self):
        self.reports = []

    def report(self, report):
        self.reports.append(report)


def data(n=30, classes=3):
    generator = np.random.default_rng(0)
    labels = np.arange(n) % classes
    images = generator.integers(0, 100, (n, 1, 8, 8)) + 50 * labels[:, None, None, None]
    return images.astype(np.uint8), labels


def feed(n=30, augmentation="pad-crop-flip", classes=3):
    images, labels = data(n, classes)
    return ImageFeed(ArrayImages(images), labels, NORMALISATION, device=CPU, augmentation=augmentation)


def trainer(net=None, *, lr=0.05, scheduler="StepLR2", seed=0, batch_size=8, **options):
    net = net or Net()
    optimizer = torch.optim.SGD(net.parameters(), lr=lr, momentum=0.9)
    schedule = Schedule(scheduler, optimizer)
    return Trainer(net, optimizer, schedule, RandomStreams(seed, CPU), CPU, batch_size, **options)


def run(one, images=None, *, observer=None, print_freq=100, epochs=4, **options):
    return one.run_epoch(
        images or feed(), epochs=epochs, observer=observer or Recorder(), print_freq=print_freq, **options
    )


def equal(first, second):
    """Bit for bit, through nested dictionaries and lists."""
    if isinstance(first, torch.Tensor):
        return torch.equal(first, second)
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(equal(value, second[key]) for key, value in first.items())
    if isinstance(first, (list, tuple)):
        return len(first) == len(second) and all(equal(a, b) for a, b in zip(first, second, strict=True))
    return first == second


def stored(one):
    """The state as a checkpoint gives it back."""
    buffer = io.BytesIO()
    torch.save(one.state_dict(), buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=True)


# ---------------------------------------------------------------------- an epoch


def test_an_epoch_by_hand():
    """The same numbers as a plain loop over the same order of images."""
    one, images = trainer(Without()), feed(augmentation=None)
    net, (x, y) = Without().train(), next(images.batches([np.arange(30)]))
    order = torch.randperm(30, generator=RandomStreams(0, CPU).order)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9)
    losses, hits = [], 0
    for rows in order.split(8):
        optimizer.zero_grad()
        logits = net(x[rows])
        loss = cross_entropy(logits, y[rows])
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        hits += int((logits.argmax(1) == y[rows]).sum())
    result = run(one, images)
    np.testing.assert_array_equal(result.losses, np.float32(losses))
    assert result.accuracy == pytest.approx(hits / 30)
    assert result.complete
    assert equal(one.net.state_dict(), net.state_dict())
    assert (one.epoch, one.step) == (1, 0)


def test_every_epoch_has_an_order_of_its_own():
    one = trainer()
    seen = []
    for _ in range(3):
        seen.append(np.concatenate(one._batches(30)))
        one.order_state = None
    assert all(sorted(order) == list(range(30)) for order in seen)
    assert not np.array_equal(seen[0], seen[1])
    assert not np.array_equal(seen[1], seen[2])


def test_after_step_is_called_after_every_update():
    calls = []
    one = trainer(after_step=lambda: calls.append(one.net.linear.weight.detach().clone()))
    run(one)
    assert len(calls) == 4
    assert torch.equal(calls[-1], one.net.linear.weight)
    assert not torch.equal(calls[0], calls[1])


def test_the_loss_falls():
    one = trainer(scheduler=None)
    means = [run(one).losses.mean() for _ in range(4)]
    assert means[-1] < 0.8 * means[0]


def test_the_global_generator_changes_nothing_and_is_left_alone():
    one, other = trainer(), trainer()
    run(one)
    torch.rand(5)
    state = torch.get_rng_state()
    run(other)
    assert torch.equal(torch.get_rng_state(), state)
    assert equal(one.state_dict(), other.state_dict())


def test_the_seed_decides():
    one, other = trainer(seed=0), trainer(seed=1)
    run(one)
    run(other)
    assert not torch.equal(one.net.linear.weight, other.net.linear.weight)


def test_features_go_in_behind_the_front_end():
    images, labels = data()
    features = torch.from_numpy(images).float() / 255
    one, other = trainer(Without()), trainer(Without())
    run(one, FeatureFeed(features / 2, labels, device=CPU))
    run(other, ImageFeed(ArrayImages(images), labels, Normalisation(), device=CPU))
    for key, value in one.net.state_dict().items():
        torch.testing.assert_close(value, other.net.state_dict()[key])


# ---------------------------------------------------------------------- interruption


@pytest.mark.parametrize("after", [1, 3, 4, 6])
def test_interrupted_and_restored_is_uninterrupted(after):
    """Bit for bit, with dropout, augmentation, momentum and a schedule, wherever it was stopped."""
    whole, losses = trainer(), []
    for _ in range(3):
        losses.append(run(whole).losses)
        whole.schedule.step(None)
    one, parts, updates = trainer(), [], 0
    while one.epoch < 3:
        result = run(one, max_steps=after - updates if updates < after else None)
        parts.append(result.losses)
        updates += len(result.losses)
        if result.complete:
            one.schedule.step(None)
        if updates == after:
            state, one = stored(one), trainer(seed=9)  # the states replace what the seed gave
            one.load_state_dict(state)
            one.net.eval()
            torch.rand(3)
    assert np.array_equal(np.concatenate(parts), np.concatenate(losses))
    assert equal(one.state_dict(), whole.state_dict())


def test_stop_ends_after_the_update_that_is_under_way():
    one, asked = trainer(), []

    def stop():
        asked.append(one.step)
        return len(asked) == 2

    result = run(one, stop=stop)
    assert asked == [1, 2]
    assert (result.complete, len(result.losses)) == (False, 2)
    assert (one.epoch, one.step) == (0, 2)
    rest = run(one)
    assert (rest.complete, len(rest.losses)) == (True, 2)
    assert (one.epoch, one.step, one.order_state) == (1, 0, None)


def test_a_stop_after_the_last_update_finds_a_complete_epoch():
    result = run(trainer(), stop=lambda: False, max_steps=4)
    assert result.complete
    assert run(trainer(), max_steps=3).complete is False


def test_the_state_holds_tensors_and_plain_values():
    one = trainer()
    run(one, max_steps=2)
    state = stored(one)
    assert sorted(state) == ["generators", "lr_scheduler", "net", "optimizer", "progress"]
    assert state["progress"] == {"epoch": 0, "step": 2}


# ---------------------------------------------------------------------- accumulation


@pytest.mark.parametrize("parts", [2, 4])
def test_accumulated_gradients_are_those_of_the_batch(parts):
    """Without batch norm, which sees the parts."""

    class Linear(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(64, 3)
            nn.init.normal_(self.linear.weight, generator=torch.Generator().manual_seed(0))
            nn.init.zeros_(self.linear.bias)

        def forward(self, x):
            return self.linear(x.flatten(1))

    images = feed(24, augmentation=None)
    one, other = trainer(Linear()), trainer(Linear(), batch_accum=parts)
    first, second = run(one, images), run(other, images)
    np.testing.assert_allclose(first.losses, second.losses, rtol=1e-5)
    assert first.accuracy == second.accuracy
    torch.testing.assert_close(one.net.linear.weight, other.net.linear.weight)


class Sizes(Without):
    """Writes down the sizes of what it sees."""

    def __init__(self):
        super().__init__()
        self.sizes = []

    def forward(self, x):
        self.sizes.append(len(x))
        return super().forward(x)


@pytest.mark.parametrize(
    ("n", "batch_size", "parts", "sizes"),
    [
        (16, 8, 2, [4, 4, 4, 4]),
        (23, 8, 4, [2, 2, 2, 2] * 2 + [2, 2, 3]),  # 7 images are four parts of two, but for one image
        (21, 8, 4, [2, 2, 2, 2] * 2),  # an incomplete last group is left out
        (17, 8, 4, [2, 2, 2, 2, 2, 2, 2, 3]),  # one image more joins the last batch
        (10, 5, 4, [2, 3, 2, 3]),
        (4, 2, 2, [2, 2]),
        (5, 8, 4, [2, 3]),  # the only batch is never left out
        (21, 8, 1, [8, 8, 5]),
    ],
)
def test_sizes_of_the_parts(n, batch_size, parts, sizes):
    """Every batch is seen whole, in parts of two images at least."""
    one = trainer(Sizes(), batch_size=batch_size, batch_accum=parts)
    run(one, feed(n))
    assert sorted(one.net.sizes) == sorted(sizes)


def test_unequal_parts_weigh_as_many_images_as_they_have():
    x, y = next(feed(5, augmentation=None).batches([np.arange(5)]))
    one = trainer(Without().eval(), batch_size=8, batch_accum=2)
    loss, hits, _ = one._update(x, y, False, np.arange(5))
    logits = Without().eval()(x)
    assert loss.item() == pytest.approx(cross_entropy(logits, y).item(), rel=1e-5)
    assert hits.item() == (logits.argmax(1) == y).sum().item()


# ---------------------------------------------------------------------- divergence


def poisoned(n=30, row=11):
    images, labels = data(n)
    images = images.astype(np.float32) / 255
    images[row] = np.nan
    return ImageFeed(ArrayImages(images), labels, Normalisation(), device=CPU)


def test_a_nan_loss_stops_before_the_update():
    one = trainer(Without())
    batches = one._batches(30)
    place = next(k for k, batch in enumerate(batches) if 11 in batch)
    expected = trainer(Without())
    if place:
        run(expected, poisoned(), max_steps=place)
    with pytest.raises(TrainingDiverged) as caught:
        run(one, poisoned())
    weights = dict(expected.net.named_parameters())
    assert all(torch.equal(value, weights[name]) for name, value in one.net.named_parameters())
    message = str(caught.value)
    assert message.startswith(f"The loss became nan at epoch 1, update {place + 1} (learning rate 0.05, images ")
    assert "smaller learning rate" in message
    assert all(str(row) in message for row in batches[place][:8])
    assert "\n" not in message


def test_a_nan_in_a_later_part_stops_before_the_update_too():
    one = trainer(Without(), batch_accum=2)
    before = {name: value.detach().clone() for name, value in one.net.named_parameters()}
    x, y = next(feed(8, augmentation=None).batches([np.arange(8)]))
    x[-1] = math.nan
    with pytest.raises(TrainingDiverged):
        one._update(x, y, False, np.arange(8))
    assert all(torch.equal(value, before[name]) for name, value in one.net.named_parameters())


def test_a_learning_rate_that_is_too_large():
    one = trainer(Without(), lr=1e30, scheduler=None)
    with pytest.raises(TrainingDiverged, match="learning rate 1e\\+30"):
        [run(one) for _ in range(20)]


def test_weights_that_no_loss_has_seen_are_looked_at_before_they_are_stored():
    """The last update of an epoch, or the only one, spoils them: its loss was good."""

    def spoil():
        with torch.no_grad():
            one.net.linear.weight[0, 0] = math.nan

    one = trainer(Without(), batch_size=30, after_step=spoil)
    with pytest.raises(TrainingDiverged, match=r"A weight became NaN or infinite at epoch 1, update 1 .*smaller"):
        run(one, feed(augmentation=None))
    assert one.epoch == 0


# ---------------------------------------------------------------------- reports


def test_reports():
    recorder = Recorder()
    one = trainer()
    result = run(one, observer=recorder, print_freq=3, epochs=5)
    assert [(report.epoch, report.epochs, report.step, report.steps) for report in recorder.reports] == [
        (1, 5, 3, 4),
        (1, 5, 4, 4),
    ]
    assert recorder.reports[0].loss == pytest.approx(result.losses[:3].mean())
    assert recorder.reports[1].loss == pytest.approx(result.losses.mean())
    assert recorder.reports[1].accuracy == pytest.approx(result.accuracy)
    assert all(report.images_per_second > 0 for report in recorder.reports)
    left = [report.seconds_left * report.images_per_second for report in recorder.reports]
    assert left == pytest.approx([17 * 7.5, 16 * 7.5])  # updates to come, of 7.5 images on average


# ---------------------------------------------------------------------- validation


class Fixed(nn.Module):
    """Scores that depend on the image's mean alone: class k is the k-th choice of an image of class 0."""

    def __init__(self, classes):
        super().__init__()
        self.scores = nn.Parameter(-torch.arange(classes).float())
        self.modes = []

    def forward(self, x, *, from_front_end=False):
        self.modes.append((self.training, from_front_end, len(x)))
        return self.scores.expand(len(x), -1)


def test_validation_errors():
    images = ArrayImages(np.zeros((10, 1, 2, 2), np.uint8))
    labels = np.array([0, 0, 0, 0, 1, 2, 3, 4, 5, 6])
    net = Fixed(7).train()
    found = validation_errors(net, ImageFeed(images, labels, Normalisation(), device=CPU), batch_size=4)
    assert found == {1: pytest.approx(0.6), 5: pytest.approx(0.2)}
    assert net.modes == [(False, False, 4), (False, False, 4), (False, False, 2)]
    net = Fixed(7)
    assert validation_errors(net, FeatureFeed(torch.zeros(10, 1), labels, device=CPU), batch_size=100) == found
    assert net.modes == [(False, True, 10)]


@pytest.mark.parametrize(("classes", "ranks"), [(2, [1]), (5, [1]), (6, [1, 5])])
def test_top_5_needs_more_than_five_classes(classes, ranks):
    images = ArrayImages(np.zeros((4, 1, 2, 2), np.uint8))
    one = ImageFeed(images, np.zeros(4, int), Normalisation(), device=CPU)
    assert sorted(validation_errors(Fixed(classes), one, batch_size=4)) == ranks


def test_validation_changes_nothing():
    one = trainer()
    run(one)
    before = stored(one)
    validation_errors(one.net, feed(), batch_size=7)
    assert equal(stored(one), before)
    assert all(parameter.grad is None or parameter.grad.isfinite().all() for parameter in one.net.parameters())
