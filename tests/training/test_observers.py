"""What a training reports."""

import logging
import math

import pytest

from sepconc.training.observers import EpochEnd, Observer, Observers, Report, TensorBoard, duration

REPORT = Report(2, 30, 100, 235, 1.23456, 0.4321, 1234.5, 75.0)
END = EpochEnd(2, 30, 470, 0.5, 0.9, 0.01, {1: 0.125, 5: 0.01}, 61.0)


class Recorder(Observer):
    def __init__(self):
        self.calls = []

    def report(self, report):
        self.calls.append(report)

    def epoch_ended(self, end):
        self.calls.append(end)

    def close(self):
        self.calls.append("closed")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0.0 s"),
        (9.94, "9.9 s"),
        (12.4, "12 s"),
        (59.4, "59 s"),
        (59.6, "1 min 00 s"),
        (185, "3 min 05 s"),
        (3599.7, "1 h 00 min"),
        (7440, "2 h 04 min"),
        (360000, "100 h 00 min"),
    ],
)
def test_durations(seconds, text):
    assert duration(seconds) == text


def test_lines():
    assert str(REPORT) == ("epoch 2/30  update 100/235  loss 1.2346  accuracy 43.2 %  1234 images/s  1 min 15 s left")
    assert str(END) == ("epoch 2/30  loss 0.5000  accuracy 90.0 %  validation error 12.50 %  lr 0.01  1 min 01 s")
    without = EpochEnd(2, 30, 470, 0.5, 0.9, 0.01, {}, 61.0)
    assert "validation" not in str(without)


def test_the_base_logs_and_prints_nothing(caplog, capsys):
    with caplog.at_level(logging.DEBUG, logger="sepconc"):
        Observer().report(REPORT)
        Observer().epoch_ended(END)
        Observer().close()
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("DEBUG", str(REPORT)),
        ("INFO", str(END)),
    ]
    assert capsys.readouterr() == ("", "")


def test_several_as_one():
    first, second = Recorder(), Recorder()
    both = Observers([first, second])
    both.report(REPORT)
    both.epoch_ended(END)
    both.close()
    assert first.calls == second.calls == [REPORT, END, "closed"]


def test_tensorboard(tmp_path):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    observer = TensorBoard(str(tmp_path))
    observer.report(REPORT)
    observer.epoch_ended(END)
    observer.epoch_ended(EpochEnd(3, 30, 705, 0.25, 0.95, 0.01, {}, 60.0))
    observer.close()
    events = accumulator.EventAccumulator(str(tmp_path)).Reload()
    found = {tag: [(event.step, event.value) for event in events.Scalars(tag)] for tag in events.Tags()["scalars"]}
    assert sorted(found) == ["accuracy", "loss", "lr", "val_error/top1", "val_error/top5"]
    assert found["loss"] == [(470, 0.5), (705, 0.25)]
    assert found["val_error/top1"] == [(470, 0.125)]
    assert math.isclose(found["lr"][0][1], 0.01, rel_tol=1e-6)
