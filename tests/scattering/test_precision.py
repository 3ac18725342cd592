"""Matrix products in full precision, and the transforms that have some."""

import os
import threading

import pytest
import torch
from transform_checks import error, noise, value_and_gradient

from sepconc.scattering import HarmonicScattering3D, PhaseScattering2D, Scattering1D, Scattering2D
from sepconc.scattering.engines.precision import full_precision

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
PRODUCTS = {CPU: torch.backends.mkldnn.matmul, CUDA: torch.backends.cuda.matmul}


@pytest.fixture(autouse=True)
def settings():
    """As they were, afterwards."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    yield
    torch.set_float32_matmul_precision(before)


@pytest.mark.parametrize("device", [CPU, CUDA])
def test_other_precisions_dont_matter_inside(device):
    before = PRODUCTS[device].fp32_precision
    with full_precision(device), full_precision(device):
        assert PRODUCTS[device].fp32_precision == "ieee"
        assert not torch.is_autocast_enabled(device.type)
    assert PRODUCTS[device].fp32_precision == before != "ieee"


def test_the_last_thread_puts_it_back():
    before, entered, leave = PRODUCTS[CPU].fp32_precision, threading.Event(), threading.Event()

    def stay():
        with full_precision(CPU):
            entered.set()
            leave.wait(10)

    with full_precision(CPU):
        thread = threading.Thread(target=stay)
        thread.start()
        entered.wait(10)
    assert PRODUCTS[CPU].fp32_precision == "ieee"
    leave.set()
    thread.join()
    assert PRODUCTS[CPU].fp32_precision == before


def test_settings_that_are_exact_are_not_touched():
    before, PRODUCTS[CPU].fp32_precision = torch.backends.fp32_precision, "none"
    with full_precision(CPU):
        torch.backends.fp32_precision = "tf32"  # somebody else, meanwhile
    assert PRODUCTS[CPU].fp32_precision == "tf32"
    torch.backends.fp32_precision = before


def test_what_follows_the_general_setting_goes_on_following_it():
    before, PRODUCTS[CPU].fp32_precision = torch.backends.fp32_precision, "none"
    torch.backends.fp32_precision = "tf32"
    try:
        with full_precision(CPU):
            assert PRODUCTS[CPU].fp32_precision == "ieee"
        torch.backends.fp32_precision = "ieee"
        assert PRODUCTS[CPU].fp32_precision == "ieee"
    finally:
        torch.backends.fp32_precision = before


def test_a_change_made_meanwhile_stays():
    with full_precision(CPU):
        PRODUCTS[CPU].fp32_precision = "tf32"
    assert PRODUCTS[CPU].fp32_precision == "tf32"


def test_a_process_forked_meanwhile_is_as_before():
    before = PRODUCTS[CPU].fp32_precision
    with full_precision(CPU):
        child = os.fork()
        if not child:
            same = PRODUCTS[CPU].fp32_precision == before
            with full_precision(CPU):
                same &= PRODUCTS[CPU].fp32_precision == "ieee"
            os._exit(0 if same and PRODUCTS[CPU].fp32_precision == before else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_after_an_error():
    before = PRODUCTS[CPU].fp32_precision
    with pytest.raises(ZeroDivisionError), full_precision(CPU):
        raise ZeroDivisionError
    assert PRODUCTS[CPU].fp32_precision == before


def test_other_devices_go_without():
    with full_precision(torch.device("meta")):
        assert PRODUCTS[CPU].fp32_precision != "ieee"


@pytest.mark.parametrize(
    "transform",
    [
        Scattering1D(6, 1024, 8),
        Scattering2D(2, (20, 20), 4),
        Scattering2D(2, (20, 20), 4, engine="reference"),
        PhaseScattering2D((20, 20), 4),
        PhaseScattering2D((20, 20), 4, engine="reference"),
        HarmonicScattering3D(1, (8, 8, 8), 2),
    ],
    ids=lambda transform: f"{type(transform).__name__}-{transform.engine}",
)
def test_transforms_in_automatic_mixed_precision(transform):
    x = noise(2, *transform.input_shape)
    exact = value_and_gradient(transform, x.double())
    with torch.autocast("cpu", torch.bfloat16):
        found = value_and_gradient(transform, x)
    for value, wanted in zip(found, exact, strict=True):
        assert value.dtype == torch.float32
        assert error(value, wanted) <= 1e-5
