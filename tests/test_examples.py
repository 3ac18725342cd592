"""The scripts of examples/."""

import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


def run(folder, *arguments):
    command = [sys.executable, EXAMPLES / "reconstruction.py", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_reconstruction(tmp_path):
    outcome = run(tmp_path, "--steps", "2")
    assert outcome.returncode == 0, outcome.stderr
    assert "order 2: PSNR" in outcome.stdout
    with Image.open(tmp_path / "build" / "reconstruction.png") as picture:
        assert picture.size == (3 * 512, 384)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [(["a.xyz"], "a.xyz must end in"), (["--steps", "0"], "--steps must be at least 1"), (["--J", "12"], "J of ")],
)
def test_wrong_use(arguments, text, tmp_path):
    outcome = run(tmp_path, *arguments)
    assert outcome.returncode == 2
    assert text in outcome.stderr
    assert "Traceback" not in outcome.stderr
