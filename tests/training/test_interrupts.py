"""SIGINT and SIGTERM as requests to stop."""

import signal
import threading

import pytest

from sepconc.training.interrupts import StopSignals


@pytest.fixture(autouse=True)
def _handlers():
    """Whatever happens, the handlers afterwards are those from before."""
    before = {number: signal.getsignal(number) for number in StopSignals.signals}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_is_noted(number):
    with StopSignals() as signals:
        assert signals.received is None
        signal.raise_signal(number)
        assert signals.received == number


@pytest.fixture
def usual_interrupt():
    """Python's own handler: a program started in the background inherits an ignored Ctrl-C."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_the_second_signal_acts_as_usual(usual_interrupt):
    with StopSignals() as signals:
        signal.raise_signal(signal.SIGINT)
        assert signals.received == signal.SIGINT
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_the_handlers_from_before_come_back():
    seen = []
    signal.signal(signal.SIGTERM, lambda number, _: seen.append(number))
    before = [signal.getsignal(number) for number in StopSignals.signals]
    with StopSignals():
        assert signal.getsignal(signal.SIGTERM) is not before[1]
    assert [signal.getsignal(number) for number in StopSignals.signals] == before
    signal.raise_signal(signal.SIGTERM)
    assert seen == [signal.SIGTERM]


def test_the_handlers_come_back_after_an_error():
    before = [signal.getsignal(number) for number in StopSignals.signals]
    with pytest.raises(ValueError, match="inside"), StopSignals():
        raise ValueError("inside")
    assert [signal.getsignal(number) for number in StopSignals.signals] == before


def test_outside_the_main_thread_it_does_nothing():
    before = [signal.getsignal(number) for number in StopSignals.signals]
    found = []

    def work():
        with StopSignals() as signals:
            found.append((signals.received, [signal.getsignal(number) for number in StopSignals.signals]))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [(None, before)]
