"""Real images for the tests of the data layer: laid out in ~/data, or taken from the folder beside the checkout."""

import os
from pathlib import Path

import numpy as np
import pytest

DATA = Path(os.environ.get("SEPCONC_TEST_DATA", "~/data")).expanduser()


@pytest.fixture(scope="session")
def photographs(request) -> Path:
    """A folder ``val`` with one photograph in each of 100 classes, and no ``train``."""
    if (DATA / "imagenet-mini" / "val").is_dir():
        return DATA / "imagenet-mini"
    return request.getfixturevalue("shared") / "data" / "imagenet-mini"


@pytest.fixture(scope="session")
def photo_files(photographs) -> list[Path]:
    """The 100 photographs, sorted."""
    return sorted((photographs / "val").glob("*/*.JPEG"))


@pytest.fixture
def make_tree(photo_files):
    """Return a function that links ``count`` photographs into each of the given class folders."""

    def make(folder: Path, counts: dict[str, int]) -> Path:
        number = 0
        for name, count in counts.items():
            (folder / name).mkdir(parents=True)
            for k in range(count):
                (folder / name / f"{name}_{k:03d}.JPEG").symlink_to(photo_files[number % len(photo_files)])
                number += 1
        return folder

    return make


@pytest.fixture(scope="session")
def cifar_root(tmp_path_factory) -> Path:
    """A made-up CIFAR-10, binary version: 5 × 1100 training images, 60 test images; image i is filled with i % 251."""
    root = tmp_path_factory.mktemp("cifar")
    folder = root / "cifar-10-batches-bin"
    folder.mkdir()
    number = np.arange(5 * 1100)
    records = np.empty((len(number), 3073), dtype=np.uint8)
    records[:, 0] = number % 10
    records[:, 1:] = (number % 251)[:, None]
    records[:, 1:1025] = 255  # the red plane comes first
    for k in range(5):
        records[1100 * k : 1100 * (k + 1)].tofile(folder / f"data_batch_{k + 1}.bin")
    records[:60].tofile(folder / "test_batch.bin")
    return root


@pytest.fixture(scope="session")
def real_cifar_root() -> Path:
    """The folder of the real CIFAR-10, binary version."""
    if not (DATA / "cifar-10-batches-bin" / "data_batch_1.bin").is_file():
        pytest.skip(f"needs CIFAR-10's binary version in {DATA}")
    return DATA


@pytest.fixture(scope="session")
def make_video():
    """Return a function that writes frames (n, H, W, 3) to a video: lossless as .mkv, as usual as .mp4."""
    av = pytest.importorskip("av", reason='videos need PyAV: pip install "sepconc[video]"')

    def make(path: Path, frames: np.ndarray, options: dict[str, str] | None = None) -> Path:
        codec, pixels = ("ffv1", "bgr0") if path.suffix == ".mkv" else ("mpeg4", "yuv420p")
        with av.open(str(path), "w", options=options or {}) as container:
            stream = container.add_stream(codec, rate=30)
            stream.height, stream.width, stream.pix_fmt = frames.shape[1], frames.shape[2], pixels
            for frame in frames:
                packed = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
                container.mux(stream.encode(packed.reformat(format=pixels)))
            container.mux(stream.encode(None))
        return path

    return make
