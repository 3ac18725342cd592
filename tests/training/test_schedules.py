"""Schedules of the learning rate."""

import copy

import pytest
import torch

from sepconc.training.schedules import Schedule


def optimizer(lr=1.0):
    """Two groups, as the networks have."""
    first, second = (torch.nn.Parameter(torch.zeros(1)) for _ in range(2))
    return torch.optim.SGD([{"params": [first]}, {"params": [second], "weight_decay": 0.0}], lr=lr)


def rates(name, epochs, errors=None, schedule=None):
    """The rate of every epoch."""
    schedule = schedule or Schedule(name, optimizer())
    found = []
    for epoch in range(epochs):
        found.append(schedule.lr)
        schedule.optimizer.step()
        schedule.step(None if errors is None else errors[epoch])
    return found


def test_step():
    assert rates("StepLR3", 8) == pytest.approx([1, 1, 1, 0.1, 0.1, 0.1, 0.01, 0.01])
    assert rates("StepLR30", 31, errors=[0.5] * 31)[-2:] == pytest.approx([1, 0.1])


@pytest.mark.parametrize("name", [None, "none"])
def test_no_schedule(name):
    assert rates(name, 5) == [1.0] * 5
    assert Schedule(name, optimizer()).state_dict() == {}


def test_plateau_follows_the_validation_error():
    improving = [1 / (epoch + 1) for epoch in range(30)]
    assert rates("ReduceLROnPlateau", 30, improving) == [1.0] * 30
    stuck = [0.5] * 30
    found = rates("ReduceLROnPlateau", 30, stuck)
    assert found[:12] == [1.0] * 12  # the first epoch is the best one, 10 more are patience
    assert found[12] == pytest.approx(0.1)
    assert found[-1] == pytest.approx(0.01)


def test_plateau_keeps_the_rate_without_a_validation_error():
    schedule = Schedule("ReduceLROnPlateau", optimizer())
    for _ in range(30):
        schedule.step(None)
    assert schedule.lr == 1.0


def test_every_group_follows():
    schedule = Schedule("StepLR1", optimizer())
    schedule.optimizer.step()
    schedule.step(None)
    assert [group["lr"] for group in schedule.optimizer.param_groups] == pytest.approx([0.1, 0.1])
    assert [group["weight_decay"] for group in schedule.optimizer.param_groups] == [0, 0.0]


@pytest.mark.parametrize("epochs", [0, 1, 2, 3, 4, 7])
def test_skipped_epochs_are_epochs_done(epochs):
    schedule = Schedule("StepLR3", optimizer())
    schedule.skip(epochs)
    assert rates(None, 10 - epochs, schedule=schedule) == pytest.approx(rates("StepLR3", 10)[epochs:])


@pytest.mark.parametrize(("name", "errors"), [("StepLR3", None), ("ReduceLROnPlateau", [0.5] * 30)])
def test_restored_it_goes_on(name, errors):
    schedule = Schedule(name, optimizer())
    rates(name, 11, errors, schedule)
    state = copy.deepcopy((schedule.state_dict(), schedule.optimizer.state_dict()))
    expected = rates(name, 10, errors, schedule)
    other = Schedule(name, optimizer())
    other.optimizer.load_state_dict(state[1])
    other.load_state_dict(state[0])
    assert rates(name, 10, errors, other) == expected


@pytest.mark.parametrize("name", ["StepLR3", "ReduceLROnPlateau", None])
def test_the_state_is_read_safely(name, tmp_path):
    schedule = Schedule(name, optimizer())
    rates(name, 2, [0.5, 0.5], schedule)
    torch.save(schedule.state_dict(), tmp_path / "state")
    assert torch.load(tmp_path / "state", weights_only=True) == schedule.state_dict()
